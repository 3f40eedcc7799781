"""Legs of many accounts at one venue: what they hold there, what is known of it, and what the venue's rule lacks.

Adapters (`engine.rules.adapters`) turn a `VenueLegs` into the arrays of a rule, without a loop over accounts. What a rule needs and no
position says is asked of `Needs`: a number that nobody has given leaves the accounts that need it without one, never with a guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.tables import CONTRACTS

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

UNITS_OF_USD: Final = ("USD", "USDC")  # what venues that keep one dollar balance count as it

Given = Mapping[str, float | Mapping[str, float]]


class Within(NamedTuple):
    """Where a number that is given must lie to mean anything."""

    least: float
    most: float = math.inf

    def __str__(self) -> str:
        return f"from {self.least:g} to {self.most:g}" if math.isfinite(self.most) else f"{self.least:g} or more"


ANY: Final = Within(-math.inf)
NOT_NEGATIVE: Final = Within(0.0)
SHARE: Final = Within(0.0, 1.0)


class Legs(NamedTuple):
    """Positions, (legs,) each but `start`: those of account a are start[a] to start[a + 1]. Money is USD, nan where it cannot be valued.

    Contract, asset, quote, strike, side, expiry and volatility are those of the instrument, the same wherever it is held.
    """

    start: Integers  # (accounts + 1,)
    instrument: Integers  # index into VenueLegs.instruments
    contract: Integers  # code, engine.tables.CONTRACTS
    asset: Integers  # index into VenueLegs.assets
    quote: Integers  # likewise
    units: Floats  # of the asset, short or owed below 0; of inverse perpetuals and futures coins at the mark
    cash: Floats  # of contracts, units of the quote; of balances and debts none: it is a balance of the quote, a leg of its own
    cash_usd: Floats
    mark_usd: Floats  # of the asset
    value_usd: Floats  # of all, cash included
    strike_usd: Floats
    is_call: Bools
    years: Floats  # to expiry, ACT/365; 0 where there is none
    sigma: Floats  # mark volatility of an option, annual decimal
    entry_usd: Floats  # average price of a unit; nan: not told
    buys: Floats  # units that open orders may add
    sells: Floats  # units that they may take


class VenueLegs(NamedTuple):
    """Legs at one venue with the names of what they are of; `given` is what the venue alone can say."""

    venue: str
    legs: Legs
    instruments: Sequence[str]
    assets: Sequence[str]
    mark_usd: Floats  # (assets,), nan where there is none
    given: Given

    @property
    def accounts(self) -> int:
        return len(self.legs.start) - 1

    @property
    def account(self) -> Integers:
        """(legs,): whose each leg is."""
        return np.repeat(np.arange(self.accounts, dtype=np.int64), np.diff(self.legs.start))

    @property
    def price_usd(self) -> Floats:
        """(legs,): of one unit of what is held, whatever the contract; nan of nothing."""
        legs = self.legs
        price = np.full(len(legs.units), np.nan)
        np.divide(legs.value_usd - legs.cash_usd, legs.units, out=price, where=legs.units != 0.0)
        return price

    def numbers_of(self, names: Sequence[str]) -> Integers:
        """(names,): the asset of each name, -1 where no asset is called so."""
        numbers = {name: number for number, name in enumerate(self.assets)}
        return np.array([numbers.get(name, -1) for name in names], np.int64)

    def places_of(self, names: Sequence[str]) -> Integers:
        """(assets,): which of `names` each asset is, -1 where it is none."""
        places = {name: k for k, name in enumerate(names)}
        return np.array([places.get(name, -1) for name in self.assets], np.int64)

    def by_name(self, values: Floats, names: Sequence[str]) -> Floats:
        """(names,): of `values` (assets,) that of the asset of each name, nan where no asset is called so."""
        numbers, found = self.numbers_of(names), np.full(len(names), np.nan)
        found[numbers >= 0] = values[numbers[numbers >= 0]]
        return found

    def marks_of(self, names: Sequence[str]) -> Floats:
        """(names,): the mark of the asset of each name, nan where there is none."""
        return self.by_name(self.mark_usd, names)

    def of(self, *contracts: int) -> Bools:
        """(legs,): which are one of these contracts, codes."""
        wanted = np.zeros(len(CONTRACTS), np.bool_)
        wanted[list(contracts)] = True
        return wanted[self.legs.contract]

    def starts_of(self, which: Bools) -> Integers:
        """(accounts + 1,): offsets into the legs that `which` (legs,) leaves, in their order."""
        before = np.concatenate(([0], np.cumsum(which, dtype=np.int64)))
        return before[self.legs.start]

    def sums(self, values: Floats) -> Floats:
        """(accounts,): by account, of (legs,); added in the order of legs, so that a batch is each account alone to the last bit."""
        return np.bincount(self.account, weights=values, minlength=self.accounts).astype(np.float64)

    def netted(self, which: Bools, place: Integers, places: int) -> Netted:
        """One entry for each account and place of `which` (legs,); `place` (legs,) is from 0 to below `places` there."""
        keys, entry = np.unique(self.account[which] * places + place[which], return_inverse=True)
        start = np.searchsorted(keys, np.arange(self.accounts + 1) * places).astype(np.int64)
        return Netted(start, keys % places, entry.astype(np.int64), which)

    def firsts(self, which: Bools) -> Integers:
        """(accounts,): each account's first leg of `which` (legs,), -1 where it has none."""
        chosen, start = np.flatnonzero(which), self.starts_of(which)
        found, some = np.full(self.accounts, -1, np.int64), start[1:] > start[:-1]
        found[some] = chosen[start[:-1][some]]
        return found

    def mixed(self, which: Bools) -> Bools:
        """(accounts,): whose legs of `which` (legs,) are of more than one asset."""
        asset, account, found = self.legs.asset, self.account, np.zeros(self.accounts, np.bool_)
        found[account[which & (asset != asset[self.firsts(which)[account]])]] = True
        return found

    def assets_of(self, account: int, which: Bools) -> str:
        """The assets of one account's legs of `which` (legs,), in words."""
        legs = slice(self.legs.start[account], self.legs.start[account + 1])
        return ", ".join(dict.fromkeys(self.assets[asset] for asset in self.legs.asset[legs][which[legs]].tolist()))

    def only(self, accounts: Integers) -> VenueLegs:
        """The same of these accounts alone (indices)."""
        counts = np.diff(self.legs.start)[accounts]
        start = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        chosen = np.repeat(self.legs.start[accounts] - start[:-1], counts) + np.arange(start[-1])
        return self._replace(legs=Legs(start, *(values[chosen] for values in self.legs[1:])))


