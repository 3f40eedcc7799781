"""What positions gain as market inputs move a little: delta, gamma, vega, theta and rho of positions and accounts. For reports.

All are derivatives of the USD value that docs/model.md, section 3 gives a position, at the engine's own marks, implied volatilities
and clock, by the formulas of engine.pricing, stated for the moves that desks speak of:

- delta: units of the underlying that move as the position does; `delta_usd`, those at the mark (the gain of a rise by 100 % at
  today's slope);
- gamma: the change of `delta`, at the mark, when the price rises by 1 %;
- vega: the gain when the implied volatility rises by a point (0.01);
- theta: the gain of a day (1/365 of a year) in which mark and volatility stay;
- rho: the gain when the rate rises by 1 % with the mark held as a spot price, from which the forward grows by the rate:
  t (F delta - value), as Deribit shows it.

An inverse contract is valued in USD like everything else, so its greeks are those of the USD value with the number of contracts and
of coins held: an inverse option has the linear one's, the lots of an inverse perpetual or future have none, and coin cash moves with
the coin: it counts as delta. What is past its expiry moves only if it is owed in coin. What is of class cash has no greeks.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from engine.market import Market
from engine.pricing import black76_delta, black76_gamma, black76_price, black76_theta, black76_vega, year_fraction
from engine.reasons import Unknown
from engine.tables import CASH_UNKNOWN, DELTA_LONG, DELTA_SHORT, LOAN, SCAN_ROW, SPOT, UNIT_UNKNOWN

POINT: Final = 0.01  # of volatility, rate or price
DAYS_PER_YEAR: Final = 365.0


class PositionGreeks(Struct, frozen=True, kw_only=True):
    """Of one position; everything is None where it cannot be valued, and `unknown` says why."""

    venue: str
    instrument: str
    asset: str
    quote: str
    delta: float | None  # units of `asset`, with coin cash where the quote is the asset
    delta_usd: float | None
    gamma_usd: float | None
    vega_usd: float | None
    theta_usd: float | None
    rho_usd: float | None
    quote_delta: float | None  # units of `quote` held as cash, where that is another asset that has a price to move
    quote_delta_usd: float | None
    unknown: str


class AssetGreeks(Struct, frozen=True, kw_only=True):
    """Sums over an account's positions by what they move with; None where one of them cannot be valued."""

    asset: str
    delta: float | None
    delta_usd: float | None
    gamma_usd: float | None
    vega_usd: float | None
    theta_usd: float | None
    rho_usd: float | None


class AccountGreeks(Struct, frozen=True, kw_only=True):
    """Of an account: by underlying, in the order of its positions, and by position. Deltas of different assets are never added up."""

    by_asset: list[AssetGreeks]
    by_position: list[PositionGreeks]


def account_greeks(market: Market, instrument: Sequence[int], quantity: Sequence[int], cash: Sequence[int]) -> AccountGreeks:
    """Of the positions of one account, as slots of instrument numbers, lots and cash units. `market` must have been revalued."""
    positions = [position_greeks(market, *slot) for slot in zip(instrument, quantity, cash, strict=True)]
    return AccountGreeks(by_asset=sums_by_asset(market, positions), by_position=positions)


def position_greeks(market: Market, i: int, lots: int, cash: int) -> PositionGreeks:
    """Of `lots` and `cash` units of instrument number `i`."""
    universe, ints = market.universe, market.tables.instrument_int
    terms = universe.instrument_arrays
    definition = universe.instruments[i]
    asset, quote = int(terms.underlying[i]), int(terms.quote[i])
    codes = [int(ints[i, column]) for held, column in ((lots, UNIT_UNKNOWN), (cash, CASH_UNKNOWN)) if held and ints[i, column]]
    names = {"venue": definition.venue, "instrument": definition.name, "asset": definition.underlying, "quote": definition.quote}
    if codes:
        return PositionGreeks(
            **names,
            delta=None,
            delta_usd=None,
            gamma_usd=None,
            vega_usd=None,
            theta_usd=None,
            rho_usd=None,
            quote_delta=None,
            quote_delta_usd=None,
            unknown=Unknown(min(codes)).name.lower(),
        )
    units, units_usd, gamma, vega, theta, rho = _of_lots(market, i, lots)
    coins = coins_usd = 0.0
    if cash and _moves(market, quote):
        coins = cash * float(terms.cash_unit[i])
        coins_usd = coins * float(market.marks.mark[quote])
    same = quote == asset
    return PositionGreeks(
        **names,
        delta=units + (coins if same else 0.0),
        delta_usd=units_usd + (coins_usd if same else 0.0),
        gamma_usd=gamma,
        vega_usd=vega,
        theta_usd=theta,
        rho_usd=rho,
        quote_delta=0.0 if same else coins,
        quote_delta_usd=0.0 if same else coins_usd,
        unknown="",
    )


