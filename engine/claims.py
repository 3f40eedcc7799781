"""What an account holds and owes, looked through to the coins it claims, and which of its debts became collateral again.

Rules: docs/model.md, section 12. The kernels work on one account at a time, in arrays that are handed to them. Nothing here decides.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.market import Market
from engine.market_arrays import ValueTerms
from engine.pricing import black76_delta, year_fraction
from engine.table_rows import lot_value
from engine.tables import ASSETS_MAX, FUTURE, INVERSE_FUTURE, INVERSE_PERPETUAL, LOAN, OPTION, POSITIONS_MAX, SPOT
from engine.universe import CASH_CLASS, AssetArrays, InstrumentArrays

ENTRIES_MAX: Final = 2 * POSITIONS_MAX  # what an account has in one asset at one venue: the underlying's and the quote's of each position

# What `add_up` writes, USD.
HELD: Final = 0  # claims held, dollars included
OWED: Final = 1
COLLATERAL: Final = 2  # of what is held: all that is not of class cash
PASSED_ON: Final = 3  # coins held whose claim was handed on as a receipt
LOOPED: Final = 4  # debts that are collateral again
GROSS: Final = 5  # gross exposure
NET: Final = 6  # exposure after everything of one coin is netted
LONG: Final = 7  # what loses when all that is held falls and all that is owed stays
DERIVATIVES: Final = 8  # gross exposure of the derivatives in it
AMOUNTS: Final = 9

# Stages of `trace`, in this order: the first two set dollars at hand off against debts in dollars, the others are loops.
_STAGES: Final = 6
_FIRST_LOOP: Final = 2


class Prices(NamedTuple):
    """What a look at accounts values them by, [ASSETS_MAX] each."""

    mark: NDArray[np.float64]
    bound: NDArray[np.float64]  # of redemption, nan: none
    worth: NDArray[np.float64]  # USD that one unit claims
    root: NDArray[np.int64]  # the end of its redemption chain


class Terms(NamedTuple):
    """What turns lots into USD, whatever the marks."""

    instruments: InstrumentArrays
    assets: AssetArrays
    values: ValueTerms
    option_sigma: NDArray[np.float64]


class Claims(NamedTuple):
    """One account's entries by (venue, asset), in that order; USD at what is claimed."""

    venue: NDArray[np.int64]  # [ENTRIES_MAX]
    asset: NDArray[np.int64]
    balance: NDArray[np.float64]  # units, loans apart
    loan: NDArray[np.float64]  # units owed, >= 0
    delta: NDArray[np.float64]  # USD that derivatives gain when the asset doubles
    held: NDArray[np.float64]
    owed: NDArray[np.float64]
    held_left: NDArray[np.float64]  # scratch of `trace`, as the next three
    owed_left: NDArray[np.float64]
    held_before: NDArray[np.float64]
    owed_before: NDArray[np.float64]
    flow: NDArray[np.float64]  # [ENTRIES_MAX, ENTRIES_MAX]: from a debt (row) to collateral (column)
    amounts: NDArray[np.float64]  # [AMOUNTS]


def new_claims() -> Claims:
    """Room for one account."""

    def numbers() -> NDArray[np.float64]:
        return np.zeros(ENTRIES_MAX)

    return Claims(
        venue=np.zeros(ENTRIES_MAX, np.int64),
        asset=np.zeros(ENTRIES_MAX, np.int64),
        balance=numbers(),
        loan=numbers(),
        delta=numbers(),
        held=numbers(),
        owed=numbers(),
        held_left=numbers(),
        owed_left=numbers(),
        held_before=numbers(),
        owed_before=numbers(),
        flow=np.zeros((ENTRIES_MAX, ENTRIES_MAX)),
        amounts=np.zeros(AMOUNTS),
    )


def terms_of(market: Market) -> Terms:
    """The market's own arrays."""
    universe = market.universe
    return Terms(universe.instrument_arrays, universe.asset_arrays, market.values, market.inputs.option_sigma)


def prices_at(market: Market, marks: NDArray[np.float64]) -> Prices:
    """`marks` [ASSETS_MAX], nan where unknown, with what follows from them: a unit claims the furthest asset of its chain that has one."""
    assets, count = market.universe.asset_arrays, market.universe.asset_count
    prices = Prices(marks, np.full(ASSETS_MAX, math.nan), np.full(ASSETS_MAX, math.nan), np.zeros(ASSETS_MAX, np.int64))
    for asset in range(count):
        rate, at = 1.0, asset
        prices.worth[asset] = marks[asset]
        while (into := int(assets.redemption_asset[at])) >= 0:
            rate *= float(assets.redemption_rate[at])
            if at == asset:
                prices.bound[asset] = marks[into] * rate
            at = into
            if not math.isnan(marks[at]):
                prices.worth[asset] = marks[at] * rate
        prices.root[asset] = at
    return prices


