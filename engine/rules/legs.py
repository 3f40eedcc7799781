"""One venue's leg of an account: what it holds there, what is known of it, and what the venue's rule lacks.

Adapters (`engine.rules.adapters`) turn a `VenueLegs` into the arrays of a rule. What a rule needs and no position says is asked of
`Needs`: a number that nobody has given makes a sentence of what is missing, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

UNITS_OF_USD: Final = ("USD", "USDC")  # what venues that keep one dollar balance count as it


class Leg(NamedTuple):
    """One position. Money is USD, nan where it cannot be valued."""

    instrument: str
    contract: str  # engine.tables.CONTRACTS
    asset: str
    quote: str
    units: float  # of the asset, short or owed below 0; of inverse perpetuals and futures coins at the mark
    cash: float  # units of the quote
    cash_usd: float
    mark_usd: float  # of the asset
    value_usd: float  # of all, cash included
    strike_usd: float
    is_call: bool
    years: float  # to expiry, ACT/365; 0 where there is none
    sigma: float  # mark volatility of an option, annual decimal
    entry_usd: float  # average price; nan: not told

    @property
    def price_usd(self) -> float:
        """Of one unit of what is held, whatever the contract; nan of nothing."""
        return (self.value_usd - self.cash_usd) / self.units if self.units else math.nan


Given = Mapping[str, float | Mapping[str, float]]


class VenueLegs(NamedTuple):
    """All that an account holds at one venue; `marks` (USD) of every asset that has one; `given` is what the venue alone can say."""

    venue: str
    legs: list[Leg]
    marks: Mapping[str, float]
    given: Given


class Adapted(NamedTuple):
    """A rule's `Inputs` for one account, and what its `parts` call by number: `{"token 0": "token SOL"}`."""

    inputs: Any  # Inputs of the rule's module
    words: Mapping[str, str]


class Needs:
    """What a rule asks for beyond the positions, and everything that is missing, in words."""

    def __init__(self, given: Given) -> None:
        self.missing: list[str] = []
        self._given = given
        self._asked: set[str] = set()

    def refuse(self, leg: Leg, why: str) -> None:
        """The rule cannot take this position."""
        self.missing.append(f"{leg.instrument} ({leg.contract.replace('_', ' ')}): {why}")

    def lacks(self, why: str) -> None:
        """Something else that the rule needs is not there."""
        self.missing.append(why)

    def number(self, name: str, what: str) -> float:
        """`given.NAME`; nan, and a word of what is missing, where it isn't there."""
        self._asked.add(name)
        value = self._given.get(name)
        if isinstance(value, int | float):
            return float(value)
        self.lacks(f"given.{name}: is missing; it is {what}")
        return math.nan

    def optional(self, name: str, otherwise: float) -> float:
        """`given.NAME`, or what a venue takes that has heard of nothing of the kind."""
        self._asked.add(name)
        value = self._given.get(name, otherwise)
        if isinstance(value, int | float):
            return float(value)
        self.lacks(f"given.{name}: must be one number")
        return math.nan

    def of_asset(self, name: str, asset: str, what: str) -> float:
        """`given.NAME.ASSET`, as `number`."""
        path = f"{name}.{asset}"
        self._asked |= {name, path}
        values = self._given.get(name)
        value = values.get(asset) if isinstance(values, Mapping) else None
        if value is not None:
            return float(value)
        self.lacks(f"given.{path}: is missing; it is {what}")
        return math.nan

    def told(self) -> list[str]:
        """Everything that is missing, and whatever was given that nobody asked for; each once."""
        paths = [
            path
            for name, value in self._given.items()
            for path in ([f"{name}.{asset}" for asset in value] if isinstance(value, Mapping) and name in self._asked else [name])
        ]
        unasked = [f"given.{path}: the rule does not ask for it" for path in paths if path not in self._asked]
        return list(dict.fromkeys([*self.missing, *unasked]))


def one(value: float) -> NDArray[np.float64]:
    """(1,): what one account has."""
    return np.array([value], dtype=np.float64)


def floats(values: list[float]) -> NDArray[np.float64]:
    """(n,) doubles, also of nothing."""
    return np.array(values, dtype=np.float64)


def integers(values: list[int]) -> NDArray[np.int64]:
    """(n,) indices, also of nothing."""
    return np.array(values, dtype=np.int64)


def offsets(legs: int) -> NDArray[np.int64]:
    """(2,): one account that has all legs."""
    return np.array([0, legs], dtype=np.int64)
