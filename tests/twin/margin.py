"""One account: equity after haircuts, requirement in three modes, the cost of closing it, and the state that follows."""

import math
from dataclasses import dataclass

from tests.twin.market import INITIAL, MAINTENANCE, View
from tests.twin.scenarios import Grid
from tests.twin.universe import InstrumentKey, Universe
from tests.twin.values import Position, Positions, Valuer, first_reason
from tests.twin.volatility import YEAR_S

MODES = ("isolated", "protocol", "portfolio")


@dataclass(frozen=True)
class Valuation:
    """USD. `reason` is not empty where the account can't be valued, and then all numbers are 0."""

    reason: str = ""
    unhaircut: float = 0.0
    equity_m: float = 0.0
    equity_i: float = 0.0
    maintenance: float = 0.0
    initial: float = 0.0
    end: float = 0.0
    close_cost: float = 0.0

    @property
    def excess(self) -> float:
        """Over liquidation end."""
        return self.equity_m - self.end


class Account:
    """The margin of positions in one view of the market."""

    def __init__(self, universe: Universe, view: View, positions: Positions) -> None:
        self.valuer = Valuer(universe, view)
        self.universe, self.view, self.positions = universe, view, positions
        self.parameters = view.parameters

    def reason(self) -> str:
        return first_reason([reason for key, position in self.positions.items() for reason in self.valuer.lacks(key, position)])

    def valuation(self) -> Valuation:
        reason = self.reason()
        if reason:
            return Valuation(reason)
        unhaircut = self.unhaircut()
        maintenance = self.requirement(MAINTENANCE, self.parameters["decision_mode"])
        return Valuation(
            unhaircut=unhaircut,
            equity_m=unhaircut - self.haircut_usd(MAINTENANCE),
            equity_i=unhaircut - self.haircut_usd(INITIAL),
            maintenance=maintenance,
            initial=self.parameters["initial_factor"] * self.requirement(INITIAL, self.parameters["decision_mode"]),
            end=self.parameters["end_factor"] * maintenance,
            close_cost=self.close_cost(),
        )

    def excess(self) -> float:
        """Over liquidation end; for a planner that asks often."""
        end = float(self.parameters["end_factor"]) * self.requirement(MAINTENANCE, self.parameters["decision_mode"])
        return self.unhaircut() - self.haircut_usd(MAINTENANCE) - end

    def unhaircut(self) -> float:
        return sum((self.valuer.value(key, position) for key, position in self.positions.items()), 0.0)

    # ---- haircuts -----------------------------------------------------------------------------------------------------------------

    def haircut_usd(self, level: str) -> float:
        """What haircuts take from the positive spot balances."""
        lying: dict[tuple[str, str], float] = {}
        slots: list[tuple[str, str, float]] = []
        for key, position in self.positions.items():
            instrument = self.universe.instruments[key]
            asset = instrument["underlying"]
            if instrument["contract"] == "spot" and position.quantity > 0:
                chain, usd = self.universe.chain_of(key), position.quantity * self.valuer.lot_usd(key, position.quantity)
                lying[asset, chain] = lying.get((asset, chain), 0.0) + usd
                slots.append((asset, chain, usd))
        taken = 0.0
        counted: dict[str, float] = {}
        for asset, chain, usd in slots:
            if not self.eligible(asset, chain):
                taken += usd
                continue
            cap = self.universe.assets[asset].get("cap_usd_per_account", 1e15)
            within = min(usd, max(cap - counted.get(asset, 0.0), 0.0))
            counted[asset] = counted.get(asset, 0.0) + within
            taken += within * self.haircut(asset, chain, lying[asset, chain], level) + (usd - within)
        return taken

    def eligible(self, asset: str, chain: str) -> bool:
        chains = self.universe.assets[asset].get("eligible_chains")
        return chains is None or chain in chains

    def haircut(self, asset: str, chain: str, lying_usd: float, level: str) -> float:
        """H of an eligible asset on a chain, of which so much lies there."""
        row = self.parameters["classes"][self.universe.asset_class(asset)]
        sigma = self.view.sigmas[level][asset]
        bound = self.valuer.bound(asset)
        depeg = 0.0 if bound is None else max(0.0, bound / self.valuer.mark(asset) - 1)
        depth = self.view.depths_usd[asset]
        size = math.sqrt(lying_usd / depth)
        total = (
            row["base_haircut"]
            + self.universe.chains[chain].get("security_premium", 0.0)
            + self.parameters["latency_z"] * sigma * math.sqrt(self.route_years(asset, chain))
            + row["depeg_coefficient"] * depeg
            + row["size_coefficient"] * size
        )
        return min(max(float(total), 0.0), 1.0)

    def route_years(self, asset: str, source: str) -> float:
        """The longest way from the chain where the collateral lies to one where the account has a position."""
        chain = self.universe.chains[source]
        way_s = (
            chain["finality_s"]
            + max(chain["messaging_delay_s"], self.view.lags_s.get(source, 0.0))
            + self.universe.assets[asset].get("redemption_delay_s", 0.0)
            + self.parameters["auction_s"]
        )
        away = any(not self.universe.same_place(source, self.universe.chain_of(key)) for key in self.positions)
        return float(way_s) / YEAR_S if away else 0.0

    # ---- requirement --------------------------------------------------------------------------------------------------------------

    def groups(self) -> list[str]:
        """Those the account holds, in the universe's order."""
        held: set[str | None] = set()
        for key, position in self.positions.items():
            instrument = self.universe.instruments[key]
            if position.quantity:
                held.add(self.universe.group_of(instrument["underlying"]))
            if position.cash:
                held.add(self.universe.group_of(instrument["quote"]))
        return [group for group in self.universe.groups() if group in held]

    def requirement(self, level: str, mode: str) -> float:
        grid, drivers = Grid(self.valuer, level), self.groups()
        subsets: dict[object, list[tuple[InstrumentKey, Position]]] = {}
        for key, position in self.positions.items():
            subset: object = {"portfolio": None, "protocol": key[0], "isolated": key}[mode]
            subsets.setdefault(subset, []).append((key, position))
        return sum(grid.requirement(held, drivers) for held in subsets.values())

    # ---- cost of closing ----------------------------------------------------------------------------------------------------------

    def notional(self, key: InstrumentKey, lots: int) -> float:
        instrument = self.universe.instruments[key]
        price = 1.0 if instrument["contract"] == "inverse_perpetual" else self.valuer.mark(instrument["underlying"])
        return float(abs(lots) * instrument["lot_size"] * price)

    def gross(self) -> float:
        """USD of everything held or owed: lots at their notional, cash at its value."""
        lots = sum(self.notional(key, position.quantity) for key, position in self.positions.items() if position.quantity)
        return lots + sum(abs(position.cash) * self.valuer.cash_unit_usd(key) for key, position in self.positions.items() if position.cash)

    def cost(self, key: InstrumentKey, lots: int) -> float:
        """Of closing so many lots: half the spread, the venue's fee, and the impact; nothing for a loan or for cash."""
        instrument = self.universe.instruments[key]
        underlying = instrument["underlying"]
        if instrument["contract"] == "loan" or self.universe.asset_class(underlying) == "cash":
            return 0.0
        notional = self.notional(key, lots)
        bps = self.view.spreads_bps[underlying] / 2 + self.universe.venues[key[0]].get("fee_bps", 0.0)
        depth = self.view.depths_usd[underlying]
        impact = self.parameters["impact_coefficient"]
        return float(notional * bps * 1e-4 + impact * notional * math.sqrt(notional / depth))

    def close_cost(self) -> float:
        return sum(self.cost(key, position.quantity) for key, position in self.positions.items() if position.quantity)
