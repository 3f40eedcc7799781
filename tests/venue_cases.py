"""Reference cases of venues' rules as topic messages: one account at one venue each, and what `account.health` must say of its leg.

A case enters as everything does: definitions (its venue names the rule, with the case's parameters and what only the venue can give),
prices of two sources, implied volatilities and bases, an opening balance, open orders. Its assets are its own, so that all cases fit into
one book. What has to come out is the row that the rule's kernel makes of the case's own arrays, and beside it what the venue has stated.

Messages say less than some cases' feeds do: a mark is the price of an asset for spot, perpetuals and every expiry's forward, a venue's
feeds have one confidence and one rate, an expiry has one volatility. Such a case is *levelled*: its arrays get what can be said, and the
row is that of the levelled arrays. A stated figure is kept where the levelling does not touch it. What cannot be said at all is left out
with its reason: `TRANSLATED` and `LEFT_OUT` count both by family. Where a number never shows in a family's cases (an entry price below the
mark, a time to expiry under a least charge), a case comes a second time, changed by name so that it does.

Three rules of engine.rules have no adapter, and so no cases here: okx (needs sizes by which stablecoins hedge each other, and weights that
are not published), span16 (needs the clearing house's risk arrays), derive_auction (a sale, no margin). `mango_v4_stable_price`,
`drift_v2_liquidation_sizing` and interest of aave_utilities are no accounts' margins either.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from engine.inputs import (
    AssetDefinition,
    ChainDefinition,
    Definition,
    Funding,
    ImpliedVolatility,
    InstrumentDefinition,
    Message,
    OraclePrice,
    Pending,
    PendingPosition,
    RiskParameters,
    Snapshot,
    SnapshotPosition,
    VenueDefinition,
    VenueRule,
)
from engine.pricing import black76_price
from engine.rules import aave_v3, bybit_uta, drift_v2, mango_v3
from engine.rules.catalogue import modules
from engine.rules.interface import COLUMNS, DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD
from engine.tables import POSITIONS_MAX
from tests.reference import aave, deribit_pme, derive_pmrm2, derive_srm, drift, mango, worked_examples

SECOND: Final = 1_000_000_000
YEAR_S: Final = 31_536_000.0
CLOCK_NS: Final = 1_760_000_000 * SECOND  # at which all cases are valued; years to expiry are exact there alone
CHAIN: Final = "chain"
SOURCES: Final = ("one", "two")
QUOTE_UNIT: Final = 1e-6  # cash units of a dollar
COIN_UNIT: Final = 1e-9
DECIMALS_MAX: Final = 9
WHOLE: Final = 1e-14  # relative: a case's amount may be a difference of two decimals
NEVER_USD: Final = 1e18  # where weights never scale
UNTOUCHED: Final = 1e-12  # relative: by how much a levelled row may differ from the case's own, where it counts as the same
TOLERANCE: Final = 1e-9  # relative, of the largest number of the row

# Prices and volatilities are said once, and stay. Nothing is ordered: the book observes. Whatever moves is told.
PARAMETERS: Final[dict[str, Any]] = {
    "quorum": len(SOURCES),
    "breakers_enabled": False,
    "health_publish_bps": 0.0,
    "implied_max_age_s": 86_400.0,
    "classes": {"major": {"max_age_s": 86_400.0}},
}

Floats = NDArray[np.float64]


class Stated(NamedTuple):
    """A figure that the venue has published of the case, and by how much it may be off."""

    measure: str  # of MEASURES
    value: float
    tolerance: float


MEASURES: Final[dict[str, Callable[[Sequence[float]], float]]] = {
    "equity": lambda row: row[EQUITY_USD],
    "initial": lambda row: row[INITIAL_USD],
    "maintenance": lambda row: row[MAINTENANCE_USD],
    "left at initial": lambda row: row[EQUITY_USD] - row[INITIAL_USD],
    "left at maintenance": lambda row: row[EQUITY_USD] - row[MAINTENANCE_USD],
    "health factor": lambda row: 1.0 / (1.0 - row[DISTANCE]),
}


class Holding(NamedTuple):
    """One position as the case has it; `asset` is a name within the case, or USD."""

    contract: str
    asset: str
    units: float = 0.0  # of the asset; of inverse contracts USD
    cash: float = 0.0  # dollars; of inverse contracts coins
    strike: float = 0.0
    expiry_s: float = 0.0
    is_call: bool = True
    sigma: float = 0.0
    basis: float = 0.0
    buys: float = 0.0  # units of open orders
    sells: float = 0.0


class Case(NamedTuple):
    """One account at one venue of the same name."""

    family: str
    name: str
    rule: str
    account: str
    definitions: list[Definition]
    market: list[Message]  # prices, volatilities, bases
    opening: Snapshot
    orders: Pending | None
    levelled: bool
    row: list[float]  # (COLUMNS,), engine.rules.interface
    stated: list[Stated]

    @property
    def venue_rule(self) -> VenueRule:
        """What the venue's definition says of its rule."""
        [rule] = [one.rule for one in self.definitions if isinstance(one, VenueDefinition) and one.rule is not None]
        return rule

    @property
    def entry_usd(self) -> dict[str, float]:
        """By instrument, what a unit of each option was sold or bought for, where its cash says so."""
        terms = {one.name: one for one in self.definitions if isinstance(one, InstrumentDefinition)}
        return {
            one.instrument: -one.cash * QUOTE_UNIT / (one.lots * terms[one.instrument].lot_size)
            for one in self.opening.positions
            if terms[one.instrument].contract == "option" and one.cash
        }

    @property
    def accounts_messages(self) -> list[Message]:
        """Of the account itself; the market must be known before."""
        return [self.opening, *([] if self.orders is None else [self.orders])]


