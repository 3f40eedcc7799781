"""Rules of venues in exact fractions, one account at a time: Deribit, SPAN, Bybit, OKX, Hyperliquid, Dederi.

Each function gives (equity, initial, maintenance, gross notional) in USD. Positions and parameters are plain values by name.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import floor
from typing import Any

Row = tuple[Fraction, Fraction, Fraction, Fraction]
Values = Mapping[str, Any]

ZERO = Fraction(0)
FAR_MOVES = tuple(Fraction(percent, 100) for percent in (-66, -33, 50, 100, 200, 300, 400, 500))


def deribit(legs: Sequence[Values], account: Values, terms: Values) -> Row:
    """A vector of gains for each position, summed by move; every far move's gain as dollars at the moved price, and back."""
    index, width = _exact(account["index_usd"]), _exact(terms["price_range"])
    sizes = [_exact(leg["size"]) for leg in legs]
    losses = [ZERO]
    steps = terms["buckets_a_side"]
    for move in [width * step / steps for step in range(-steps, steps + 1)]:
        gain = sum((size - size / (1 + move) for size in sizes), ZERO)
        losses.append(-_offset(gain, index * (1 + move), terms))
    for move in FAR_MOVES:
        end = index * (1 + width if move > 0 else 1 - width)
        dollars = sum((size * index * move for size in sizes), ZERO) * _exact(terms["extended_table_factor"]) * width / abs(move)
        gain = _offset(dollars / end, end, terms)
        taken = max(abs(move) / width - 1, ZERO) * _exact(terms["extended_dampener_usd"]) / end
        losses.append(-(max(gain - taken, ZERO) if gain > 0 else min(gain + taken, ZERO)))
    roll = ZERO
    for leg in legs:
        by_time = _exact(terms["annualised_move_risk"]) * _exact(leg["years"])
        roll += abs(_exact(leg["size"])) * max(by_time, _exact(terms["min_annualised_move"]))
    delta = abs(sum(sizes, ZERO))
    beyond = max(delta - _exact(terms["delta_shock_threshold_usd"]) / index, ZERO)
    shock = delta * min(_exact(terms["m_inc"]) * beyond, _exact(terms["max_delta_shock"]))
    matrix = _rounded(max(losses)) + roll + shock + _exact(account["correlation_contingency"])
    initial = _rounded(matrix + sum((_exact(account[name]) for name in ("mmp_margin", "open_orders_margin", "spot_margin")), ZERO))
    gross = sum((abs(size) for size in sizes), ZERO)
    maintenance = _exact(terms["mm_factor"]) * matrix
    return _exact(account["equity"]) * index, initial * index, maintenance * index, gross * index


def span(legs: Sequence[Values], instruments: Sequence[Values], account: Values, terms: Values) -> Row:
    """Legs by commodity, each with the charge for spreads that stands at it."""
    by_commodity: dict[int, list[tuple[Fraction, Values]]] = {}
    charges: dict[int, Fraction] = {}
    gross = ZERO
    for leg in legs:
        instrument = instruments[leg["instrument"]]
        by_commodity.setdefault(instrument["commodity"], []).append((_exact(leg["quantity"]), instrument))
        charges[instrument["commodity"]] = charges.get(instrument["commodity"], ZERO) + _exact(leg["spread_charge_usd"])
        gross += abs(_exact(leg["quantity"])) * _exact(instrument["notional_usd"])
    maintenance = ZERO
    for commodity, held in by_commodity.items():
        totals = [sum((units * _exact(one["gain_usd"][number]) for units, one in held), ZERO) for number in range(16)]
        shorts = sum((-units for units, one in held if units < 0 and one["is_option"]), ZERO)
        value = sum((units * _exact(one["option_value_usd"]) for units, one in held), ZERO)
        risk = max(ZERO, -min(totals)) + charges[commodity]
        maintenance += max(ZERO, max(risk, shorts * _exact(terms["short_option_minimum_usd"])) - value)
    return _exact(account["equity_usd"]), _exact(terms["initial_factor"]) * maintenance, maintenance, gross