def present_marks(market: Market) -> NDArray[np.float64]:
    """The marks as they are, nan where unknown; a copy."""
    return np.where(market.marks.status == 0, market.marks.mark, math.nan)


# ---- kernels ----------------------------------------------------------------------------------------------------------------------------


@kernel
def _entry(venue: int, asset: int, entries: int, venues: NDArray[np.int64], assets: NDArray[np.int64]) -> int:
    """Where (venue, asset) is, or belongs, among the first `entries`."""
    at = entries
    while at > 0 and (venues[at - 1] > venue or (venues[at - 1] == venue and assets[at - 1] >= asset)):
        at -= 1
    return at


@kernel
def _insert(
    venue: int,
    asset: int,
    entries: int,
    venues: NDArray[np.int64],
    assets: NDArray[np.int64],
    balance: NDArray[np.float64],
    loan: NDArray[np.float64],
    delta: NDArray[np.float64],
) -> tuple[int, int]:
    """Where the entry is once it is there, and how many there are then."""
    at = _entry(venue, asset, entries, venues, assets)
    if at < entries and venues[at] == venue and assets[at] == asset:
        return at, entries
    for k in range(entries, at, -1):
        venues[k] = venues[k - 1]
        assets[k] = assets[k - 1]
        balance[k] = balance[k - 1]
        loan[k] = loan[k - 1]
        delta[k] = delta[k - 1]
    venues[at] = venue
    assets[at] = asset
    balance[at] = 0.0
    loan[at] = 0.0
    delta[at] = 0.0
    return at, entries + 1


@kernel(inline=True)
def look_through(
    count: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    cash: NDArray[np.int64],
    now_ns: int,
    prices: Prices,
    terms: Terms,
    claims: Claims,
) -> int:
    """Entries of one account that can be valued, with `held` and `owed` before any receipt is set off. Returns how many."""
    of = terms.instruments
    # Each array by itself: to hand a tuple of arrays to another kernel costs more than what it does.
    venues, assets, balance, loan, deltas = claims.venue, claims.asset, claims.balance, claims.loan, claims.delta
    entries = 0
    claims.amounts[DERIVATIVES] = 0.0
    for slot in range(count):
        lots = float(quantity[slot])
        i = instrument[slot]
        venue = of.venue[i]
        asset = of.underlying[i]
        quote = of.quote[i]
        contract = of.contract[i]
        money = cash[slot] * of.cash_unit[i]
        units = lots * of.lot_size[i]
        if lots != 0.0 and contract == LOAN:
            at, entries = _insert(venue, asset, entries, venues, assets, balance, loan, deltas)
            units *= terms.values.debt_index[i]
            if lots < 0.0:
                loan[at] -= units
            else:
                balance[at] += units
        elif lots != 0.0 and contract == SPOT:
            at, entries = _insert(venue, asset, entries, venues, assets, balance, loan, deltas)
            balance[at] += units
        elif lots != 0.0:
            delta = units * prices.worth[asset]
            sigma = terms.option_sigma[i]
            expired = contract >= FUTURE and of.expiry_ns[i] <= now_ns
            if contract < OPTION or expired:  # with its cash, what it has gained; an unexpired option is held for its delta
                worth_usd = lot_value(i, lots > 0.0, prices.mark[asset], prices.bound[asset], now_ns, sigma, terms.values, of)
                money += lots * worth_usd / prices.mark[quote]
            if expired:
                delta = 0.0
            elif contract == INVERSE_PERPETUAL or contract == INVERSE_FUTURE:
                delta = units / (1.0 + terms.values.basis[i])
            elif contract >= OPTION:
                years = year_fraction(now_ns, of.expiry_ns[i])
                delta *= black76_delta(prices.mark[asset], of.strike[i], sigma, years, of.is_call[i], 1.0)
            else:
                delta *= 1.0 + terms.values.basis[i]
            at, entries = _insert(venue, asset, entries, venues, assets, balance, loan, deltas)
            deltas[at] += delta
            claims.amounts[DERIVATIVES] += abs(delta)
        if money != 0.0:
            at, entries = _insert(venue, quote, entries, venues, assets, balance, loan, deltas)
            balance[at] += money
    for k in range(entries):
        worth = prices.worth[assets[k]]
        claims.held[k] = max(0.0, balance[k]) * worth
        claims.owed[k] = (max(0.0, -balance[k]) + loan[k]) * worth
    return entries


@kernel
def value_at(
    count: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    cash: NDArray[np.int64],
    now_ns: int,
    prices: Prices,
    terms: Terms,
) -> float:
    """Unhaircut equity U at these prices (docs/model.md, section 3), volatilities and time as they are."""
    of = terms.instruments
    total = 0.0
    for slot in range(count):
        i = instrument[slot]
        if cash[slot] != 0:
            total += cash[slot] * of.cash_unit[i] * prices.mark[of.quote[i]]
        if quantity[slot] == 0:
            continue
        held = quantity[slot] > 0
        asset = of.underlying[i]
        mark, bound = prices.mark[asset], prices.bound[asset]
        total += quantity[slot] * lot_value(i, held, mark, bound, now_ns, terms.option_sigma[i], terms.values, of)
    return total