class LeftOut(NamedTuple):
    """A case that cannot be said in messages."""

    family: str
    name: str
    why: str


Found = Case | LeftOut

# By family: how many cases come in as messages, and how many are left out. tests/unit/test_venue_cases.py holds both.
TRANSLATED: Final[dict[str, int]] = {
    "aave_utilities": 6,
    "deribit_pme": 4,
    "derive_pmrm2": 6,
    "derive_srm": 9,
    "doc_worked_examples": 6,
    "drift_v2_weights": 24,
    "mango_v3": 4,
    "mango_v4_health": 11,
}
LEFT_OUT: Final[dict[str, int]] = {
    "derive_pmrm2": 2,
    "doc_worked_examples": 2,
    "drift_v2_weights": 2,
    "mango_v3": 1,
    "mango_v4_health": 8,
}
STATED: Final = 82  # figures of venues that the levelling of feeds leaves untouched


@cache
def found() -> list[Found]:
    """Every case of every family that has a rule with an adapter, in one order."""
    families = (_pmrm2, _srm, _deribit, _v4, _v3, _drift, _aave, _examples)
    return [one for family in families for one in family()]


def cases() -> list[Case]:
    """What comes in as messages."""
    return [one for one in found() if isinstance(one, Case)]


def left_out() -> list[LeftOut]:
    """What does not."""
    return [one for one in found() if isinstance(one, LeftOut)]


def opening_messages() -> list[Message]:
    """What all cases share: the parameters, and a chain on which nothing takes time."""
    return [
        RiskParameters(v=1, version="cases", parameters=PARAMETERS, time_ns=CLOCK_NS),
        ChainDefinition(v=1, name=CHAIN, finality_s=0.0, messaging_delay_s=0.0, time_ns=CLOCK_NS),
    ]


def differences(case: Case, row: Sequence[float | None]) -> list[str]:
    """Where a leg's equity, initial, maintenance and distance are not those of the case; None stands for what has no finite value."""
    numbers = [math.nan if value is None else value for value in row]
    largest = max(abs(value) for value in case.row[:DISTANCE])
    told = []
    for column, name in ((EQUITY_USD, "equity"), (INITIAL_USD, "initial"), (MAINTENANCE_USD, "maintenance")):
        if not abs(numbers[column] - case.row[column]) <= TOLERANCE * largest:
            told.append(f"{name}: {numbers[column]!r}, of the case {case.row[column]!r}")
    distance = case.row[DISTANCE]
    if math.isfinite(distance):
        if not abs(numbers[DISTANCE] - distance) <= TOLERANCE * max(1.0, abs(distance)):
            told.append(f"distance: {numbers[DISTANCE]!r}, of the case {distance!r}")
    elif row[DISTANCE] is not None:
        told.append(f"distance: {row[DISTANCE]!r}, of the case none")
    for measure, value, tolerance in case.stated:
        ours = MEASURES[measure](numbers)
        if not abs(ours - value) <= tolerance:
            told.append(f"{measure}: {ours!r}, stated {value!r}")
    return told


# ---- from a case to messages ----------------------------------------------------------------------------------------------------------


def _case(
    family: str,
    name: str,
    rule: str,
    parameters: Struct,
    own: Any,
    said: Any,
    prices: Mapping[str, float],
    holdings: Iterable[Holding],
    given: Mapping[str, float | Mapping[str, float]] | None = None,
    stated: Iterable[Stated] = (),
    priced: Iterable[str] = (),
) -> Found:
    """A case whose arrays are `own`, of which `said` is what messages can say. `priced`: assets that need a price though none is held."""
    held = [one for one in holdings if one.units or one.cash or one.buys or one.sells]
    if not held:
        return LeftOut(family, name, "the account holds nothing")
    if len(held) > POSITIONS_MAX:
        return LeftOut(family, name, f"it has {len(held)} positions, and an account at most {POSITIONS_MAX}")
    account = f"{rule}-{re.sub('[^A-Za-z0-9]+', '-', name).strip('-')[:40]}"
    exact, row = _row(rule, parameters, own), _row(rule, parameters, said)
    largest = max(abs(value) for value in exact[:DISTANCE])

    def is_touched(measure: Callable[[Sequence[float]], float]) -> bool:
        return not abs(measure(exact) - measure(row)) <= UNTOUCHED * largest

    assets = {*(one.asset for one in held), *priced} & set(prices)
    instruments = [_instrument(account, number, one) for number, one in enumerate(held)]
    return Case(
        family=family,
        name=name,
        rule=rule,
        account=account,
        definitions=[
            *(_asset(_named(account, asset)) for asset in sorted(assets)),
            VenueDefinition(
                v=1,
                name=account,
                chain=CHAIN,
                rule=VenueRule(rule=rule, parameters=_parameters(account, parameters), given=_given(account, given or {})),
                time_ns=CLOCK_NS,
            ),
            *instruments,
        ],
        market=[
            *(
                OraclePrice(v=1, asset=_named(account, asset), source=source, price=prices[asset], publish_time_ns=CLOCK_NS)
                for asset in sorted(assets)
                for source in SOURCES
            ),
            *_observed(account, held, instruments),
        ],
        opening=Snapshot(
            v=1,
            account=account,
            venue=account,
            sequence=0,
            positions=[_position(one, terms) for one, terms in zip(held, instruments, strict=True) if one.units or one.cash],
            time_ns=CLOCK_NS,
        ),
        orders=_orders(account, held, instruments),
        levelled=any(is_touched(measure) for measure in (lambda row, column=column: row[column] for column in range(DISTANCE))),
        row=row,
        stated=[one for one in stated if not is_touched(MEASURES[one.measure])],
    )


