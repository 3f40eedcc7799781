"""Scenarios: what positions gain in each, by group, and the largest joint loss."""

import math
from collections.abc import Iterable

from tests.twin.universe import InstrumentKey
from tests.twin.values import Position, Valuer
from tests.twin.volatility import YEAR_S

TENOR_S = 30 * 86_400.0
LOWEST_PRICE = 1e-9  # of today's
UP, DOWN = 0, 1

# A profile is the gain in USD by scenario: the grid's columns 2k + v, then the extreme rise and the extreme fall.
Profile = list[float]


class Grid:
    """The scenarios of one level (maintenance or initial)."""

    def __init__(self, valuer: Valuer, level: str) -> None:
        self.valuer = valuer
        self.level = level
        self.parameters = valuer.view.parameters
        self.n = int(self.parameters["grid_steps"])
        self.steps = [(k - self.n) / self.n for k in range(2 * self.n + 1)]

    def class_of(self, asset: str) -> dict[str, float]:
        found: dict[str, float] = self.parameters["classes"][self.valuer.universe.asset_class(asset)]
        return found

    def sigma(self, asset: str) -> float:
        return self.valuer.view.sigmas[self.level][asset]

    def scan_range(self, group: str) -> float:
        row, p = self.class_of(group), self.parameters
        wanted = p["scan_k"] * self.sigma(group) * math.sqrt(p["horizon_s"] / YEAR_S)
        return float(min(max(wanted, row["scan_floor"]), row["scan_cap"]))

    def volatility_haircut(self, asset: str) -> float:
        row = self.class_of(asset)
        return row["vol_coefficient"] * max(0.0, self.sigma(asset) - row["sigma_ref"])

    def moves(self, group: str) -> list[tuple[float, int | None]]:
        """(relative move of the price, volatility shock) of each scenario."""
        scan, most = self.scan_range(group), self.parameters["extreme_multiple"]
        grid: list[tuple[float, int | None]] = [(x * scan, shock) for x in self.steps for shock in (UP, DOWN)]
        return [*grid, (most * scan, None), (max(-most * scan, LOWEST_PRICE - 1), None)]

    def of_lots(self, key: InstrumentKey, quantity: int, group: str) -> Profile:
        """Gains of the lots of a position."""
        instrument = self.valuer.universe.instruments[key]
        contract = instrument["contract"]
        if contract == "inverse_perpetual":
            return [0.0 for _ in self.moves(group)]
        now = self.valuer.lot_usd(key, quantity)
        if contract in ("option", "inverse_option"):
            forward = self.valuer.mark(instrument["underlying"])
            return [
                quantity * (self.valuer.option_lot_usd(key, forward * (1 + move), self.shocked(key, shock)) - now)
                for move, shock in self.moves(group)
            ]
        return [quantity * now * move for move, _ in self.moves(group)]

    def shocked(self, key: InstrumentKey, shock: int | None) -> float:
        p = self.parameters
        sigma, t_years = self.valuer.option_terms(key)
        if shock is None:
            return sigma
        w = p["vol_shock"] * (TENOR_S / max(t_years * YEAR_S, p["tenor_floor_s"])) ** p["vol_shock_power"]
        return float(max(sigma * (1 + w), p["vol_min"]) if shock == UP else sigma * max(0.0, 1 - w))

    def of_cash(self, key: InstrumentKey, cash: int, group: str) -> Profile:
        return [cash * self.valuer.cash_unit_usd(key) * move for move, _ in self.moves(group)]

    def interpolated(self, profile: Profile, shock: int, x: float) -> float:
        """The gain at a move of x scan ranges, on the straight line between the grid's steps."""
        place = (x + 1) * self.n
        k = min(max(math.floor(place), 0), 2 * self.n - 1)
        share = place - k
        return profile[2 * k + shock] * (1 - share) + profile[2 * (k + 1) + shock] * share

    def requirement(self, held: Iterable[tuple[InstrumentKey, Position]], drivers: list[str]) -> float:
        """The largest joint loss of these positions over the scenarios of all `drivers`, at least 0."""
        universe = self.valuer.universe
        profiles = {group: [0.0 for _ in self.moves(group)] for group in drivers}
        haircuts = dict.fromkeys(drivers, 0.0)
        for key, position in held:
            instrument = universe.instruments[key]
            underlying, quote = instrument["underlying"], instrument["quote"]
            group = universe.group_of(underlying)
            if position.quantity and group is not None:
                gains = self.of_lots(key, position.quantity, group)
                profiles[group] = [a + b for a, b in zip(profiles[group], gains, strict=True)]
                haircuts[group] += self.volatility_haircut(underlying) * self.valuer.delta_usd(key, position.quantity)
            group = universe.group_of(quote)
            if position.cash and group is not None:
                gains = self.of_cash(key, position.cash, group)
                profiles[group] = [a + b for a, b in zip(profiles[group], gains, strict=True)]
                haircuts[group] += self.volatility_haircut(quote) * position.cash * self.valuer.cash_unit_usd(key)
        return max([0.0, *self.losses(profiles, haircuts)])

    def losses(self, profiles: dict[str, Profile], haircuts: dict[str, float]) -> Iterable[float]:
        extremes = 2 * len(self.steps)
        fraction = self.parameters["extreme_fraction"]
        for g, own in profiles.items():
            others = [(h, self.valuer.view.correlations[g, h]) for h in profiles if h != g]

            def elsewhere(shock: int, x: float, others: list[tuple[str, float]] = others) -> float:
                return sum(self.interpolated(profiles[h], shock, rho * x) for h, rho in others)

            for k, x in enumerate(self.steps):
                for shock in (UP, DOWN):
                    yield -(own[2 * k + shock] + elsewhere(shock, x))
            yield -fraction * (own[extremes] + elsewhere(UP, 1.0))
            yield -fraction * (own[extremes + 1] + elsewhere(UP, -1.0))
            yield haircuts[g] - elsewhere(UP, -min(1.0, self.volatility_haircut(g) / self.scan_range(g)))
