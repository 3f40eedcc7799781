"""What one lot and one cash unit are worth in USD, now and after a move of the price or of the volatility."""

import math
from dataclasses import dataclass

from tests.twin.market import View
from tests.twin.universe import InstrumentKey, Universe
from tests.twin.volatility import YEAR_NS

# A lower rank wins where several apply.
RANKS = ("missed_fill", "unreconciled", "no_mark", "stale_mark", "no_quorum", "sources_apart", "no_volatility", "not_defined", "expired")


@dataclass
class Position:
    quantity: int = 0  # lots
    cash: int = 0  # cash units of the quote


Positions = dict[InstrumentKey, Position]  # in slot order


def first_reason(reasons: list[str]) -> str:
    return min(reasons, key=RANKS.index) if reasons else ""


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


def normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


@dataclass(frozen=True)
class Valuer:
    """Values instruments of a universe as a view of the market sees them."""

    universe: Universe
    view: View

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

    def lacks(self, key: InstrumentKey, position: Position) -> list[str]:
        """Why this position can't be valued; empty if it can. Lots need the underlying, cash needs the quote."""
        instrument = self.universe.instruments[key]
        contract, underlying = instrument["contract"], instrument["underlying"]
        needed: list[str] = [instrument["quote"]] if position.cash else []
        redemption = self.universe.redemption(underlying)
        if position.quantity:
            needed.append(underlying)
            if contract in ("spot", "loan") and redemption is not None:
                needed.append(redemption[0])
        reasons = [self.view.reasons[asset] for asset in needed if self.view.marks[asset] is None]
        if position.quantity and contract in ("option", "inverse_option"):
            if self.view.clock_ns >= instrument["expiry_ns"]:
                reasons.append("expired")
            elif self.view.implied[underlying, instrument["expiry_ns"]] is None:
                reasons.append("no_volatility")
        return reasons

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
        match instrument["contract"]:
            case "spot":
                return lot_size * (self.lowest(underlying) if quantity >= 0 else self.highest(underlying))
            case "loan":
                return lot_size * self.view.indexes.get(key, 1.0) * self.highest(underlying)
            case "perpetual":
                return lot_size * self.mark(underlying)
            case "inverse_perpetual":
                return -lot_size
            case _:
                return self.option_lot_usd(key, self.mark(underlying), self.option_terms(key)[0])

    def value(self, key: InstrumentKey, position: Position) -> float:
        lots = position.quantity * self.lot_usd(key, position.quantity) if position.quantity else 0.0
        return lots + (position.cash * self.cash_unit_usd(key) if position.cash else 0.0)

    def delta_usd(self, key: InstrumentKey, quantity: int) -> float:
        """USD that the lots alone gain when the underlying doubles at today's slope."""
        instrument = self.universe.instruments[key]
        match instrument["contract"]:
            case "spot" | "loan" | "perpetual":
                return quantity * self.lot_usd(key, quantity)
            case "inverse_perpetual":
                return 0.0
            case _:
                forward = self.mark(instrument["underlying"])
                sigma, t_years = self.option_terms(key)
                slope = black76_delta(forward, instrument["strike"], sigma, t_years, instrument["is_call"])
                return quantity * float(instrument["lot_size"]) * slope * forward