def _row(rule: str, parameters: Struct, inputs: Any) -> list[float]:
    """What the rule's kernel makes of the only account of `inputs`."""
    module: Any = modules()[rule]
    arrays = (getattr(module, "terms", None) or module.parameter_arrays)(parameters)
    if hasattr(module, "require_indices"):
        module.require_indices(inputs, arrays)
    out = np.empty((1, COLUMNS))
    module.margins(inputs, arrays, out)
    row: list[float] = out[0].tolist()
    return row


def _named(account: str, asset: str) -> str:
    """The asset of a case, which is no other case's."""
    return asset if asset == "USD" else f"{account}.{asset}"


_NAMED_BY_ASSET: Final = ("tokens", "perps", "markets", "reserves", "collaterals", "spots")  # parts of a rule's parameters


def _parameters(account: str, parameters: Struct) -> dict[str, Any]:
    """As a message has them; what is named by its asset gets that asset's name."""
    document: dict[str, Any] = msgspec.to_builtins(parameters)
    for part in _NAMED_BY_ASSET:
        for one in document.get(part, ()):
            one["name"] = _named(account, one["name"])
    return document


def _given(account: str, given: Mapping[str, float | Mapping[str, float]]) -> dict[str, float | dict[str, float]]:
    return {
        name: {_named(account, asset): number for asset, number in value.items()} if isinstance(value, Mapping) else value
        for name, value in given.items()
    }


def _asset(name: str) -> AssetDefinition:
    return AssetDefinition(v=1, name=name, asset_class="major", sources=dict.fromkeys(SOURCES, 1.0), time_ns=CLOCK_NS)


def _instrument(account: str, number: int, one: Holding) -> InstrumentDefinition:
    """An instrument of which the case's amounts are whole lots."""
    asset = _named(account, one.asset)
    lot_size = _lot_size([one.units, one.buys, one.sells])
    return InstrumentDefinition(
        v=1,
        venue=account,
        name=f"{number}-{one.contract}",
        contract=one.contract,  # type: ignore[arg-type]
        underlying=asset,
        quote=asset if one.contract.startswith("inverse") else "USD",
        lot_size=lot_size,
        tick_size=QUOTE_UNIT / lot_size,
        strike=one.strike,
        expiry_ns=_expiry_ns(one.expiry_s) if one.expiry_s else 0,
        is_call=one.is_call,
        tradable=one.asset != "USD",
        time_ns=CLOCK_NS,
    )


def _lot_size(amounts: Sequence[float]) -> float:
    """The largest power of ten of which all amounts are whole numbers; of what has no such, the amount itself is one lot."""
    held = [abs(amount) for amount in amounts if amount]
    for decimals in range(DECIMALS_MAX + 1):
        if all(abs(round(amount * 10**decimals) / 10**decimals - amount) <= WHOLE * amount for amount in held):
            return float(f"1e-{decimals}")
    assert len(held) == 1, f"{held} are no lots of one size"
    return held[0]


def _lots(amount: float, terms: InstrumentDefinition) -> int:
    return round(amount / terms.lot_size)


def _expiry_ns(expiry_s: float) -> int:
    return CLOCK_NS + round(expiry_s * SECOND)


def _position(one: Holding, terms: InstrumentDefinition) -> SnapshotPosition:
    unit = COIN_UNIT if one.contract.startswith("inverse") else QUOTE_UNIT
    return SnapshotPosition(terms.name, _lots(one.units, terms), round(one.cash / unit))


def _orders(account: str, held: Sequence[Holding], instruments: Sequence[InstrumentDefinition]) -> Pending | None:
    pending = [
        PendingPosition(terms.name, buy_lots=_lots(one.buys, terms), sell_lots=_lots(one.sells, terms))
        for one, terms in zip(held, instruments, strict=True)
        if one.buys or one.sells
    ]
    return Pending(v=1, account=account, venue=account, positions=pending, time_ns=CLOCK_NS) if pending else None