@kernel(inline=True)
def set_off_receipts(entries: int, assets: AssetArrays, claims: Claims) -> None:
    """A receipt that is owed where what it claims is held: the claim was handed on, and the coin is counted where the receipt lies."""
    passed = 0.0
    for k in range(entries):
        into = assets.redemption_asset[claims.asset[k]]
        while into >= 0 and claims.owed[k] > 0.0:
            at = _entry(claims.venue[k], into, entries, claims.venue, claims.asset)
            if at < entries and claims.venue[at] == claims.venue[k] and claims.asset[at] == into:
                both = min(claims.owed[k], claims.held[at])
                claims.owed[k] -= both
                claims.held[at] -= both
                passed += both
            into = assets.redemption_asset[into]
    claims.amounts[PASSED_ON] = passed


@kernel(inline=True)
def trace(entries: int, assets: AssetArrays, prices: Prices, claims: Claims) -> None:
    """Where borrowed money went, into `flow`: to collateral of the same coin first, then to any; at the same venue first, then anywhere.

    Within a stage debts and collateral of a class (a venue, a claimed coin, both, or all) are matched in proportion, so that the order of
    positions does not matter. Dollars at hand (class cash) pay for debts in dollars before anything else: nothing was bought with those.
    """
    venue, asset, root, flow = claims.venue, claims.asset, prices.root, claims.flow
    owed_left, held_left, owed_before, held_before = claims.owed_left, claims.held_left, claims.owed_before, claims.held_before
    looped = 0.0
    left = False
    for k in range(entries):
        owed_left[k] = claims.owed[k]
        held_left[k] = claims.held[k]
        left = left or claims.owed[k] > 0.0
        for j in range(entries):
            flow[k, j] = 0.0
    for stage in range(_STAGES):
        if not left:
            break
        left = False
        by_venue = stage % 2 == 0
        by_coin = stage < _FIRST_LOOP + 2
        for k in range(entries):
            is_cash = assets.asset_class[asset[k]] == CASH_CLASS
            owed_before[k] = owed_left[k]
            held_before[k] = held_left[k] if is_cash == (stage < _FIRST_LOOP) else 0.0
        for k in range(entries):
            if owed_before[k] <= 0.0:
                continue
            owed = 0.0
            held = 0.0
            for j in range(entries):
                if (not by_venue or venue[k] == venue[j]) and (not by_coin or root[asset[k]] == root[asset[j]]):
                    owed += owed_before[j]
                    held += held_before[j]
            if held <= 0.0:
                left = True
                continue
            most = max(owed, held)
            for j in range(entries):
                if held_before[j] <= 0.0 or (by_venue and venue[k] != venue[j]) or (by_coin and root[asset[k]] != root[asset[j]]):
                    continue
                moved = owed_before[k] * (held_before[j] / most)
                held_left[j] = max(0.0, held_left[j] - moved)
                if stage >= _FIRST_LOOP:
                    flow[k, j] += moved
                    looped += moved
            owed_left[k] = 0.0 if owed <= held else owed_before[k] * (1.0 - held / owed)
            left = left or owed_left[k] > 0.0
    claims.amounts[LOOPED] = looped


@kernel
def add_up(entries: int, assets: AssetArrays, prices: Prices, claims: Claims) -> None:
    """The account's sums, after receipts were set off and debts traced."""
    amounts = claims.amounts
    amounts[HELD] = 0.0
    amounts[OWED] = 0.0
    amounts[COLLATERAL] = 0.0
    amounts[NET] = 0.0
    amounts[LONG] = 0.0
    shorts = 0.0
    for k in range(entries):
        amounts[HELD] += claims.held[k]
        amounts[OWED] += claims.owed[k]
        amounts[LONG] += claims.delta[k]
        if assets.asset_class[claims.asset[k]] != CASH_CLASS:
            amounts[COLLATERAL] += claims.held[k]
        root = prices.root[claims.asset[k]]
        if assets.asset_class[root] == CASH_CLASS:
            continue
        first = True
        held = 0.0
        owed = 0.0
        delta = 0.0
        for j in range(entries):
            if prices.root[claims.asset[j]] == root:
                first = first and j >= k
                held += claims.held[j]
                owed += claims.owed[j]
                delta += claims.delta[j]
        if first:
            shorts += max(0.0, owed - held)
            amounts[NET] += abs(held - owed + delta)
    amounts[LONG] += amounts[COLLATERAL]
    amounts[GROSS] = amounts[COLLATERAL] + shorts + amounts[DERIVATIVES]
    amounts[LOOPED] = min(amounts[LOOPED], amounts[OWED])
