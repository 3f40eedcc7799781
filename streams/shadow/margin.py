"""One account: equity after haircuts, requirement in three modes, the cost of closing it, its limits, and what all that comes to."""

import math
from dataclasses import dataclass, replace

from streams.shadow.scenarios import Grid, Held
from streams.shadow.universe import DERIVATIVES, InstrumentKey, Universe
from streams.shadow.values import Position, Positions, Valuer, first_reason
from streams.shadow.view import INITIAL, MAINTENANCE, View

MODES = ("isolated", "protocol", "portfolio")
LIMITS = ("limit_account", "limit_asset", "limit_venue")  # bits 1, 2, 4
HEALTHY, WARNING, LIQUIDATABLE, BANKRUPT, UNKNOWN = "HEALTHY", "WARNING", "LIQUIDATABLE", "BANKRUPT", "UNKNOWN"
UNDER = (LIQUIDATABLE, BANKRUPT)


@dataclass(frozen=True)
class Valuation:
    """USD. `reason` is not empty where the account can't be valued, and then all numbers are 0. `limits`: bits of those it is over."""

    reason: str = ""
    unhaircut: float = 0.0
    equity_m: float = 0.0
    equity_i: float = 0.0
    maintenance: float = 0.0
    initial: float = 0.0
    end: float = 0.0
    close_cost: float = 0.0
    limits: int = 0

    @property
    def excess(self) -> float:
        """Over liquidation end."""
        return self.equity_m - self.end


@dataclass(frozen=True)
class Collateral:
    """A positive spot balance: USD at the value price, and of that what its caps leave inside."""

    key: InstrumentKey
    asset: str
    chain: str
    usd: float
    inside_usd: float