def _observed(account: str, held: Sequence[Holding], instruments: Sequence[InstrumentDefinition]) -> list[Message]:
    """Volatilities, one of each expiry, and bases."""
    sigmas = {(_named(account, one.asset), _expiry_ns(one.expiry_s)): one.sigma for one in held if one.sigma}
    return [
        *(
            ImpliedVolatility(v=1, underlying=asset, expiry_ns=expiry_ns, sigma=sigma, time_ns=CLOCK_NS)
            for (asset, expiry_ns), sigma in sigmas.items()
        ),
        *(
            Funding(v=1, venue=account, instrument=terms.name, measure="basis", value=one.basis, time_ns=CLOCK_NS)
            for one, terms in zip(held, instruments, strict=True)
            if one.basis
        ),
    ]


def _dollars(amount: float) -> Holding:
    return Holding("spot", "USD", cash=amount)


# ---- Derive ---------------------------------------------------------------------------------------------------------------------------


def _pmrm2() -> list[Found]:
    return [_pmrm2_case(case) for case in derive_pmrm2.carried()]


def _pmrm2_case(case: derive_pmrm2.Case) -> Found:
    parameters, own = case.parameters, case.inputs
    perps, amounts = float(own.perps[0]), own.leg_amount.tolist()
    if not perps and not amounts:
        why = "it holds collateral alone: which underlying that goes with, no position says"
        return LeftOut(derive_pmrm2.FAMILY, case.name, why)
    price_usd = own.spot_usd if amounts else own.perp_usd
    confidences = [own.spot_confidence, *own.collateral_confidence.tolist(), *([own.perp_confidence] if perps else [])]
    if amounts:
        confidences += [*own.forward_confidence.tolist(), *own.rate_confidence.tolist(), *own.sigma_confidence.tolist()]
    confidence = min(confidences)
    rate = float(own.rate[0]) if amounts else 0.0
    sigmas = _one_of_each(own.option_expiry, own.option_sigma)
    said = own._replace(
        spot_usd=price_usd,
        perp_usd=price_usd,
        forward_usd=np.full_like(own.forward_usd, price_usd),
        rate=np.full_like(own.rate, rate),
        option_sigma=sigmas,
        spot_confidence=confidence,
        perp_confidence=confidence,
        **{
            name: np.full_like(getattr(own, name), confidence)
            for name in ("forward_confidence", "rate_confidence", "sigma_confidence", "collateral_confidence")
        },
    )
    names = [one.name for one in parameters.collaterals]
    profit_usd = float(own.perp_profit_usd[0] + own.perp_funding_usd[0])
    holdings = [
        _dollars(float(own.cash_usd[0])),
        *(Holding("spot", name, units=amount) for name, amount in zip(names, own.held_amount.tolist(), strict=True)),
        Holding("perpetual", "underlying", units=perps, cash=profit_usd - perps * price_usd),
        *(
            Holding(
                "option",
                "underlying",
                units=amount,
                strike=float(own.option_strike_usd[option]),
                expiry_s=float(own.expiry_s[own.option_expiry[option]]),
                is_call=bool(own.option_is_call[option]),
                sigma=float(sigmas[option]),
            )
            for option, amount in enumerate(amounts)
        ),
    ]
    prices = {"underlying": price_usd, **dict(zip(names, own.collateral_usd.tolist(), strict=True))}
    given = {"confidence": confidence, "rate": rate, "stable_usd": own.stable_usd}
    stated = [
        Stated(f"left at {level}", value, derive_pmrm2.RELATIVE_TOLERANCE * abs(value))
        for level, value in (("initial", case.initial_usd), ("maintenance", case.maintenance_usd))
    ]
    return _case(derive_pmrm2.FAMILY, case.name, "derive_pmrm2", parameters, own, said, prices, holdings, given, stated)


def _one_of_each(which: NDArray[np.int64], values: Floats) -> Floats:
    """`values` where those of one number of `which` are all what the first of them is."""
    first: dict[int, float] = {}
    pairs = zip(which.tolist(), values.tolist(), strict=True)
    return np.array([first.setdefault(number, value) for number, value in pairs], np.float64)


def _srm() -> list[Found]:
    return [_srm_case(case) for case in derive_srm.cases(None)]