def bybit(legs: Sequence[Values], account: Values, terms: Values) -> Row:
    """Short options only."""
    initial, maintenance, gross = ZERO, ZERO, ZERO
    for leg in legs:
        index, strike, entry, mark = (_exact(leg[name]) for name in ("index_usd", "strike_usd", "entry_usd", "mark_usd"))
        size = _exact(leg["size"])
        gross += abs(size) * index
        if size > 0:
            continue
        factor, fee = _exact(terms["maintenance_factor"]), _exact(terms["liquidation_fee_rate"])
        one_mm = max(factor * index, factor * mark) + mark + fee * index
        outside = max(ZERO, strike - index if leg["is_call"] else index - strike)
        high, low = _exact(terms["initial_factor_max"]), _exact(terms["initial_factor_min"])
        one_im = max(max(high * index - outside, low * index) + max(entry, mark), one_mm)
        initial += abs(size) * one_im
        maintenance += abs(size) * one_mm
    return _exact(account["equity_usd"]), initial, maintenance, gross


def okx(legs: Sequence[Values], account: Values, terms: Values) -> Row:
    """Each tier's width times its rate."""
    maintenance, gross = _exact(account["other_maintenance_usd"]), ZERO
    for leg in legs:
        hedged = abs(_exact(leg["hedged_usd"]))
        gross += hedged
        row = next(number for number, least in enumerate(terms["price_floors"]) if leg["stablecoin_usd"] >= least)
        begin = ZERO
        for end, rate in zip([*terms["tier_ends_usd"], None], terms["rates"][row], strict=True):
            last = hedged if end is None else min(hedged, _exact(end))
            maintenance += max(last - begin, ZERO) * _exact(rate)
            begin = max(last, begin)
    return _exact(account["equity_usd"]), _exact(terms["initial_factor"]) * maintenance, maintenance, gross


def hyperliquid(legs: Sequence[Values], account: Values, terms: Values) -> Row:
    """Room to borrow and room to liquidation, each less than equity by what the row calls a requirement."""
    cash, gross, borrowable, value = _exact(account["cash_usd"]), ZERO, ZERO, ZERO
    for leg in legs:
        price, ratio = _exact(leg["price_usd"]), _exact(leg["loan_to_value"])
        gross += _exact(leg["balance"]) * price
        counted = min(_exact(leg["balance"]), _exact(leg["supply_cap"])) * price
        borrowable += counted * ratio
        value += min(counted * (1 + ratio) / 2, _exact(terms["borrow_cap_usd"]))
    owed = max(-cash, ZERO)
    needed = _exact(account["perp_maintenance_usd"]) + owed
    needed += _exact(terms["borrow_offset_usd"]) if needed > 0 else ZERO
    equity = gross + cash
    maintenance = equity - (value + max(cash, ZERO) - needed / _exact(terms["liquidation_ratio"]))
    return equity, max(equity - (borrowable - owed), maintenance), maintenance, gross


def dederi(legs: Sequence[Values], account: Values, terms: Values) -> Row:
    """Worst of the shocks, and contingency."""
    held = [(_exact(leg["quantity"]), _exact(leg["price_usd"])) for leg in legs]
    gains = [sum((quantity * (price * (1 + _exact(shock)) - price) for quantity, price in held), ZERO) for shock in terms["shocks"]]
    units = sum((abs(quantity) for quantity, _ in held), ZERO)
    maintenance = max(ZERO, -min(gains)) + _exact(terms["contingency_factor"]) * _exact(account["index_usd"]) * units
    gross = sum((abs(quantity * price) for quantity, price in held), ZERO)
    return _exact(account["equity_usd"]), _exact(terms["initial_factor"]) * maintenance, maintenance, gross


def _exact(value: float) -> Fraction:
    return Fraction(value)


def _offset(gain: Fraction, price: Fraction, terms: Values) -> Fraction:
    return gain if gain <= 0 else min(_exact(terms["pnl_offset"]) * gain, _exact(terms["max_offsetable_pnl_usd"]) / price)


def _rounded(coins: Fraction) -> Fraction:
    return Fraction(floor(coins * 10**9 + Fraction(1, 2)), 10**9)
