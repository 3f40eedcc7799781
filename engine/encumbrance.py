"""Leverage that hides, of a book: by asset what is claimed, pledged and looped, and what would have to be sold if it fell.

A look takes many calls, each with a bounded amount of work, so that the book goes on deciding between them: its numbers are of the times at
which each account was looked at. For those who look; nothing decides by it (docs/model.md, section 12).
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.book import Accounts, Columns, wide
from engine.cascade import FALLS, Curve, MovedMarket, Walk
from engine.claims import (
    LOOPED,
    Claims,
    Prices,
    Terms,
    look_through,
    new_claims,
    present_marks,
    prices_at,
    set_off_receipts,
    terms_of,
    trace,
)
from engine.effects import CascadePoint, LeverageReport
from engine.jit import kernel
from engine.market import Market
from engine.reasons import State
from engine.tables import ASSETS_MAX
from engine.universe import USD
from engine.volatility import NS_PER_SECOND

LOOK_EVERY_NS: Final = 60 * NS_PER_SECOND  # by the book's clock, from the beginning of one look to that of the next, at the earliest
LOOK_WORK_MAX: Final = 250_000  # units in one call, see engine.cascade: some ten milliseconds
WEIGHED: Final = 20  # units of work: one account looked through
TRACED: Final = 25  # and traced, where it owes something
_UNKNOWN_STATE: Final = int(State.UNKNOWN)


class Encumbrance(NamedTuple):
    """USD by asset [ASSETS_MAX], at what is claimed. Sums: those of several books add up."""

    held: NDArray[np.float64]  # of the asset itself
    pledged: NDArray[np.float64]  # of that: by accounts that owe something, or have derivatives
    looped: NDArray[np.float64]  # of that: bought with what was borrowed
    claims: NDArray[np.float64]  # held of the asset and of whatever is redeemable into it, receipts not set off
    owed: NDArray[np.float64]  # the same, owed


class Look(NamedTuple):
    """A whole look at a book."""

    sums: Encumbrance
    curves: list[Curve]  # by group
    began_ns: int
    ended_ns: int


def new_encumbrance() -> Encumbrance:
    return Encumbrance(*(np.zeros(ASSETS_MAX) for _ in Encumbrance._fields))


def encumbrance(accounts: Accounts, market: Market) -> Encumbrance:
    """Sums over all accounts that can be valued, in one go."""
    sums = new_encumbrance()
    _add_accounts(0, len(accounts), 2**62, market, accounts.columns, sums, new_claims())
    return sums


def multiple(claims_usd: float, owed_usd: float) -> float | None:
    """All claims on an asset by the coins that there are for them; None where as much is owed as is claimed."""
    coins = claims_usd - owed_usd
    return claims_usd / coins if coins > 0.0 else None


def share(part_usd: float, held_usd: float) -> float | None:
    """A part of what is held; None where nothing is."""
    return min(1.0, part_usd / held_usd) if held_usd > 0.0 else None


class LeverageWatch:
    """The looks at one book. `go_on` does at most about LOOK_WORK_MAX units of work; whatever it has found is not part of any cut."""

    def __init__(self) -> None:
        self.last: Look | None = None
        self._fresh = False
        self._began_ns = 0
        self._under_way = False
        self._next = 0  # account, while sums are taken
        self._sums = new_encumbrance()
        self._claims = new_claims()
        self._curves: list[Curve] = []
        self._walk: Walk | None = None
        self._moved: MovedMarket | None = None

    def go_on(self, accounts: Accounts, market: Market, work: int = LOOK_WORK_MAX) -> None:
        """Begin a look where one is due, or go on with the one that is under way."""
        if not market.live:
            return
        if not self._under_way:
            if self._began_ns and market.clock_ns - self._began_ns < LOOK_EVERY_NS:
                return
            self._began_ns, self._under_way, self._next = market.clock_ns, True, 0
            self._sums, self._curves, self._walk = new_encumbrance(), [], None
        done = 0
        if self._walk is None and not self._curves:
            self._next, done = _add_accounts(self._next, len(accounts), work, market, accounts.columns, self._sums, self._claims)
            if self._next < len(accounts):
                return
        while len(self._curves) < market.universe.group_count:
            if done >= work:
                return
            if self._walk is None:
                self._moved = self._moved or MovedMarket(market)
                self._walk = Walk(self._moved, accounts, market, len(self._curves), FALLS, feedback=False)
            done += self._walk.go_on(work - done)
            if not self._walk.is_done:
                return
            self._curves.append(self._walk.curve)
            self._walk = None
        self.last = Look(self._sums, self._curves, self._began_ns, market.clock_ns)
        self._fresh, self._under_way = True, False

    def take_fresh(self, market: Market, partition: int) -> Sequence[LeverageReport]:
        """The reports of a look that was finished since the last call."""
        if not self._fresh or self.last is None:
            return []
        self._fresh = False
        return leverage_reports(self.last, market, partition)


def leverage_reports(look: Look, market: Market, partition: int) -> list[LeverageReport]:
    """Every asset that is not of class cash, in the order of their definition."""
    sums, groups = look.sums, market.universe.asset_arrays.group
    reports = []
    for asset in range(market.universe.asset_count):
        group = int(groups[asset])
        if asset == USD or not 0 <= group < len(look.curves):
            continue
        curve = look.curves[group]
        held, claims, owed = float(sums.held[asset]), float(sums.claims[asset]), float(sums.owed[asset])
        pledged, looped = float(sums.pledged[asset]), float(sums.looped[asset])
        reports.append(
            LeverageReport(
                asset=market.universe.assets[asset].name,
                partition=partition,
                held_usd=held,
                pledged_usd=pledged,
                looped_usd=looped,
                claims_usd=claims,
                owed_usd=owed,
                encumbrance_multiple=multiple(claims, owed),
                pledged_share=share(pledged, held),
                looped_share=share(looped, held),
                depth_usd=market.depth_usd(asset),
                cascade=[
                    CascadePoint(fall=fall, accounts=int(curve.accounts[k]), volume_usd=float(curve.volume_usd[k, asset]))
                    for k, fall in enumerate(curve.falls)
                ],
                began_ns=look.began_ns,
                clock_ns=look.ended_ns,
            )
        )
    return reports


def _add_accounts(start: int, end: int, work: int, market: Market, columns: Columns, sums: Encumbrance, claims: Claims) -> tuple[int, int]:
    """(the next account, work done)."""
    next_, done = _add_claims(
        start, end, work, market.clock_ns, columns, prices_at(market, present_marks(market)), terms_of(market), sums, claims
    )
    return int(next_), int(done)


@kernel
def _add_claims(
    start: int,
    end: int,
    work: int,
    now_ns: int,
    columns: Columns,
    prices: Prices,
    terms: Terms,
    sums: Encumbrance,
    claims: Claims,
) -> tuple[int, int]:
    """Add accounts start..end, until `work` is used up."""
    done = 0
    into = terms.assets.redemption_asset
    for a in range(start, end):
        if done >= work:
            return a, done
        done += WEIGHED
        if columns.known[a] == 0 or columns.state[a] == _UNKNOWN_STATE or columns.positions[a] == 0:
            continue
        entries = look_through(
            wide(columns.positions[a]), columns.instrument[a], columns.quantity[a], columns.cash[a], now_ns, prices, terms, claims
        )
        owes = False
        for k in range(entries):
            owes = owes or claims.owed[k] > 0.0 or claims.delta[k] != 0.0
            at = claims.asset[k]
            if math.isnan(claims.held[k] + claims.owed[k]):
                continue
            sums.held[at] += claims.held[k]
            while at >= 0:
                sums.claims[at] += claims.held[k]
                sums.owed[at] += claims.owed[k]
                at = into[at]
        if not owes:
            continue
        done += TRACED
        for k in range(entries):
            sums.pledged[claims.asset[k]] += claims.held[k]
        set_off_receipts(entries, terms.assets, claims)
        trace(entries, terms.assets, prices, claims)
        if claims.amounts[LOOPED] == 0.0:
            continue
        for k in range(entries):
            for j in range(entries):
                sums.looped[claims.asset[j]] += claims.flow[k, j]
    return end, done