def _srm_case(case: derive_srm.Case) -> Found:
    parameters, own = case.parameters, case.inputs
    names = [one.name for one in parameters.markets]
    options = set(own.expiry_market[own.option_expiry].tolist())
    spots = options | set(own.base_market.tolist())
    price_usd = np.array([own.spot_usd[market] if market in spots else own.perp_usd[market] for market in range(len(names))], np.float64)
    expiries = own.option_expiry
    confidence = min(
        *(float(own.spot_confidence[market]) for market in spots | set(own.perp_market.tolist())),
        *own.perp_confidence[own.perp_market].tolist(),
        *own.forward_confidence[expiries].tolist(),
        *own.sigma_confidence[expiries].tolist(),
        1.0,
    )
    said = own._replace(
        spot_usd=price_usd,
        perp_usd=price_usd,
        forward_usd=price_usd[own.expiry_market],
        **{
            name: np.full_like(getattr(own, name), confidence)
            for name in ("spot_confidence", "perp_confidence", "forward_confidence", "sigma_confidence")
        },
    )
    perps = zip(own.perp_market.tolist(), own.perp_amount.tolist(), own.perp_profit_usd.tolist(), strict=True)
    bases = zip(own.base_market.tolist(), own.base_amount.tolist(), strict=True)
    holdings = [
        *(Holding("spot", names[market], units=amount) for market, amount in bases),
        *(
            Holding("perpetual", names[market], units=amount, cash=profit_usd - amount * float(price_usd[market]))
            for market, amount, profit_usd in perps
        ),
        *(
            Holding(
                "option",
                names[own.expiry_market[expiries[option]]],
                units=amount,
                strike=float(own.option_strike_usd[option]),
                expiry_s=float(own.expiry_s[expiries[option]]),
                is_call=bool(own.option_is_call[option]),
                sigma=float(own.option_sigma[option]),
            )
            for option, amount in enumerate(own.leg_amount.tolist())
        ),
    ]
    cash_usd = float(own.cash_usd[0])
    if len(own.base_amount):  # dollars may as well be said as what was paid for a coin
        holdings[0] = holdings[0]._replace(cash=cash_usd)
    else:
        holdings.append(_dollars(cash_usd))
    given = {"confidence": confidence, "stable_usd": own.stable_usd}
    prices = dict(zip(names, price_usd.tolist(), strict=True))
    stated = [  # whole dollars, cut towards 0
        Stated(f"left at {level}", dollars + math.copysign(0.5, left_usd), 0.5 + derive_srm.ROUNDING_USD)
        for level, dollars, left_usd in zip(
            derive_srm.LEVELS, (case.initial_usd, case.maintenance_usd), derive_srm.evaluated(case), strict=True
        )
    ]
    return _case(derive_srm.FAMILY, case.name, "derive_srm", parameters, own, said, prices, holdings, given, stated)


# ---- Deribit --------------------------------------------------------------------------------------------------------------------------


def _deribit() -> list[Found]:
    paths = sorted((deribit_pme.CARRIED / "margin").glob(f"{deribit_pme.FAMILY}*.json"))
    cases = [case for path in paths for case in json.loads(path.read_text())["cases"]]
    return [_deribit_case(case, no_least_move) for no_least_move in (False, True) for case in cases]


def _deribit_case(case: Mapping[str, Any], no_least_move: bool) -> Found:
    """In all answers the roll shock is at its least, so that no time to expiry shows; without a least it does, and nothing is stated."""
    name, expected = case["id"], case["expected"]
    if beyond := deribit_pme.beyond_us(case):
        return LeftOut(deribit_pme.FAMILY, name, f"the rule has futures settled in the coin, not {', '.join(beyond)}")
    answer = deribit_pme.answer_of(case)
    if isinstance(answer, list):
        return LeftOut(deribit_pme.FAMILY, name, "; ".join(answer))
    own, index_usd = answer.inputs, float(answer.inputs.index_usd[0])
    holdings = [  # entered at the index, so that nothing is gained yet
        Holding(
            "inverse_future" if years else "inverse_perpetual", "coin", units=size * index_usd, cash=size, expiry_s=years * 31_536_000.0
        )
        for size, years in zip(own.size.tolist(), own.years.tolist(), strict=True)
    ]
    given = {margin: float(getattr(own, margin)[0]) for margin in ("mmp_margin", "open_orders_margin", "spot_margin")}
    stated = [
        Stated(level, expected[f"{level}_margin"] * index_usd, deribit_pme.TOLERANCE * index_usd)
        for level in ("initial", "maintenance")
        if f"{level}_margin" in expected and not no_least_move
    ]
    parameters = msgspec.structs.replace(answer.parameters, min_annualised_move=0.0) if no_least_move else answer.parameters
    name = f"{name}, no least move" if no_least_move else name
    said = own._replace(correlation_contingency=np.zeros(1))
    return _case(deribit_pme.FAMILY, name, "deribit_pm", parameters, own, said, {"coin": index_usd}, holdings, given, stated)


# ---- Mango ----------------------------------------------------------------------------------------------------------------------------


def _v4() -> list[Found]:
    facts = json.loads((mango.CARRIED / "margin" / f"{mango.HEALTH}.json").read_text())
    return [_v4_case(facts, case) for case in facts["cases"]]


