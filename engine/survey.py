"""A book seen as a whole, for those who look: totals over its accounts, and the market as it has it. Nothing here decides."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.book import Accounts, Columns
from engine.breakers import BREAKER_STATES, CLOSED
from engine.effects import AssetReport, ChainReport, HaircutReport, SourceReport
from engine.explanations import haircut_rates
from engine.jit import kernel
from engine.margin import EQUITY, EQUITY_INITIAL, INITIAL, MAINTENANCE, UNHAIRCUT
from engine.market import Market
from engine.market_breakers import breaker_kinds
from engine.marks import COUNTS, NEVER_NS, VERDICTS
from engine.reasons import Cause, State, Unknown
from engine.rows import Life
from engine.tables import CHAIN, CHAINS_MAX, INITIAL_LEVEL, MAINTENANCE_LEVEL, NOTIONAL, SPOT, UNIT_UNKNOWN, RiskTables
from engine.universe import USD
from engine.volatility import NS_PER_SECOND

LEVELS: Final = ("initial", "liquidation_end", "maintenance")
SIDES: Final = ("long", "short")
SIZE_REFERENCE_USD: Final = 1_000_000.0
_UNKNOWN_STATE: Final = int(State.UNKNOWN)


class Totals(NamedTuple):
    """Sums over the accounts of one book, in USD where they are money."""

    accounts: NDArray[np.int64]  # [states, causes]
    unknown: NDArray[np.int64]  # [Unknown]: accounts in state UNKNOWN by reason
    equity_usd: NDArray[np.float64]  # [states]: of accounts that can be valued
    shortfall_usd: NDArray[np.float64]  # [LEVELS]: what is missing to each level, summed
    bad_debt_usd: NDArray[np.float64]  # [1]: unhaircut equity below zero, as a positive number
    exposure_usd: NDArray[np.float64]  # [CHAINS_MAX, SIDES]: notional of all positions whose mark is known


class Flights(NamedTuple):
    """Orders of one book that may still be filled, by venue."""

    in_flight: dict[str, int]
    unreported: dict[str, int]  # of those: nothing was heard, neither a report nor a fill
    oldest_unreported_ns: int  # how long the oldest of them has been out, by the book's clock; 0: there is none


class OpenBreaker(NamedTuple):
    """A breaker that has left `closed` at least once."""

    trigger: str
    name: str
    state: str


def totals(accounts: Accounts, market: Market) -> Totals:
    """One pass over all accounts."""
    found = Totals(
        accounts=np.zeros((len(State), len(Cause)), np.int64),
        unknown=np.zeros(len(Unknown), np.int64),
        equity_usd=np.zeros(len(State)),
        shortfall_usd=np.zeros(len(LEVELS)),
        bad_debt_usd=np.zeros(1),
        exposure_usd=np.zeros((CHAINS_MAX, len(SIDES))),
    )
    _add_up(len(accounts), accounts.columns, market.tables, market.parameters.end_factor, found)
    return found


def flights(lives: dict[int, Life], market: Market) -> Flights:
    """What is out, over the accounts that have a life at all."""
    in_flight: dict[str, int] = {}
    unreported: dict[str, int] = {}
    oldest_ns = 0
    lasts_ns = int(market.parameters.order_ttl_s * NS_PER_SECOND)
    for life in lives.values():
        for flight in life.flights:
            venue = market.universe.instruments[flight.instrument].venue
            in_flight[venue] = in_flight.get(venue, 0) + 1
            if not flight.heard:
                unreported[venue] = unreported.get(venue, 0) + 1
                oldest_ns = max(oldest_ns, market.clock_ns - (flight.expires_ns - lasts_ns))
    return Flights(in_flight, unreported, oldest_ns)


def open_breakers(market: Market) -> list[OpenBreaker]:
    """Every breaker that was ever open."""
    return [
        OpenBreaker(kind.trigger, kind.names[k], BREAKER_STATES[kind.breakers.state[k]])
        for kind in breaker_kinds(market)
        for k in np.flatnonzero(kind.breakers.since_ns[: len(kind.names)])
    ]


def asset_reports(market: Market) -> list[AssetReport]:
    """Every asset but USD, in the order of their definition."""
    return [_asset_report(market, asset) for asset in range(market.universe.asset_count) if asset != USD]


def chain_reports(market: Market) -> list[ChainReport]:
    """Every chain, in the order of their definition."""
    lags, now_ns = market.lags, market.clock_ns
    reports = []
    for number, chain in enumerate(market.universe.chains):
        heard = int(lags.heartbeat_ns[number])
        reports.append(
            ChainReport(
                chain=chain.name,
                layer=chain.messaging_layer,
                finality_seconds=chain.finality_s,
                lag_p95_seconds=int(lags.p95_ns[number]) / NS_PER_SECOND if heard != NEVER_NS else None,
                heartbeat_age_seconds=_age_seconds(now_ns, heard),
                breaker=BREAKER_STATES[market.lag_breakers.state[number]],
                security_premium=chain.security_premium,
                clock_ns=now_ns,
                layer_breaker=BREAKER_STATES[market.layer_breakers.state[market.universe.chain_arrays.layer[number]]],
                quarantined=bool(market.quarantine_breakers.state[number] != CLOSED),
                paused=float(market.inputs.paused[number]),
                slip=float(market.inputs.slip[number]),
            )
        )
    return reports


def _asset_report(market: Market, asset: int) -> AssetReport:
    universe, marks, now_ns = market.universe, market.marks, market.clock_ns
    definition = universe.assets[asset]
    bound, stable = float(market.bounds.bound[asset]), float(market.stable[asset])
    group = int(universe.asset_arrays.group[asset])
    stress = market.inputs.stress[:, group].tolist() if market.live and group >= 0 else [0.0, 0.0]
    over = market.inputs.over[:, asset].tolist()
    depths = [float(thin) ** -2 for thin in market.inputs.thin[:, asset]] if market.live else [None, None]
    return AssetReport(
        asset=definition.name,
        asset_class=definition.asset_class,
        mark_usd=market.mark(asset),
        reason=Unknown(int(marks.status[asset])).name.lower() if marks.status[asset] else "",
        dispersion=float(marks.dispersion[asset]),
        confidence=float(marks.confidence[asset]),
        age_seconds=_age_seconds(now_ns, int(marks.newest_ns[asset])),
        depth_usd=market.depth_usd(asset),
        depth_age_seconds=_age_seconds(now_ns, int(market.depths.time_ns[asset])),
        spread_bps=market.spread_bps(asset),
        sigma_maintenance=float(market.inputs.sigma[MAINTENANCE_LEVEL, asset]),
        sigma_initial=float(market.inputs.sigma[INITIAL_LEVEL, asset]),
        bound_usd=None if math.isnan(bound) else bound,
        sources=[_source_report(market, asset, slot) for slot in range(len(universe.sources[asset]))],
        haircuts=_haircut_reports(market, asset) if market.live else [],
        clock_ns=now_ns,
        stable_usd=None if math.isnan(stable) else stable,
        uptime=float(market.uptime[asset]),
        suspended=bool(market.eligibility_breakers.state[asset] != CLOSED),
        depth_maintenance_usd=depths[MAINTENANCE_LEVEL],
        depth_initial_usd=depths[INITIAL_LEVEL],
        stress_maintenance=stress[MAINTENANCE_LEVEL],
        stress_initial=stress[INITIAL_LEVEL],
        recognised=float(market.recognised[asset]),
        over_maintenance=over[MAINTENANCE_LEVEL],
        over_initial=over[INITIAL_LEVEL],
        settled=_settled_count(market, asset),
    )


def _settled_count(market: Market, asset: int) -> int:
    count = market.universe.instrument_count
    of_asset = market.universe.instrument_arrays.underlying[:count] == asset
    return int((of_asset & ~np.isnan(market.settled[:count])).sum())


def _chains_holding(market: Market, asset: int) -> list[int]:
    """Chains where an account can hold the asset."""
    terms, count = market.universe.instrument_arrays, market.universe.instrument_count
    holds = (terms.underlying[:count] == asset) & (terms.contract[:count] == SPOT)
    return sorted({int(chain) for chain in terms.chain[:count][holds]})


def _source_report(market: Market, asset: int, slot: int) -> SourceReport:
    seen, verdict = market.observations, int(market.marks.verdict[asset, slot])
    published = int(seen.publish_ns[asset, slot])
    return SourceReport(
        source=market.universe.sources[asset][slot],
        price_usd=float(seen.price[asset, slot]) if published != NEVER_NS else None,
        publish_ns=published,
        age_seconds=_age_seconds(market.clock_ns, published),
        counts=verdict == COUNTS,
        why=VERDICTS[verdict],
    )


def _haircut_reports(market: Market, asset: int) -> list[HaircutReport]:
    reports = []
    for chain in _chains_holding(market, asset):
        rates = haircut_rates(market, asset, chain)
        assert rates is not None, "a chain that holds the asset has a spot instrument of it"
        reports.append(
            HaircutReport(
                chain=market.universe.chains[chain].name,
                eligible=rates.eligible,
                base=rates.base,
                security=rates.security,
                suspended=rates.suspended,
                slow=rates.slow,
                latency=rates.latency,
                depeg=rates.depeg,
                size_1m=rates.size * math.sqrt(SIZE_REFERENCE_USD),
                total_1m=rates.total(SIZE_REFERENCE_USD, away=True),
                recognised=rates.recognised,
            )
        )
    return reports


def _age_seconds(now_ns: int, then_ns: int) -> float | None:
    return max(0, now_ns - then_ns) / NS_PER_SECOND if then_ns != NEVER_NS else None


@kernel
def _add_up(n: int, columns: Columns, tables: RiskTables, end_factor: float, found: Totals) -> None:
    ints = tables.instrument_int
    floats = tables.instrument_float
    for a in range(n):
        if columns.known[a] == 0:
            continue
        state = columns.state[a]
        found.accounts[state, columns.cause[a]] += 1
        if state == _UNKNOWN_STATE:
            found.unknown[columns.reason[a]] += 1
        else:
            health = columns.health[a]
            found.equity_usd[state] += health[EQUITY]
            found.shortfall_usd[0] += max(0.0, health[INITIAL] - health[EQUITY_INITIAL])
            found.shortfall_usd[1] += max(0.0, end_factor * health[MAINTENANCE] - health[EQUITY])
            found.shortfall_usd[2] += max(0.0, health[MAINTENANCE] - health[EQUITY])
            found.bad_debt_usd[0] += max(0.0, -health[UNHAIRCUT])
        for slot in range(columns.positions[a]):
            i = columns.instrument[a, slot]
            lots = columns.quantity[a, slot]
            if lots != 0 and ints[i, UNIT_UNKNOWN] == 0:
                found.exposure_usd[ints[i, CHAIN], 0 if lots > 0 else 1] += abs(lots) * floats[i, NOTIONAL]
