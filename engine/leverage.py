"""Leverage that hides, of one account: loops, coins counted once, and leverage that rises by itself (docs/model.md, section 12).

For those who look; nothing decides by it.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from engine.breakers import MOVE_SAMPLES_MAX
from engine.claims import (
    COLLATERAL,
    GROSS,
    LONG,
    LOOPED,
    NET,
    OWED,
    PASSED_ON,
    Claims,
    add_up,
    look_through,
    new_claims,
    present_marks,
    prices_at,
    set_off_receipts,
    terms_of,
    trace,
    value_at,
)
from engine.market import Market
from engine.market_arrays import nanoseconds
from engine.maths import log_

LOOPS_SHOWN_MAX: Final = 16  # ways of borrowed money that a report names, the largest first
NS_PER_HOUR: Final = 3_600_000_000_000
WHOLE: Final = 1e-9  # relative: rounding of sums that are equal on paper


class LoopReport(Struct, frozen=True, kw_only=True):
    """Borrowed money that is collateral again."""

    venue: str  # where it was borrowed
    owed: str  # asset
    collateral_venue: str
    collateral: str  # asset
    usd: float
    way: str  # loop: it comes back to where it was borrowed, over other venues or not | chain: it doesn't


class PassiveLeverage(Struct, frozen=True, kw_only=True):
    """What the same positions had at the marks of a time before; where only prices moved since, how leverage rose by itself."""

    hours: float
    leverage_then: float
    factor: float  # leverage now / then
    per_hour: float  # (now - then) / hours


class AccountLeverage(Struct, frozen=True, kw_only=True):
    """One account; money is USD at what is claimed, ratios are None where there is nothing to divide by."""

    equity_usd: float  # unhaircut, the same coin once
    gross_usd: float
    net_usd: float
    leverage: float | None  # gross exposure / equity
    net_leverage: float | None
    collateral_usd: float  # held, dollars of class cash left out
    owed_usd: float
    passed_on_usd: float  # held, but handed on as a receipt, and counted there
    looped_usd: float
    loan_to_value: float | None  # owed / collateral
    own_loan_to_value: float | None  # owed / collateral that was not bought with debts
    turns: float | None  # of a pure loop, at what its haircut leaves as loan-to-value
    fall_taking_all: float | None  # of all that is held, debts as they are; None: more than all of it
    loops: list[LoopReport]  # at most LOOPS_SHOWN_MAX
    passive: PassiveLeverage | None


class SeedLoop(NamedTuple):
    """A loop as it is built: collateral, what was borrowed for it, and the capital in it, USD."""

    position_usd: float
    debt_usd: float
    capital_usd: float

    @property
    def leverage(self) -> float:
        return self.position_usd / self.capital_usd

    @property
    def fall_taking_all(self) -> float:
        """The fall of the collateral that takes all of the capital."""
        return self.capital_usd / self.position_usd

    def taken_usd(self, fall: float) -> float:
        """What a fall of the collateral takes."""
        return fall * self.position_usd


class Reference(NamedTuple):
    """Marks of a time before."""

    marks: NDArray[np.float64]  # [ASSETS_MAX], nan where unknown
    hours: float  # ago


def seed_loop(initial_usd: float, loan_to_value: float, turns: int) -> SeedLoop:
    """`initial_usd` of collateral, and `turns` times: borrow `loan_to_value` of what was added last, and add that."""
    position, added = initial_usd, initial_usd
    for _ in range(turns):
        added *= loan_to_value
        position += added
    return SeedLoop(position, position - initial_usd, initial_usd)


def turns_of_loop(position_usd: float, capital_usd: float, loan_to_value: float) -> float | None:
    """The inverse of `seed_loop`, from position = capital * (1 - v^(turns + 1)) / (1 - v); None where no number of turns gets there."""
    if not (0.0 < loan_to_value < 1.0 and capital_usd > 0.0):
        return None
    left = 1.0 - position_usd / capital_usd * (1.0 - loan_to_value)
    return log_(left) / log_(loan_to_value) - 1.0 if left > WHOLE else None


def reference_of(market: Market) -> Reference | None:
    """The oldest marks within `move_window_s`, of the samples that the asset-move breaker keeps; None where no time has gone by."""
    samples, now_ns = market.move_samples, market.clock_ns
    window_ns = nanoseconds(market.parameters.move_window_s)
    marks, oldest_ns = present_marks(market), now_ns
    for asset in range(market.universe.asset_count):
        kept, head = int(samples.kept[asset]), int(samples.head[asset])
        for k in range(kept):
            at = (head + MOVE_SAMPLES_MAX - kept + k) % MOVE_SAMPLES_MAX
            time_ns = int(samples.time_ns[asset, at])
            if now_ns - time_ns <= window_ns:
                if not math.isnan(marks[asset]):
                    marks[asset] = samples.mark[asset, at]
                    oldest_ns = min(oldest_ns, time_ns)
                break
    return Reference(marks, (now_ns - oldest_ns) / NS_PER_HOUR) if oldest_ns < now_ns else None


def account_leverage(
    market: Market,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    cash: NDArray[np.int64],
    *,
    lent: float,
    reference: Reference | None = None,
) -> AccountLeverage:
    """An account that can be valued, its positions as columns. `lent` is the loan-to-value that a turn of a loop is taken to have had."""
    slots = len(instrument), instrument, quantity, cash
    claims = new_claims()
    now = _Look(market, present_marks(market))
    equity = now.value(slots)
    entries = now.weigh(slots, claims)
    amounts = claims.amounts
    gross, collateral, owed, looped = (float(amounts[column]) for column in (GROSS, COLLATERAL, OWED, LOOPED))
    loops = _loops(market, entries, claims)
    own = collateral - looped
    return AccountLeverage(
        equity_usd=equity,
        gross_usd=gross,
        net_usd=float(amounts[NET]),
        leverage=_ratio(gross, equity),
        net_leverage=_ratio(float(amounts[NET]), equity),
        collateral_usd=collateral,
        owed_usd=owed,
        passed_on_usd=float(amounts[PASSED_ON]),
        looped_usd=looped,
        loan_to_value=_ratio(owed, collateral),
        own_loan_to_value=_ratio(owed, own) if own > WHOLE * collateral else None,
        turns=turns_of_loop(collateral, own, lent) if _is_pure(entries, claims) else None,
        fall_taking_all=_fall(equity, float(amounts[LONG])),
        loops=loops[:LOOPS_SHOWN_MAX],
        passive=_passive(_ratio(gross, equity), market, slots, reference, claims) if reference is not None else None,
    )


# ---- parts ------------------------------------------------------------------------------------------------------------------------------

_Slots = tuple[int, NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]


class _Look:
    """A market at some marks."""

    def __init__(self, market: Market, marks: NDArray[np.float64]) -> None:
        self._prices, self._terms, self._now_ns = prices_at(market, marks), terms_of(market), market.clock_ns

    def value(self, slots: _Slots) -> float:
        """USD, unhaircut."""
        return float(value_at(*slots, self._now_ns, self._prices, self._terms))

    def weigh(self, slots: _Slots, claims: Claims) -> int:
        """Entries and sums into `claims`; how many entries."""
        assets = self._terms.assets
        entries = look_through(*slots, self._now_ns, self._prices, self._terms, claims)
        set_off_receipts(entries, assets, claims)
        trace(entries, assets, self._prices, claims)
        add_up(entries, assets, self._prices, claims)
        return int(entries)


def _ratio(of: float, to: float) -> float | None:
    return of / to if to > 0.0 else None


def _fall(equity: float, long: float) -> float | None:
    return equity / long if 0.0 < equity <= long else None


def _passive(leverage: float | None, market: Market, slots: _Slots, reference: Reference, claims: Claims) -> PassiveLeverage | None:
    then = _Look(market, reference.marks)
    equity = then.value(slots)
    then.weigh(slots, claims)
    before = _ratio(float(claims.amounts[GROSS]), equity)
    if leverage is None or not before or math.isnan(before):
        return None
    return PassiveLeverage(
        hours=reference.hours, leverage_then=before, factor=leverage / before, per_hour=(leverage - before) / reference.hours
    )


def _is_pure(entries: int, claims: Claims) -> bool:
    """One collateral, one debt, all of it in the loop, and no derivatives."""
    held = int(np.count_nonzero(claims.held[:entries]))
    owed = int(np.count_nonzero(claims.owed[:entries]))
    debts, looped = float(claims.amounts[OWED]), float(claims.amounts[LOOPED])
    whole = looped >= debts * (1.0 - WHOLE)
    return held == owed == 1 and whole and not claims.delta[:entries].any()


def _loops(market: Market, entries: int, claims: Claims) -> list[LoopReport]:
    """Ways from debts to collateral, the largest first; equal ones by venue and asset."""
    universe = market.universe
    ways = [(k, j, float(claims.flow[k, j])) for k in range(entries) for j in range(entries) if claims.flow[k, j] > 0.0]
    venues = claims.venue[:entries].tolist()
    backed = {venues[k] for k in range(entries) if claims.held[k] > 0.0}
    # A venue that lent where it holds nothing lent against what lies elsewhere.
    behind = {(venues[j], venues[k]) for k, j, _ in ways if venues[k] not in backed}
    reached = _reached({(venues[k], venues[j]) for k, j, _ in ways} | behind)
    return [
        LoopReport(
            venue=universe.venues[venues[k]].name,
            owed=universe.assets[int(claims.asset[k])].name,
            collateral_venue=universe.venues[venues[j]].name,
            collateral=universe.assets[int(claims.asset[j])].name,
            usd=usd,
            way="loop" if venues[j] == venues[k] or (venues[j], venues[k]) in reached else "chain",
        )
        for k, j, usd in sorted(ways, key=lambda way: (-way[2], way[0], way[1]))
    ]


def _reached(steps: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Pairs of venues of which the second is reached from the first; at most ACCOUNT_VENUES_MAX venues, so a few rounds."""
    found = set(steps)
    while True:
        more = {(a, d) for a, b in found for c, d in steps if b == c} - found
        if not more:
            return found
        found |= more