def _v4_case(facts: Mapping[str, Any], case: Mapping[str, Any]) -> Found:
    name = str(case["id"])
    parameters, own = mango.v4_market(facts["setup"], case), mango.v4_account(facts["setup"], case)
    has_orders = bool(own.order_base_reserved.any() or own.order_quote_reserved.any())
    if has_orders and not len(own.perp):
        return LeftOut(mango.HEALTH, name, "open orders in spot: how much of base and quote they reserve is not said of pending lots")
    nothing = np.zeros(len(own.order_base_token))
    said = own._replace(order_base_reserved=nothing, order_quote_reserved=nothing)  # as the adapter takes it: as if there were none
    if own.potential_order_tokens.any():
        return LeftOut(mango.HEALTH, name, "tokens in open orders of all accounts, which the adapter does not take")
    tokens, perps = [one.name for one in parameters.tokens], [one.name for one in parameters.perps]
    legs = zip(
        own.perp.tolist(), own.perp_base.tolist(), own.perp_quote.tolist(), own.perp_bids.tolist(), own.perp_asks.tolist(), strict=True
    )
    holdings = [
        *(Holding("spot", tokens[token], units=held) for token, held in zip(own.token.tolist(), own.token_balance.tolist(), strict=True)),
        *(Holding("perpetual", perps[perp], units=base, cash=quote, buys=bids, sells=asks) for perp, base, quote, bids, asks in legs),
    ]
    settled = {tokens[parameters.perps[perp].settle_token] for perp in own.perp.tolist()}
    used = {one.asset for one in holdings if one.units or one.cash} | settled
    stable = dict(zip([*tokens, *perps], [*own.stable_usd.tolist(), *own.perp_stable_usd.tolist()], strict=True))
    prices = dict(zip([*tokens, *perps], [*own.oracle_usd.tolist(), *own.perp_oracle_usd.tolist()], strict=True))
    given: dict[str, dict[str, float]] = {"stable_usd": {asset: price for asset, price in stable.items() if asset in used}}
    for what, amounts, scale in (
        ("deposits", own.deposits.tolist(), [one.deposit_weight_scale_start_usd for one in parameters.tokens]),
        ("borrows", own.borrows.tolist(), [one.borrow_weight_scale_start_usd for one in parameters.tokens]),
    ):
        scaled = {token: amount for token, amount, start in zip(tokens, amounts, scale, strict=True) if token in used and start < NEVER_USD}
        given |= {what: scaled} if scaled else {}
    stated = [
        Stated(measure, case[key], facts["tolerance_abs"])
        for key, measure in (("expected_init_health", "left at initial"), ("expected_maint_health", "left at maintenance"))
        if key in case
    ]
    return _case(mango.HEALTH, name, "mango_v4", parameters, own, said, prices, holdings, given, stated, settled)


def _v3() -> list[Found]:
    place = mango.CARRIED / "accounts"
    facts = json.loads((place / "mango_v3_expected.json").read_text())
    accounts = [(name, mango.v3_rows(place / f"{name}.csv"), fact["expected"]) for name, fact in facts.items()]
    ordered = [(name, rows) for name, rows, _ in accounts if mango.v3_inputs(rows).perp_asks.any()]
    return [
        *(_v3_case(name, mango.v3_market(rows[:-1]), mango.v3_inputs(rows), expected) for name, rows, expected in accounts),
        *(
            _v3_case(f"{name}, asks as bids", mango.v3_market(rows[:-1]), _asks_as_bids(mango.v3_inputs(rows)), {})
            for name, rows in ordered
        ),
    ]


def _asks_as_bids(own: mango_v3.Inputs) -> mango_v3.Inputs:
    """No account of the family has bids."""
    return own._replace(perp_bids=own.perp_asks, perp_asks=own.perp_bids)


def _v3_case(name: str, parameters: mango_v3.Parameters, own: mango_v3.Inputs, expected: Mapping[str, Any]) -> Found:
    if own.order_base_free.any() or own.order_base_locked.any() or own.order_quote_locked.any():
        return LeftOut(mango.V3, name, "open orders in spot")
    markets = [one.name for one in parameters.markets]
    # What is free of the quote counts as the account's own where the market is in the basket; elsewhere it cannot be said.
    free_usd = float(own.order_quote_free[own.in_basket].sum())
    said = own._replace(
        quote_usd=own.quote_usd + free_usd, order_quote_free=np.zeros(len(markets)), in_basket=np.zeros(len(markets), np.bool_)
    )
    numbers = enumerate(own.market.tolist())
    holdings = [_dollars(float(said.quote_usd[0]))]
    for leg, market in numbers:
        perp = [float(column[leg]) for column in (own.perp_base, own.perp_quote, own.perp_bids, own.perp_asks)]
        holdings.append(Holding("spot", markets[market], units=float(own.spot[leg])))
        holdings.append(Holding("perpetual", markets[market], units=perp[0], cash=perp[1], buys=perp[2], sells=perp[3]))
    stated = []
    largest = max(abs(one) for one in _row("mango_v3", parameters, own)[:DISTANCE])
    for key, measure in (("init_health", "left at initial"), ("maint_health", "left at maintenance"), ("total_value", "equity")):
        if key in expected:
            stated.append(Stated(measure, float(expected[key]["mango_explorer"]), TOLERANCE * largest))
    prices = dict(zip(markets, own.price_usd.tolist(), strict=True))
    return _case(mango.V3, name, "mango_v3", parameters, own, said, prices, holdings, stated=stated)


# ---- Drift ----------------------------------------------------------------------------------------------------------------------------


def _drift() -> list[Found]:
    """Weights as those of accounts with one balance: what is left of a deposit is its value x the weight."""
    facts = json.loads((drift.CARRIED / "margin" / f"{drift.WEIGHTS}.json").read_text())
    sizes = [_drift_weight(number, case) for number, case in enumerate(facts["cases"])]
    return [*sizes, *(_drift_scaled(number, case) for number, case in enumerate(facts["scale_initial_asset_weight"]))]