class Account:
    """The margin of positions in one view of the market. What is leaving is taken off before anything else."""

    def __init__(self, universe: Universe, view: View, positions: Positions) -> None:
        self.valuer = Valuer(universe, view)
        self.universe, self.view = universe, view
        self.positions = {key: without_leaving(universe, key, position) for key, position in positions.items()}
        self.parameters = view.parameters

    def reason(self) -> str:
        return first_reason([reason for key, position in self.positions.items() for reason in self.valuer.lacks(key, position)])

    def valuation(self) -> Valuation:
        reason = self.reason()
        if reason:
            return Valuation(reason)
        mode = self.parameters["decision_mode"]
        maintenance = self.requirement(MAINTENANCE, mode)
        end = self.parameters["end_factor"] * maintenance
        return Valuation(
            unhaircut=self.unhaircut(),
            equity_m=self.equity(MAINTENANCE),
            equity_i=self.equity(INITIAL),
            maintenance=maintenance,
            initial=max(self.parameters["initial_factor"] * self.requirement(INITIAL, mode), end),
            end=end,
            close_cost=self.close_cost(),
            limits=self.limits(),
        )

    def excess(self) -> float:
        """Over liquidation end; for a planner that asks often."""
        end = float(self.parameters["end_factor"]) * self.requirement(MAINTENANCE, self.parameters["decision_mode"])
        return self.equity(MAINTENANCE) - end

    def unhaircut(self) -> float:
        return sum((self.valuer.value(key, position) for key, position in self.positions.items()), 0.0)

    def equity(self, level: str) -> float:
        lost = sum((one.usd - self.counted_usd(one, level) for one in self.collateral(ordered=True)), 0.0)
        return self.unhaircut() - lost - (self.dearer_debts_usd() if level == INITIAL else 0.0)

    # ---- collateral ---------------------------------------------------------------------------------------------------------------

    def collateral(self, *, ordered: bool = False) -> list[Collateral]:
        """Positive spot balances, in slot order, or those that they would be with all buys filled.

        What lies where its asset isn't eligible uses nothing of the asset's cap.
        """
        found: list[Collateral] = []
        used: dict[str, float] = {}
        for key, position in self.positions.items():
            lots = position.quantity + (self.valuer.orders(key, position)[0] if ordered else 0)
            if self.universe.contract(key) != "spot" or lots <= 0:
                continue
            asset, chain = self.universe.instruments[key]["underlying"], self.universe.chain_of(key)
            usd = lots * self.valuer.lot_usd(key, lots)
            cap = self.universe.assets[asset].get("cap_usd_per_account", 1e15)
            inside = min(usd, max(cap - used.get(asset, 0.0), 0.0))
            if self.universe.eligible(asset, chain):
                used[asset] = used.get(asset, 0.0) + inside
            found.append(Collateral(key, asset, chain, usd, inside))
        return found

    def counted_usd(self, one: Collateral, level: str) -> float:
        lying = sum(other.usd for other in self.collateral(ordered=True) if (other.asset, other.chain) == (one.asset, one.chain))
        inside = one.inside_usd
        if level == INITIAL:
            inside *= self.valuer.initial_lot_usd(one.key, 1) / self.valuer.lot_usd(one.key, 1)
        recognised = (1 - self.view.over[level][one.asset]) * (1 - self.view.paused.get(one.chain, 0.0))
        return inside * recognised * (1 - self.haircut(one, lying, level))

    def haircut(self, one: Collateral, lying_usd: float, level: str) -> float:
        """H of an asset on a chain, of which so much lies there."""
        row, view = self.parameters["classes"][self.universe.asset_class(one.asset)], self.view
        bound = self.valuer.bound(one.asset)
        depeg = 0.0 if bound is None else max(0.0, bound / self.valuer.mark(one.asset) - 1)
        away = self.is_elsewhere(one.chain)
        total = (
            view.flats[level][one.key]
            + (max(view.latencies[level][one.key], view.slips.get(one.chain, 0.0)) if away else 0.0)
            + row["depeg_coefficient"] * depeg
            + row["size_coefficient"] * view.thins[level][one.asset] * math.sqrt(lying_usd)
        )
        return min(max(float(total), 0.0), 1.0)

    def is_elsewhere(self, chain: str) -> bool:
        """Whether the account has, or has ordered, something that can't be reached at once from there."""
        return any(
            (position.quantity or position.cash or self.valuer.orders(key, position) != (0, 0))
            and not self.universe.same_place(chain, self.universe.chain_of(key))
            for key, position in self.positions.items()
        )

    def dearer_debts_usd(self) -> float:
        """How much more debts are at the initial level."""
        return sum(
            (
                -position.quantity * (self.valuer.initial_lot_usd(key, position.quantity) - self.valuer.lot_usd(key, position.quantity))
                for key, position in self.positions.items()
                if position.quantity < 0 and self.universe.contract(key) in ("spot", "loan")
            ),
            0.0,
        )

    # ---- requirement --------------------------------------------------------------------------------------------------------------

    def groups(self) -> list[str]:
        """Those the account holds or has open orders in, in the universe's order."""
        held: set[str | None] = set()
        for key, position in self.positions.items():
            instrument = self.universe.instruments[key]
            if position.quantity or self.valuer.orders(key, position) != (0, 0):
                held.add(self.universe.group_of(instrument["underlying"]))
            if position.cash:
                held.add(self.universe.group_of(instrument["quote"]))
        return [group for group in self.universe.groups() if group in held]

    def parts(self, mode: str) -> list[Held]:
        """What is netted with each other."""
        subsets: dict[object, Held] = {}
        for key, position in self.positions.items():
            subset: object = {"portfolio": None, "protocol": key[0], "isolated": key}[mode]
            subsets.setdefault(subset, []).append((key, position))
        return list(subsets.values())

    def requirement(self, level: str, mode: str) -> float:
        grid, drivers = Grid(self.valuer, level), self.groups()
        total = grid.concentration(list(self.positions.items()))
        for held in self.parts(mode):
            added = grid.add_ons(held)
            total += max(grid.scan(held, drivers), added.short_minimum) + added.basis + added.vega + added.gap
        return total

    # ---- limits -------------------------------------------------------------------------------------------------------------------

    def collateral_usd(self) -> float:
        """Aggregate value of what is held, before haircuts: spot, the cash of spot and loans, and what each derivative gained."""
        total = sum((one.usd for one in self.collateral()), 0.0)
        for key, position in self.positions.items():
            counted = position if self.universe.contract(key) in DERIVATIVES else replace(position, quantity=0)
            total += max(self.valuer.value(key, counted), 0.0)
        return total

    def limits(self, leeway: float = 1.0) -> int:
        """Bits of the limits, each times `leeway`, that the derivatives are over."""
        whole = 0.0
        by_group: dict[str | None, float] = {}
        by_venue: dict[str, float] = {}
        for key, position in self.positions.items():
            if position.quantity == 0 or self.universe.contract(key) not in DERIVATIVES or self.valuer.past_expiry(key):
                continue
            usd = abs(position.quantity) * self.valuer.notional_lot_usd(key)
            group = self.universe.group_of(self.universe.instruments[key]["underlying"])
            whole += usd
            by_group[group] = by_group.get(group, 0.0) + usd
            by_venue[key[0]] = by_venue.get(key[0], 0.0) + usd
        collateral, p = self.collateral_usd(), self.parameters
        largest = (whole, max(by_group.values(), default=0.0), max(by_venue.values(), default=0.0))
        return sum(1 << bit for bit, (name, usd) in enumerate(zip(LIMITS, largest, strict=True)) if usd > leeway * p[name] * collateral)

    # ---- cost of closing ----------------------------------------------------------------------------------------------------------

    def notional(self, key: InstrumentKey, lots: int) -> float:
        return abs(lots) * self.valuer.notional_lot_usd(key)

    def gross(self) -> float:
        """USD of everything held or owed: lots at their notional, cash at its value."""
        lots = sum(self.notional(key, position.quantity) for key, position in self.positions.items() if position.quantity)
        return lots + sum(abs(position.cash) * self.valuer.cash_unit_usd(key) for key, position in self.positions.items() if position.cash)

    def cost(self, key: InstrumentKey, lots: int) -> float:
        """Of closing so many lots: half the spread, the venue's fee, and the impact; nothing for a loan, for cash, and past expiry."""
        instrument = self.universe.instruments[key]
        underlying = instrument["underlying"]
        if instrument["contract"] == "loan" or self.universe.asset_class(underlying) == "cash" or self.valuer.past_expiry(key):
            return 0.0
        notional = self.notional(key, lots)
        bps = self.view.spreads_bps[underlying] / 2 + self.universe.venues[key[0]].get("fee_bps", 0.0)
        depth = self.view.depths_usd[underlying]
        impact = self.parameters["impact_coefficient"]
        return float(notional * bps * 1e-4 + impact * notional * math.sqrt(notional / depth))

    def close_cost(self) -> float:
        return sum(self.cost(key, position.quantity) for key, position in self.positions.items() if position.quantity)


def state_of(valuation: Valuation, was: str, has_positions: bool) -> str:
    """Of an account that can be valued; `was`: the last state that was known."""
    if not has_positions:
        return HEALTHY
    if valuation.unhaircut - valuation.close_cost < 0:
        return BANKRUPT
    if valuation.equity_m < valuation.maintenance or (was in UNDER and valuation.equity_m < valuation.end):
        return LIQUIDATABLE
    return WARNING if valuation.equity_i < valuation.initial or valuation.limits else HEALTHY


def without_leaving(universe: Universe, key: InstrumentKey, position: Position) -> Position:
    """Of a spot balance only what stays; all else as it is."""
    if universe.contract(key) != "spot" or position.quantity <= 0:
        return replace(position, leaving=0)
    return replace(position, quantity=max(position.quantity - position.leaving, 0), leaving=0)
