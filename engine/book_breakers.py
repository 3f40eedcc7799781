"""A book's own circuit breakers: budgets used up, venues that do not answer, bad debt. Rules: docs/model.md, section 7."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.breakers import (
    BAD_DEBT,
    BREAKER_STATES,
    CLOSED,
    LIQUIDATION_VOLUME,
    TRIPPED,
    VENUE_SILENCE,
    Breakers,
    advance,
    new_breakers,
    switch_off,
)
from engine.limits import Limits
from engine.market import Market
from engine.market_breakers import BreakerChange
from engine.rows import PIECE_PREFIX, decode_piece, encode_piece
from engine.tables import ASSETS_MAX, VENUES_MAX

BOOK: Final = "book"  # the name of the one breaker that a book has for its bad debt

BAD_DEBT_TRIP: Final = 1.0
BAD_DEBT_RESET: Final = 0.8
MINUTE_NS: Final = 60 * 1_000_000_000
NS_PER_S: Final = 1_000_000_000
MICRO: Final = 1_000_000
DEBT_CEILING_USD: Final = 1e12  # of one account, as counted: its micro-USD are within 64 bits
BREAKERS_PIECE: Final = PIECE_PREFIX + b"book:breakers"


class BookBreakers:
    """The three kinds with their state, all of which is in the cut.

    They are looked at once a tick, when the orders whose time is over have ended and nothing is planned yet.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self.volume = new_breakers(ASSETS_MAX)
        self.silence = new_breakers(VENUES_MAX)
        self.debt = new_breakers(1)
        self.unheard = np.zeros(VENUES_MAX, np.int64)  # orders in a row that ended by their time without a word
        self.debt_minute = -1  # of the last tick

    # ---- what it is told ----

    def count_silence(self, venue: int) -> None:
        """An order to this venue ended by its time without a word."""
        self.unheard[venue] += 1

    def hear(self, venues: int | NDArray[np.int32]) -> None:
        """A report or a fill came from this venue, or these."""
        self.unheard[venues] = 0

    # ---- what follows ----

    @property
    def refuses_risk(self) -> bool:
        """Whether the book refuses new risk because of its bad debt."""
        return bool(self.debt.state[0] != CLOSED)

    def mark_silent(self, frozen_venues: NDArray[np.bool_]) -> None:
        """Marks venues that the planner takes for frozen, in an array [VENUES_MAX]."""
        frozen_venues |= self.silence.state != CLOSED

    def advance(self, market: Market, limits: Limits, unhaircut_usd: Callable[[], NDArray[np.float64]]) -> list[BreakerChange]:
        """One step of each. `unhaircut_usd` gives that of all accounts, nan where not known, once a minute. Answers what changed."""
        universe, parameters, now_ns = market.universe, market.parameters, market.clock_ns
        if not market.live:
            return []
        assets, venues = range(universe.asset_count), range(len(universe.venues))
        new_minute = now_ns // MINUTE_NS > self.debt_minute  # noted while breakers are off too, so that they don't look back
        self.debt_minute = max(self.debt_minute, now_ns // MINUTE_NS)
        if not parameters.breakers_enabled:
            return [
                *(self._told(LIQUIDATION_VOLUME, a, self.volume, market) for a in assets if switch_off(a, now_ns, self.volume)),
                *(self._told(VENUE_SILENCE, v, self.silence, market) for v in venues if switch_off(v, now_ns, self.silence)),
                *(self._told(BAD_DEBT, k, self.debt, market) for k in range(1) if switch_off(k, now_ns, self.debt)),
            ]
        cooldown_ns = int(parameters.cooldown_s * NS_PER_S)
        changes = []
        for a in assets:
            cap = float(limits.cap_usd[a])
            spent = 1.0 - float(limits.budget_usd[a]) / cap if cap > 0.0 else 0.0
            if advance(a, spent, parameters.volume_trip, parameters.volume_reset, cooldown_ns, now_ns, self.volume):
                changes.append(self._told(LIQUIDATION_VOLUME, a, self.volume, market))
        for v in venues:
            many = parameters.silence_trip - 0.5  # "so many or more" of whole numbers
            if advance(v, float(self.unheard[v]), many, many, cooldown_ns, now_ns, self.silence):
                if self.silence.state[v] == TRIPPED:
                    self.unheard[v] = 0  # what was counted has had its effect: nothing more is sent there that could be answered
                changes.append(self._told(VENUE_SILENCE, v, self.silence, market))
        if new_minute:
            share = _debt_usd(unhaircut_usd()) / (parameters.bad_debt_limit_usd / self._partitions)
            if advance(0, share, BAD_DEBT_TRIP, BAD_DEBT_RESET, cooldown_ns, now_ns, self.debt):
                changes.append(self._told(BAD_DEBT, 0, self.debt, market))
        return changes

    def opened(self, market: Market) -> list[tuple[str, str, str]]:
        """(trigger, name, state) of every breaker that was ever open."""
        kinds = ((LIQUIDATION_VOLUME, self.volume), (VENUE_SILENCE, self.silence), (BAD_DEBT, self.debt))
        return [
            (trigger, _name(trigger, k, market), BREAKER_STATES[breakers.state[k]])
            for trigger, breakers in kinds
            for k in np.flatnonzero(breakers.since_ns).tolist()
        ]

    # ---- the cut ----

    def pieces(self, assets: int, venues: int) -> dict[bytes, bytes]:
        """Everything here, for so many assets and venues."""
        content = (
            [column[:assets].tolist() for column in self.volume],
            [column[:venues].tolist() for column in self.silence],
            [column.tolist() for column in self.debt],
            self.unheard[:venues].tolist(),
            self.debt_minute,
        )
        return {BREAKERS_PIECE: encode_piece(content)}

    def restore(self, pieces: dict[bytes, bytes]) -> None:
        """The inverse of `pieces`."""
        if BREAKERS_PIECE not in pieces:
            return
        content: list[Any] = decode_piece(pieces[BREAKERS_PIECE])
        for breakers, columns in zip((self.volume, self.silence, self.debt), content[:3], strict=True):
            for name, values in zip(breakers._fields, columns, strict=True):
                getattr(breakers, name)[: len(values)] = values
        self.unheard[: len(content[3])] = content[3]
        self.debt_minute = content[4]

    # ---- words ----

    def _told(self, trigger: str, index: int, breakers: Breakers, market: Market) -> BreakerChange:
        p = market.parameters
        limits = {LIQUIDATION_VOLUME: p.volume_trip, VENUE_SILENCE: float(p.silence_trip), BAD_DEBT: BAD_DEBT_TRIP}
        state, since_ns, value = BREAKER_STATES[breakers.state[index]], int(breakers.since_ns[index]), float(breakers.value[index])
        return BreakerChange(trigger, _name(trigger, index, market), state, since_ns, value, limits[trigger])


def _name(trigger: str, index: int, market: Market) -> str:
    if trigger == LIQUIDATION_VOLUME:
        return market.universe.assets[index].name
    return market.universe.venues[index].name if trigger == VENUE_SILENCE else BOOK


def _debt_usd(unhaircut_usd: NDArray[np.float64]) -> float:
    """What all accounts owe beyond what they have: whole micro-USD, so that the order of accounts does not matter."""
    owed = np.minimum(-unhaircut_usd[unhaircut_usd < 0.0], DEBT_CEILING_USD)  # nan compares false
    micro: list[int] = np.rint(owed * MICRO).astype(np.int64).tolist()
    return sum(micro) / MICRO