def _drift_weight(number: int, case: Mapping[str, Any]) -> Found:
    name = f"{number}: {case['kind']}"
    if case.get("req") == "Fill":
        return LeftOut(drift.WEIGHTS, name, "the weight at a fill is neither the initial nor the maintenance one")
    weight, maintenance = case["w"] / drift_v2.WEIGHT_PRECISION, case.get("maint", case["w"]) / drift_v2.WEIGHT_PRECISION
    imf, size = case["imf"] / drift_v2.IMF_PRECISION, float(case["size"])
    if case["kind"] == "asset":
        market = drift_v2.SpotParameters(name="token", initial_asset_weight=weight, maintenance_asset_weight=maintenance, imf_factor=imf)
    elif weight < 1.0:
        return LeftOut(drift.WEIGHTS, name, "a liability's weight of 0, which no market has")
    else:
        market = drift_v2.SpotParameters(
            name="token", initial_liability_weight=weight, maintenance_liability_weight=maintenance, imf_factor=imf
        )
        size = -size
    levels = {"Initial": ["initial"], "Maintenance": ["maintenance"]}.get(case.get("req", ""), ["initial", "maintenance"])
    stated = [Stated(f"left at {level}", size * case["expect"] / drift_v2.WEIGHT_PRECISION, TOLERANCE * abs(size)) for level in levels]
    return _drift_case(name, market, size, 1.0, 0.0, stated)


def _drift_scaled(number: int, case: Mapping[str, Any]) -> Found:
    weight, price_usd = case["w"] / drift_v2.WEIGHT_PRECISION, float(case["price"])
    market = drift_v2.SpotParameters(
        name="token", initial_asset_weight=weight, maintenance_asset_weight=weight, scale_initial_asset_weight_start_usd=case["start_usd"]
    )
    stated = [Stated("left at initial", price_usd * case["expect"] / drift_v2.WEIGHT_PRECISION, TOLERANCE * price_usd)]
    return _drift_case(f"scaled {number}", market, 1.0, price_usd, float(case["deposits"]), stated)


def _drift_case(
    name: str, market: drift_v2.SpotParameters, balance: float, price_usd: float, deposits: float, stated: list[Stated]
) -> Found:
    parameters = drift_v2.Parameters(spots=(drift_v2.SpotParameters(name="USD"), market))
    none, zero = np.zeros(0), np.zeros(1)
    no_index = np.zeros(0, np.int64)
    own = drift_v2.Inputs(
        spot_start=np.array([0, 1]),
        spot=np.array([1]),
        spot_balance=np.array([balance]),
        spot_bids=zero,
        spot_asks=zero,
        spot_orders=np.zeros(1, np.int64),
        perp_start=np.array([0, 0]),
        perp=no_index,
        perp_base=none,
        perp_quote=none,
        perp_bids=none,
        perp_asks=none,
        perp_orders=no_index,
        custom_ratio=zero,
        spot_usd=np.array([1.0, price_usd]),
        spot_deposits=np.array([0.0, deposits]),
        perp_usd=none,
    )
    given = {"deposits": {"token": deposits}} if deposits else {}
    held = [Holding("spot", "token", units=balance)]
    return _case(drift.WEIGHTS, name, "drift_v2", parameters, own, own, {"token": price_usd}, held, given, stated)


# ---- Aave -----------------------------------------------------------------------------------------------------------------------------


def _aave() -> list[Found]:
    facts = json.loads((aave.CARRIED / "margin" / "aave_utilities_health_factor.json").read_text())
    samples = [
        _aave_case(
            f"health factor {number}",
            aave.pool(sample["lt"], sample["lt"], 1),
            aave.accounts_of([sample["collateral"]], [sample["debt"]], 1.0, modes=[0]),
            [] if sample["debt"] == 0 else [Stated("health factor", float(sample["expect"]), TOLERANCE)],
        )
        for number, sample in enumerate(facts["health_factor"])
    ]
    return [*samples, *_aave_summary(facts["user_summary"])]


def _aave_summary(summary: Mapping[str, Any]) -> list[Found]:
    price_usd = aave.token_price_usd(summary)
    if price_usd is None:
        return [LeftOut(aave.FAMILY, "user summary", f"unknown price convention: {summary['price']}")]
    supplied, owed = ([reserve[what] for reserve in summary["reserves"]] for what in ("supply", "variable_debt"))
    plain = summary["expect_non_emode"]
    equity = Stated("equity", plain["totalCollateralUSD"] - plain["totalBorrowsUSD"], TOLERANCE)
    return [
        _aave_case(
            f"user summary, mode {mode}",
            aave.summary_pool(summary),
            aave.accounts_of(supplied, owed, price_usd, modes=[mode]),
            [equity, Stated("health factor", summary[expected]["HF"], TOLERANCE)],
        )
        for mode, expected in enumerate(("expect_non_emode", "expect_emode"))
    ]


