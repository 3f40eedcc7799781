"""What one lot and one cash unit are worth in USD, now and after a move of the price or of the volatility."""

import math
from dataclasses import dataclass
from functools import lru_cache

from streams.shadow.universe import FUTURES, INVERSE, LOTS_OF_USD, NANOSECONDS, OPTIONS, YEAR_NS, InstrumentKey, Universe
from streams.shadow.view import View

# A lower rank wins where several apply.
RANKS = ("missed_fill", "unreconciled", "no_mark", "stale_mark", "no_quorum", "sources_apart", "no_volatility", "not_defined", "expired")
OPTION_PRICES_MAX = 20_000  # that are kept, some 5 MB


@dataclass
class Position:
    """`buy` and `sell` are lots of open orders; `leaving` those of a spot balance that a withdrawal under way takes."""

    quantity: int = 0  # lots
    cash: int = 0  # cash units of the quote
    buy: int = 0
    sell: int = 0
    leaving: int = 0

    @property
    def is_pending(self) -> bool:
        return bool(self.buy or self.sell or self.leaving)

    @property
    def is_empty(self) -> bool:
        return not (self.quantity or self.cash or self.is_pending)


Positions = dict[InstrumentKey, Position]  # in slot order


def first_reason(reasons: list[str]) -> str:
    return min(reasons, key=RANKS.index) if reasons else ""


@lru_cache(OPTION_PRICES_MAX)
def black76(forward: float, strike: float, sigma: float, t_years: float, is_call: bool) -> float:
    """Undiscounted price of a European option on a forward; at no deviation what exercise now would give."""
    sign = 1.0 if is_call else -1.0
    deviation = sigma * math.sqrt(t_years)
    if deviation == 0:
        return max(sign * (forward - strike), 0.0)
    d1 = math.log(forward / strike) / deviation + deviation / 2
    return sign * (forward * normal(sign * d1) - strike * normal(sign * (d1 - deviation)))


def black76_delta(forward: float, strike: float, sigma: float, t_years: float, is_call: bool) -> float:
    sign = 1.0 if is_call else -1.0
    deviation = sigma * math.sqrt(t_years)
    if deviation == 0:
        return sign * (0.5 if forward == strike else float(sign * (forward - strike) > 0))
    return sign * normal(sign * (math.log(forward / strike) / deviation + deviation / 2))


def black76_vega(forward: float, strike: float, sigma: float, t_years: float) -> float:
    """For a change of the volatility by 1.0, the same of call and put."""
    deviation = sigma * math.sqrt(t_years)
    if deviation == 0:
        d1 = 0.0 if forward == strike else math.inf
    else:
        d1 = math.log(forward / strike) / deviation + deviation / 2
    return forward * math.sqrt(t_years) * math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)


def normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