class Netted(NamedTuple):
    """Legs of which an account has one for each place (a token, a market), however many positions it is made of."""

    start: Integers  # (accounts + 1,): offsets into what follows
    place: Integers  # (entries,), rising within an account
    entry: Integers  # (chosen legs,): into which entry each goes
    chosen: Bools  # (legs,)

    def sums(self, values: Floats) -> Floats:
        """(entries,): of `values` (legs,), added in the order of legs."""
        return np.bincount(self.entry, weights=values[self.chosen], minlength=len(self.place)).astype(np.float64)


class Adapted(NamedTuple):
    """A rule's `Inputs` for `accounts` of the legs (indices, rising).

    `words` gives what the rule's `parts` call by number, for one account: `{"token 0": "token SOL"}`.
    """

    accounts: Integers
    inputs: Any  # Inputs of the rule's module
    words: Callable[[], Mapping[str, str]] = dict


class Needs:
    """What a rule asks for beyond the positions; which accounts it cannot take, and everything that is missing, in words.

    Words are made when somebody asks for them: thousands of accounts are told apart by `not_taken` and `lacking` alone.
    """

    def __init__(self, held: VenueLegs) -> None:
        self.not_taken = np.zeros(held.accounts, np.bool_)  # for a position of theirs, or for what they hold together
        self.lacking = np.zeros(held.accounts, np.bool_)  # a number that the venue must give
        self.faults: list[str] = []  # of what is given, whatever the legs: no number where there must be one, or one that means nothing
        self._held = held
        self._account = held.account
        self._why: list[Callable[[], list[str]]] = []
        self._asked: set[str] = set()

    # ---- what cannot be taken ----

    def refuse(self, legs: Bools, why: str) -> None:
        """The rule cannot take these positions, (legs,); `{asset}` and `{quote}` in `why` stand for those of each."""
        if legs.any():
            self.not_taken[self._account[legs]] = True
            self._why.append(lambda: [self._refusal(leg, why) for leg in np.flatnonzero(legs).tolist()])

    def refuse_accounts(self, accounts: Bools, why: Callable[[int], str]) -> None:
        """The rule cannot take what these accounts, (accounts,), hold together; `why` says it of one."""
        if accounts.any():
            self.not_taken |= accounts
            self._why.append(lambda: [why(account) for account in np.flatnonzero(accounts).tolist()])

    # ---- what the venue alone can say ----

    def number(self, name: str, what: str, within: Within = ANY) -> float:
        """`given.NAME`; nan where it isn't there, which every account lacks."""
        self._asked.add(name)
        if name in self._held.given:
            return self._one_number(name, self._held.given[name], within)
        self.lacking[:] = True
        self._why.append(lambda: [f"given.{name}: is missing; it is {what}"])
        return float("nan")

    def optional(self, name: str, otherwise: float, within: Within = ANY) -> float:
        """`given.NAME`, or what a venue takes that has heard of nothing of the kind."""
        self._asked.add(name)
        return self._one_number(name, self._held.given.get(name, otherwise), within)

    def number_or_by_asset(self, name: str, accounts: Integers, assets: Integers, what: str, within: Within = ANY) -> Floats:
        """(assets of the legs,): `given.NAME`, the same for all assets, or `given.NAME.ASSET` as `by_asset` has it."""
        if isinstance(self._held.given.get(name), Mapping):
            return self.by_asset(name, accounts, assets, what, within)
        return np.full(len(self._held.assets), self.number(name, what, within))

    def fault(self, why: str) -> None:
        """Something that is given means nothing to the rule: every account lacks it."""
        self.lacking[:] = True
        self.faults.append(why)

    def by_asset(self, name: str, accounts: Integers, assets: Integers, what: str, within: Within = ANY) -> Floats:
        """(assets of the legs,): `given.NAME.ASSET`, nan where it is not given.

        `accounts` and `assets` are pairs: the account needs the number of that asset.
        """
        self._asked.add(name)
        values = self._held.given.get(name, {})
        if not isinstance(values, Mapping):
            self.fault(f"given.{name}: must be numbers by asset")
            values = {}
        for asset, value in values.items():
            if not within.least <= value <= within.most:
                self.fault(f"given.{name}.{asset}: {value:g} is not {within}")
        found = np.array([values.get(asset, np.nan) for asset in self._held.assets], np.float64)
        self._asked |= {f"{name}.{asset}" for asset in self._names(assets)}
        missing = np.isnan(found[assets])
        if missing.any():
            self.lacking[accounts[missing]] = True
            self._why.append(lambda: [f"given.{name}.{asset}: is missing; it is {what}" for asset in self._names(assets[missing])])
        return found

    # ---- in words ----

    def missing(self) -> list[str]:
        """Everything that is missing or wrong, each once. Meant for one account."""
        return list(dict.fromkeys([*(line for why in self._why for line in why()), *self.faults]))

    def told(self) -> list[str]:
        """The same, and whatever was given that these legs do not ask for."""
        return [*self.missing(), *self.unasked()]

    def unasked(self, *, by_asset: bool = True) -> list[str]:
        """What was given that the rule does not ask for; `by_asset`: of these legs also, not only of any."""
        paths: list[str] = []
        for name, value in self._held.given.items():
            if isinstance(value, Mapping) and name in self._asked:
                paths += [f"{name}.{asset}" for asset in value] if by_asset else []
            else:
                paths.append(name)
        return [f"given.{path}: the rule does not ask for it" for path in paths if path not in self._asked]

    def _one_number(self, name: str, value: float | Mapping[str, float], within: Within) -> float:
        if isinstance(value, Mapping):
            self.fault(f"given.{name}: must be one number")
            return float("nan")
        if not within.least <= value <= within.most:
            self.fault(f"given.{name}: {value:g} is not {within}")
            return float("nan")
        return float(value)

    def _names(self, assets: Integers) -> list[str]:
        """Of the assets that are among these, each once, in their order."""
        among = np.zeros(len(self._held.assets), np.bool_)
        among[assets] = True
        return [self._held.assets[asset] for asset in np.flatnonzero(among).tolist()]

    def _refusal(self, leg: int, why: str) -> str:
        legs, names = self._held.legs, self._held.assets
        instrument, contract = self._held.instruments[legs.instrument[leg]], CONTRACTS[legs.contract[leg]].replace("_", " ")
        return f"{instrument} ({contract}): {why.format(asset=names[legs.asset[leg]], quote=names[legs.quote[leg]])}"


def empty_legs(start: Integers, legs: int) -> Legs:
    """Room for so many legs, nothing of it filled but the offsets."""

    def numbers() -> Integers:
        return np.empty(legs, np.int64)

    def doubles() -> Floats:
        return np.empty(legs, np.float64)

    return Legs(
        start=start,
        instrument=numbers(),
        contract=numbers(),
        asset=numbers(),
        quote=numbers(),
        units=doubles(),
        cash=doubles(),
        cash_usd=doubles(),
        mark_usd=doubles(),
        value_usd=doubles(),
        strike_usd=doubles(),
        is_call=np.empty(legs, np.bool_),
        years=doubles(),
        sigma=doubles(),
        entry_usd=doubles(),
        buys=doubles(),
        sells=doubles(),
    )


def no_legs(venue: str, given: Given) -> VenueLegs:
    """Of no account: what a rule asks for can be seen from it."""
    return VenueLegs(venue, empty_legs(np.zeros(1, np.int64), 0), [], [], np.zeros(0), given)