def _aave_case(name: str, parameters: aave_v3.Parameters, own: aave_v3.Inputs, stated: list[Stated]) -> Found:
    names = [one.name for one in parameters.reserves]
    held = [Holding("spot", names[reserve], units=amount) for reserve, amount in zip(own.reserve, own.supplied.tolist(), strict=True)]
    owed = [Holding("loan", names[reserve], units=-amount) for reserve, amount in zip(own.reserve, own.owed.tolist(), strict=True)]
    prices = dict(zip(names, own.price_usd.tolist(), strict=True))
    given = {"mode": float(own.mode[0])}
    return _case(aave.FAMILY, name, "aave_v3", parameters, own, own, prices, [*held, *owed], given, stated)


# ---- examples of venues' documents ----------------------------------------------------------------------------------------------------

_OPTION_S: Final = 30 * 86_400.0  # to the expiry of an option whose example states no expiry, but a price


def _examples() -> list[Found]:
    paths = sorted((worked_examples.CARRIED / "margin").glob(f"{worked_examples.FAMILY}*.json"))
    documents = [(name, example) for path in paths for name, example in json.loads(path.read_text()).items()]
    dearer = [  # in all examples the mark is above the entry price, which then shows in nothing; nor does it in what maintenance is
        (f"{name}, sold dearer", {**example, "entry": 2 * example["mark"], "expect": {"MM": example["expect"]["MM"]}})
        for name, example in documents
        if name.startswith("bybit_")
    ]
    return [_example(name, example) for name, example in [*documents, *dearer]]


def _example(name: str, example: Mapping[str, Any]) -> Found:
    translate = next((one for prefix, one in _EXAMPLES.items() if name.startswith(prefix)), None)
    if translate is None:
        return LeftOut(worked_examples.FAMILY, name, "its rule has no adapter")
    return translate(name, example)


def _bybit(name: str, example: Mapping[str, Any]) -> Found:
    """The margin balance is the premium alone; volatility is what makes the example's price."""
    case = worked_examples.bybit_case(name, example)
    if isinstance(case, str):
        return LeftOut(worked_examples.FAMILY, name, case)
    parameters, own = case
    size, entry_usd = float(own.size[0]), float(own.entry_usd[0])
    own = own._replace(equity_usd=np.array([-size * entry_usd]))
    held = Holding(
        "option",
        "coin",
        units=size,
        cash=-size * entry_usd,
        strike=float(own.strike_usd[0]),
        expiry_s=_OPTION_S,
        is_call=bool(own.is_call[0]),
        sigma=_sigma_of(own),
    )
    measures = {"MM": "maintenance", "IM": "initial"}
    stated = [Stated(measures[level], float(value), TOLERANCE * float(value)) for level, value in example["expect"].items()]
    prices = {"coin": float(own.index_usd[0])}
    return _case(worked_examples.FAMILY, name, "bybit_uta", parameters, own, own, prices, [held], stated=stated)


def _sigma_of(own: bybit_uta.Inputs) -> float:
    """The volatility at which the only option costs what it does, by halving until no double lies between."""
    low, high = 0.0, 20.0
    mark_usd, years = float(own.mark_usd[0]), _OPTION_S / YEAR_S
    terms = float(own.index_usd[0]), float(own.strike_usd[0])
    while low < (middle := (low + high) / 2.0) < high:
        if black76_price(*terms, middle, years, bool(own.is_call[0]), 1.0) < mark_usd:
            low = middle
        else:
            high = middle
    return high


def _hyperliquid(name: str, example: Mapping[str, Any]) -> Found:
    own = worked_examples.hyperliquid_case(example)
    parameters = modules()["hyperliquid_pm"].Parameters()
    given = {"loan_to_value": {"token": float(own.loan_to_value[0])}, "supply_cap": {"token": float(own.supply_cap[0])}}
    borrowable_usd = float(example["expect_borrowable_usdc"])
    stated = [Stated("left at initial", borrowable_usd, TOLERANCE * borrowable_usd)]
    held = [Holding("spot", "token", units=float(own.balance[0]))]
    prices = {"token": float(own.price_usd[0])}
    return _case(worked_examples.FAMILY, name, "hyperliquid_pm", parameters, own, own, prices, held, given, stated)


def _dederi(name: str, example: Mapping[str, Any]) -> Found:
    """Entered at the index and with a balance of what has been gained since taken off, so that equity is the 0 of the case."""
    case = worked_examples.dederi_case(example)
    if isinstance(case, str):
        return LeftOut(worked_examples.FAMILY, name, case)
    parameters, own = case
    quantity, price_usd, index_usd = (float(column[0]) for column in (own.quantity, own.price_usd, own.index_usd))
    basis = price_usd / index_usd - 1.0
    held = Holding("future", "coin", quantity, -quantity * price_usd, expiry_s=float(example["days"]) * 86_400.0, basis=basis)
    stated = [Stated("maintenance", *worked_examples.dederi_requirement(example))]
    return _case(worked_examples.FAMILY, name, "dederi", parameters, own, own, {"coin": index_usd}, [held], stated=stated)


_EXAMPLES: Final[dict[str, Callable[[str, Mapping[str, Any]], Found]]] = {
    "bybit_": _bybit,
    "hyperliquid_": _hyperliquid,
    "dederi_": _dederi,
}