@dataclass(frozen=True)
class Valuer:
    """Values instruments of a universe as a view of the market sees them."""

    universe: Universe
    view: View

    # ---- assets -------------------------------------------------------------------------------------------------------------------

    def mark(self, asset: str) -> float:
        mark = self.view.marks[asset]
        assert mark is not None, asset
        return mark

    def bound(self, asset: str) -> float | None:
        """What redemption gives, in USD; None where the asset can't be redeemed. Needs the redemption asset's mark."""
        redemption = self.universe.redemption(asset)
        return None if redemption is None else self.mark(redemption[0]) * redemption[1]

    def lowest(self, asset: str) -> float:
        bound = self.bound(asset)
        return self.mark(asset) if bound is None else min(self.mark(asset), bound)

    def highest(self, asset: str) -> float:
        bound = self.bound(asset)
        return self.mark(asset) if bound is None else max(self.mark(asset), bound)

    # ---- what is known ------------------------------------------------------------------------------------------------------------

    def past_expiry(self, key: InstrumentKey) -> bool:
        instrument = self.universe.instruments[key]
        return instrument["contract"] in (*FUTURES, *OPTIONS) and self.view.clock_ns >= instrument["expiry_ns"]

    def lacks(self, key: InstrumentKey, position: Position) -> list[str]:
        """Why this position can't be valued; empty if it can. Lots and open orders need the underlying, cash needs the quote."""
        instrument = self.universe.instruments[key]
        contract, underlying = instrument["contract"], instrument["underlying"]
        needed: list[str] = [instrument["quote"]] if position.cash else []
        redemption = self.universe.redemption(underlying)
        past = self.past_expiry(key)
        lots = position.quantity != 0 or self.orders(key, position) != (0, 0)
        if lots:
            needed.append(underlying)
            if contract in ("spot", "loan") and redemption is not None:
                needed.append(redemption[0])
        reasons = [self.view.reasons[asset] for asset in needed if self.view.marks[asset] is None]
        if lots and past and self.view.clock_ns >= instrument["expiry_ns"] + self._wait_ns():
            reasons.append("expired")
        if lots and not past and contract in OPTIONS and self.view.implied[underlying, instrument["expiry_ns"]] is None:
            reasons.append("no_volatility")
        return reasons

    def _wait_ns(self) -> int:
        return round(float(self.view.parameters["settlement_wait_s"]) * NANOSECONDS)

    def orders(self, key: InstrumentKey, position: Position) -> tuple[int, int]:
        """Open lots to buy and to sell that count: none of loans, and none of what is past its expiry."""
        if self.universe.contract(key) == "loan" or self.past_expiry(key):
            return 0, 0
        return position.buy, position.sell

    # ---- values -------------------------------------------------------------------------------------------------------------------

    def cash_unit_usd(self, key: InstrumentKey) -> float:
        quote = self.universe.instruments[key]["quote"]
        return self.universe.cash_unit(quote) * self.mark(quote)

    def option_terms(self, key: InstrumentKey) -> tuple[float, float]:
        """(implied volatility, years to expiry)."""
        instrument = self.universe.instruments[key]
        sigma = self.view.implied[instrument["underlying"], instrument["expiry_ns"]]
        assert sigma is not None, key
        return sigma, max(instrument["expiry_ns"] - self.view.clock_ns, 0) / YEAR_NS

    def option_lot_usd(self, key: InstrumentKey, forward: float, sigma: float) -> float:
        instrument = self.universe.instruments[key]
        _, t_years = self.option_terms(key)
        return float(instrument["lot_size"]) * black76(forward, instrument["strike"], sigma, t_years, instrument["is_call"])

    def lot_usd(self, key: InstrumentKey, quantity: int) -> float:
        """USD a lot; the sign of the quantity decides between market and redemption value."""
        instrument = self.universe.instruments[key]
        lot_size, underlying = float(instrument["lot_size"]), instrument["underlying"]
        if self.past_expiry(key):
            return lot_size * self.settled(key)
        match instrument["contract"]:
            case "spot":
                return lot_size * (self.lowest(underlying) if quantity >= 0 else self.highest(underlying))
            case "loan":
                return lot_size * self.view.indexes[key] * self.highest(underlying) if quantity <= 0 else 0.0
            case "perpetual":
                return self.traded_usd(key) - lot_size * self.mark(underlying) * self.view.funding[key]
            case "inverse_perpetual":
                return -self.traded_usd(key) - lot_size * self.view.funding[key]
            case "future":
                return self.traded_usd(key)
            case "inverse_future":
                return -self.traded_usd(key)
            case _:
                return self.option_lot_usd(key, self.mark(underlying), self.option_terms(key)[0])

    def traded_usd(self, key: InstrumentKey) -> float:
        """What a lot of a perpetual or future trades at; of inverse ones the coin that one USD of it stands for, in USD."""
        instrument = self.universe.instruments[key]
        lot_size, premium = float(instrument["lot_size"]), 1 + self.view.basis[key]
        return lot_size / premium if instrument["contract"] in LOTS_OF_USD else lot_size * self.mark(instrument["underlying"]) * premium

    def settled(self, key: InstrumentKey) -> float:
        """USD of a unit (inverse futures: of one USD of it) at the price that it was settled at."""
        instrument = self.universe.instruments[key]
        mark, settlement = self.mark(instrument["underlying"]), self.view.settlements[key]
        sign = 1.0 if instrument.get("is_call", True) else -1.0
        exercised = max(sign * (settlement - float(instrument.get("strike", 0.0))), 0.0)
        match instrument["contract"]:
            case "future":
                return settlement
            case "inverse_future":
                return -mark / settlement
            case "option":
                return exercised
            case _:
                return exercised * mark / settlement

    def initial_lot_usd(self, key: InstrumentKey, quantity: int) -> float:
        """Of spot and loans: not above the stable price where held, not below it where owed."""
        instrument = self.universe.instruments[key]
        asset, owned = instrument["underlying"], instrument["contract"] == "spot" and quantity >= 0
        price = self.lowest(asset) if owned else self.highest(asset)
        stable = self.view.stable.get(asset, price)
        index = self.view.indexes[key] if instrument["contract"] == "loan" else 1.0
        return float(instrument["lot_size"]) * index * (min(price, stable) if owned else max(price, stable))

    def value(self, key: InstrumentKey, position: Position) -> float:
        lots = position.quantity * self.lot_usd(key, position.quantity) if position.quantity else 0.0
        return lots + (position.cash * self.cash_unit_usd(key) if position.cash else 0.0)

    def notional_lot_usd(self, key: InstrumentKey) -> float:
        instrument = self.universe.instruments[key]
        return float(instrument["lot_size"]) * (1.0 if instrument["contract"] in LOTS_OF_USD else self.mark(instrument["underlying"]))

    # ---- slopes -------------------------------------------------------------------------------------------------------------------

    def delta_usd(self, key: InstrumentKey, quantity: int) -> float:
        """USD that the lots alone gain when the underlying doubles at today's slope."""
        contract = self.universe.contract(key)
        if self.past_expiry(key):
            return quantity * self.lot_usd(key, quantity) if contract in INVERSE else 0.0
        if contract in OPTIONS:
            return quantity * self.option_delta_usd(key)
        if contract in ("spot", "loan"):
            return quantity * self.lot_usd(key, quantity)
        return 0.0 if contract in LOTS_OF_USD else quantity * self.traded_usd(key)

    def option_delta_usd(self, key: InstrumentKey) -> float:
        """Of one lot, not past its expiry."""
        instrument = self.universe.instruments[key]
        forward, (sigma, t_years) = self.mark(instrument["underlying"]), self.option_terms(key)
        slope = black76_delta(forward, instrument["strike"], sigma, t_years, instrument["is_call"])
        return float(instrument["lot_size"]) * slope * forward

    def order_delta_usd(self, key: InstrumentKey) -> float:
        """Of one lot bought, but an option's."""
        instrument = self.universe.instruments[key]
        if instrument["contract"] == "spot":
            return float(instrument["lot_size"]) * self.highest(instrument["underlying"])
        return self.traded_usd(key)
