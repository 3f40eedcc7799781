"""Scenarios: what positions gain in each, by group, the largest joint loss, and what is added to it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from streams.shadow.universe import DERIVATIVES, LOTS_OF_USD, NANOSECONDS, OPTIONS, PERPETUALS, YEAR_S, InstrumentKey
from streams.shadow.values import Position, Valuer, black76_vega

TENOR_S = 30 * 86_400.0
DAY_NS = 86_400 * NANOSECONDS
BAND_DAYS = (7, 30, 90, 365)  # the ends of bands 1 to 4; 0 is of perpetuals, 5 beyond
LOWEST_PRICE = 1e-9  # of today's
UP, DOWN = 0, 1
REGIMES = ("observed", "high", "low")

# A profile is the gain in USD by scenario: the grid's columns 2k + v, then the extreme rise and the extreme fall.
Profile = list[float]
Held = list[tuple[InstrumentKey, Position]]
Ends = tuple[int, int]  # lots: the fewest and the most that open orders can make of a position


@dataclass(frozen=True)
class AddOns:
    """USD, of a set of positions."""

    short_minimum: float  # a floor of the scan
    basis: float
    vega: float
    gap: float


@dataclass
class Reach:
    """A sum over positions of which each may end anywhere between two numbers of lots."""

    lowest: float = 0.0
    highest: float = 0.0

    def add(self, ends: Ends, usd: float) -> None:
        """`usd`: of one lot."""
        low, high = sorted(lots * usd for lots in ends)
        self.lowest += low
        self.highest += high

    @property
    def largest(self) -> float:
        """On either side of nothing."""
        return max(self.highest, -self.lowest)


class Grid:
    """The scenarios of one level (maintenance or initial)."""

    def __init__(self, valuer: Valuer, level: str) -> None:
        self.valuer = valuer
        self.universe = valuer.universe
        self.level = level
        self.parameters = valuer.view.parameters
        self.n = int(self.parameters["grid_steps"])
        self.steps = [(k - self.n) / self.n for k in range(2 * self.n + 1)]

    def class_of(self, asset: str) -> dict[str, float]:
        found: dict[str, float] = self.parameters["classes"][self.universe.asset_class(asset)]
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

    def rho(self, regime: str, g: str, h: str) -> float:
        """Of two groups; under full stress 1 in the high regime and 0 in the low one."""
        if g == h:
            return 1.0
        observed, stress = self.valuer.view.correlations[g, h], self.valuer.view.stress[self.level]
        worst = max(stress[g], stress[h])
        if regime == "observed":
            return observed
        calm = float(self.parameters[f"correlation_{regime}"])
        u = calm + (1 - calm) * worst
        return observed + u * (1 - observed) if regime == "high" else observed * (1 - u)

    def moves(self, group: str) -> list[tuple[float, int | None]]:
        """(relative move of the price, volatility shock) of each scenario."""
        scan = self.scan_range(group)
        grid: list[tuple[float, int | None]] = [(x * scan, shock) for x in self.steps for shock in (UP, DOWN)]
        return [*grid, *((move, None) for move in self.extremes(group))]

    def extremes(self, group: str) -> tuple[float, float]:
        most = float(self.parameters["extreme_multiple"]) * self.scan_range(group)
        return most, max(-most, LOWEST_PRICE - 1)

    # ---- gains of positions -------------------------------------------------------------------------------------------------------

    def of_lots(self, key: InstrumentKey, quantity: int, group: str) -> Profile:
        """Gains of the lots of a position."""
        contract = self.universe.contract(key)
        if contract in OPTIONS and not self.valuer.past_expiry(key):
            return [quantity * gain for gain in self.of_option_lot(key, group)]
        delta = self.valuer.delta_usd(key, quantity)
        return [delta * move for move, _ in self.moves(group)]

    def of_option_lot(self, key: InstrumentKey, group: str) -> Profile:
        forward = self.valuer.mark(self.universe.instruments[key]["underlying"])
        now = self.valuer.lot_usd(key, 1)
        return [self.valuer.option_lot_usd(key, forward * (1 + move), self.shocked(key, shock)) - now for move, shock in self.moves(group)]

    def shocked(self, key: InstrumentKey, shock: int | None) -> float:
        sigma, t_years = self.valuer.option_terms(key)
        if shock is None:
            return sigma
        w = self.parameters["vol_shock"] * self.of_tenor(t_years)
        return float(max(sigma * (1 + w), self.parameters["vol_min"]) if shock == UP else sigma * max(0.0, 1 - w))

    def of_tenor(self, t_years: float) -> float:
        """How much more the volatility of a short option moves than that of a month."""
        p = self.parameters
        return float((TENOR_S / max(t_years * YEAR_S, p["tenor_floor_s"])) ** p["vol_shock_power"])

    def of_cash(self, key: InstrumentKey, cash: int, group: str) -> Profile:
        return [cash * self.valuer.cash_unit_usd(key) * move for move, _ in self.moves(group)]

    def of_orders(self, key: InstrumentKey, position: Position, group: str) -> Profile:
        """What open orders lose in each scenario at worst: a buy or a sell that was filled just before a move against it."""
        buy, sell = self.valuer.orders(key, position)
        if self.universe.contract(key) in OPTIONS:
            gains = self.of_option_lot(key, group)
        else:
            gains = [self.valuer.order_delta_usd(key) * move for move, _ in self.moves(group)]
        return [-max(0.0, -buy * gain) - max(0.0, sell * gain) for gain in gains]

    def longest_usd(self, key: InstrumentKey, position: Position) -> float:
        """The delta of those open orders that make the position longer."""
        buy, sell = self.valuer.orders(key, position)
        is_option = self.universe.contract(key) in OPTIONS
        delta = self.valuer.option_delta_usd(key) if is_option else self.valuer.order_delta_usd(key)
        return max(0.0, buy * delta) + max(0.0, -sell * delta)

    # ---- the largest joint loss ---------------------------------------------------------------------------------------------------

    def interpolated(self, profile: Profile, shock: int, x: float) -> float:
        """The gain at a move of x scan ranges, on the straight line between the grid's steps."""
        place = (x + 1) * self.n
        k = min(max(math.floor(place), 0), 2 * self.n - 1)
        share = place - k
        return profile[2 * k + shock] * (1 - share) + profile[2 * (k + 1) + shock] * share

    def scan(self, held: Held, drivers: list[str]) -> float:
        """The largest joint loss of these positions over the scenarios of all `drivers`, at least 0."""
        profiles = {group: [0.0 for _ in self.moves(group)] for group in drivers}
        haircuts = dict.fromkeys(drivers, 0.0)

        def add(group: str, gains: Profile) -> None:
            profiles[group] = [a + b for a, b in zip(profiles[group], gains, strict=True)]

        for key, position in held:
            instrument = self.universe.instruments[key]
            underlying, quote = instrument["underlying"], instrument["quote"]
            group = self.universe.group_of(underlying)
            if position.quantity and group is not None:
                add(group, self.of_lots(key, position.quantity, group))
                haircuts[group] += self.volatility_haircut(underlying) * self.valuer.delta_usd(key, position.quantity)
            if self.valuer.orders(key, position) != (0, 0) and group is not None:
                add(group, self.of_orders(key, position, group))
                haircuts[group] += self.volatility_haircut(underlying) * self.longest_usd(key, position)
            group = self.universe.group_of(quote)
            if position.cash and group is not None:
                add(group, self.of_cash(key, position.cash, group))
                haircuts[group] += self.volatility_haircut(quote) * position.cash * self.valuer.cash_unit_usd(key)
        return max([0.0, *self.losses(profiles, haircuts)])

    def losses(self, profiles: dict[str, Profile], haircuts: dict[str, float]) -> Iterable[float]:
        extremes = 2 * len(self.steps)
        fraction = self.parameters["extreme_fraction"]
        for g, own in profiles.items():
            for regime in REGIMES:
                others = [(h, self.rho(regime, g, h)) for h, gains in profiles.items() if h != g and any(gains)]

                def elsewhere(shock: int, x: float, others: list[tuple[str, float]] = others) -> float:
                    return sum(self.interpolated(profiles[h], shock, rho * x) for h, rho in others)

                for k, x in enumerate(self.steps):
                    for shock in (UP, DOWN):
                        yield -(own[2 * k + shock] + elsewhere(shock, x))
                yield -fraction * (own[extremes] + elsewhere(UP, 1.0))
                yield -fraction * (own[extremes + 1] + elsewhere(UP, -1.0))
                yield haircuts[g] - elsewhere(UP, -min(1.0, self.volatility_haircut(g) / self.scan_range(g)))

    # ---- add-ons ------------------------------------------------------------------------------------------------------------------

    def derivatives(self, held: Held) -> list[tuple[InstrumentKey, Ends, str]]:
        """(instrument, ends, risk group) of what add-ons look at: nothing that has expired."""
        found = []
        for key, position in held:
            group = self.universe.group_of(self.universe.instruments[key]["underlying"])
            ends = self.ends(key, position)
            if ends != (0, 0) and self.universe.contract(key) in DERIVATIVES and not self.valuer.past_expiry(key):
                assert group is not None, "a derivative's underlying is not cash"
                found.append((key, ends, group))
        return found

    def ends(self, key: InstrumentKey, position: Position) -> Ends:
        """Lots with all that is to be sold sold, and with all that is to be bought bought."""
        buy, sell = self.valuer.orders(key, position)
        return position.quantity - sell, position.quantity + buy

    def band(self, key: InstrumentKey) -> int:
        if self.universe.contract(key) in PERPETUALS:
            return 0
        left_ns = int(self.universe.instruments[key]["expiry_ns"]) - self.valuer.view.clock_ns
        return 1 + sum(left_ns > days * DAY_NS for days in BAND_DAYS)

    def exposure_usd(self, key: InstrumentKey) -> float:
        """What basis is charged on, of one lot: its delta."""
        contract = self.universe.contract(key)
        if contract in OPTIONS:
            return self.valuer.option_delta_usd(key)
        return self.valuer.notional_lot_usd(key) if contract in LOTS_OF_USD else self.valuer.traded_usd(key)

    def add_ons(self, held: Held) -> AddOns:
        p = self.parameters
        minimum = 0.0
        exposures: dict[tuple[str, int], Reach] = {}
        vegas: dict[tuple[str, int], Reach] = {}
        options: dict[str, list[tuple[InstrumentKey, Ends, str]]] = {}
        for key, ends, group in self.derivatives(held):
            place = group, self.band(key)
            exposures.setdefault(place, Reach()).add(ends, self.exposure_usd(key))
            if self.universe.contract(key) not in OPTIONS:
                continue
            minimum += p["short_option_minimum"] * max(0, -ends[0]) * self.valuer.notional_lot_usd(key)
            vegas.setdefault(place, Reach()).add(ends, self.vega_charge_usd(key))
            options.setdefault(group, []).append((key, ends, group))
        return AddOns(
            short_minimum=minimum,
            basis=sum(reach.largest * p["basis_bps"][band] * 1e-4 for (_, band), reach in exposures.items()),
            vega=sum(reach.largest for reach in vegas.values()),
            gap=p["gap_fraction"] * sum(map(self.gap_usd, options.values())),
        )

    def vega_charge_usd(self, key: InstrumentKey) -> float:
        """Of one lot, for the volatility of its tenor moving by its share."""
        instrument = self.universe.instruments[key]
        sigma, t_years = self.valuer.option_terms(key)
        vega = black76_vega(self.valuer.mark(instrument["underlying"]), instrument["strike"], sigma, t_years)
        return float(instrument["lot_size"] * vega * self.parameters["vega_shock"] * self.of_tenor(t_years))

    def curvature_usd(self, key: InstrumentKey, group: str) -> tuple[float, float]:
        """What one lot gains in the extremes beyond its delta."""
        gains, delta = self.of_option_lot(key, group)[-2:], self.valuer.option_delta_usd(key)
        up, down = (gain - delta * move for gain, move in zip(gains, self.extremes(group), strict=True))
        return up, down

    def concentration(self, held: Held) -> float:
        """Of a whole account: what lies beyond the depth takes longer to close, and the price moves what is open meanwhile."""
        held = list(held)
        sizes: dict[str, float] = {}
        for key, ends, group in self.derivatives(held):
            is_option = self.universe.contract(key) in OPTIONS
            usd = max(map(abs, ends)) * (abs(self.valuer.option_delta_usd(key)) if is_option else self.valuer.notional_lot_usd(key))
            sizes[group] = sizes.get(group, 0.0) + usd
        thins, k = self.valuer.view.thins[self.level], float(self.parameters["concentration_k"])
        total = 0.0
        for group, usd in sizes.items():
            open_usd = min(usd, self.net_usd(held, group))
            longer = max(0.0, math.sqrt(usd) * thins[group] - 1)
            total += min(open_usd, k * open_usd * self.scan_range(group) * longer)
            options = [one for one in self.derivatives(held) if one[2] == group and self.universe.contract(one[0]) in OPTIONS]
            most = sum(max(map(abs, ends)) * self.valuer.notional_lot_usd(key) for key, ends, _ in options)
            total += min(most, k * self.parameters["gap_fraction"] * self.gap_usd(options) * longer)
        return total

    def gap_usd(self, options: list[tuple[InstrumentKey, Ends, str]]) -> float:
        """What the curvature of options of one group loses in the worse of the extremes."""
        jumps = Reach(), Reach()
        for key, ends, group in options:
            for jump, gain in zip(jumps, self.curvature_usd(key, group), strict=True):
                jump.add(ends, -gain)
        return max(0.0, *(jump.highest for jump in jumps))

    def net_usd(self, held: Held, group: str) -> float:
        """What everything held gains or loses when the group's price doubles, at today's slope; open orders filled as they make it most."""
        net = Reach()
        for key, position in held:
            instrument = self.universe.instruments[key]
            if position.quantity and self.universe.group_of(instrument["underlying"]) == group:
                net.add((1, 1), self.valuer.delta_usd(key, position.quantity))
            buy, sell = self.valuer.orders(key, position)
            if (buy or sell) and self.universe.group_of(instrument["underlying"]) == group:
                is_option = self.universe.contract(key) in OPTIONS
                net.add((-sell, buy), self.valuer.option_delta_usd(key) if is_option else self.valuer.order_delta_usd(key))
            if position.cash and self.universe.group_of(instrument["quote"]) == group:
                net.add((1, 1), position.cash * self.valuer.cash_unit_usd(key))
        return net.largest