def sums_by_asset(market: Market, positions: Sequence[PositionGreeks]) -> list[AssetGreeks]:
    """By every asset that a position moves with; cash assets are left out."""
    order: dict[str, None] = {}
    for position in positions:
        order[position.asset] = None
        if position.quote_delta != 0.0:
            order[position.quote] = None
    sums = []
    for asset in order:
        number = market.universe.asset_number(asset)
        if number is None or not _moves(market, number):
            continue
        own = [position for position in positions if position.asset == asset]
        paid = [position for position in positions if position.quote == asset and position.asset != asset]
        sums.append(
            AssetGreeks(
                asset=asset,
                delta=_total([p.delta for p in own] + [p.quote_delta for p in paid]),
                delta_usd=_total([p.delta_usd for p in own] + [p.quote_delta_usd for p in paid]),
                gamma_usd=_total([p.gamma_usd for p in own]),
                vega_usd=_total([p.vega_usd for p in own]),
                theta_usd=_total([p.theta_usd for p in own]),
                rho_usd=_total([p.rho_usd for p in own]),
            )
        )
    return sums


def _of_lots(market: Market, i: int, lots: int) -> tuple[float, float, float, float, float, float]:
    """(delta, delta_usd, gamma_usd, vega_usd, theta_usd, rho_usd) of lots that can be valued."""
    terms = market.universe.instrument_arrays
    contract, asset = int(terms.contract[i]), int(terms.underlying[i])
    if lots == 0 or not _moves(market, asset):
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    units = lots * float(terms.lot_size[i])
    forward = float(market.marks.mark[asset])
    if market.tables.instrument_int[i, SCAN_ROW] < 0:  # straight, or past its expiry
        slope_usd = lots * float(market.tables.instrument_float[i, DELTA_LONG if lots > 0 else DELTA_SHORT])
        if contract == SPOT:  # at the value price, which redemption may bound: the units are what is held all the same
            return units, slope_usd, 0.0, 0.0, 0.0, 0.0
        if contract == LOAN:
            if lots > 0:
                return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            return units * float(market.values.debt_index[i]), slope_usd, 0.0, 0.0, 0.0, 0.0
        return slope_usd / forward, slope_usd, 0.0, 0.0, 0.0, 0.0
    strike, is_call = float(terms.strike[i]), bool(terms.is_call[i])
    sigma = float(market.inputs.option_sigma[i])
    t_years = year_fraction(market.clock_ns, int(terms.expiry_ns[i]))
    price = black76_price(forward, strike, sigma, t_years, is_call, 1.0)
    delta = black76_delta(forward, strike, sigma, t_years, is_call, 1.0)
    gamma = black76_gamma(forward, strike, sigma, t_years, 1.0)
    return (
        units * delta,
        units * (delta * forward),
        units * (gamma * forward * forward * POINT),
        units * (black76_vega(forward, strike, sigma, t_years, 1.0) * POINT),
        units * (black76_theta(forward, strike, sigma, t_years, is_call, 1.0) / DAYS_PER_YEAR),
        units * (t_years * (forward * delta - price) * POINT),
    )


def _moves(market: Market, asset: int) -> bool:
    """Whether an asset has a price that moves: those of class cash have none."""
    return int(market.universe.asset_arrays.group[asset]) >= 0


def _total(parts: Sequence[float | None]) -> float | None:
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total
