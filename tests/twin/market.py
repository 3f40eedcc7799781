"""All that is not an account: the clock, marks, volatilities, depths, lags and breakers, and one `View` of them for valuation."""

from dataclasses import dataclass, field, replace
from typing import Any

from tests.twin.breakers import Breaker, MoveWindow
from tests.twin.marks import Mark, Observation, mark_of
from tests.twin.universe import NANOSECONDS, Message, Universe
from tests.twin.volatility import Correlations, Volatility, implied_at, nearest_to_a_month

Parameters = dict[str, Any]
DEPTH_MIN_USD = 1.0
MAINTENANCE, INITIAL = "maintenance", "initial"


@dataclass(frozen=True)
class View:
    """What accounts are valued with, by names. `sigmas` by level and asset, `implied` by (underlying, expiry), `lags_s` by chain."""

    parameters: Parameters
    clock_ns: int = 0
    marks: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    indexes: dict[tuple[str, str], float] = field(default_factory=dict)
    sigmas: dict[str, dict[str, float]] = field(default_factory=lambda: {MAINTENANCE: {}, INITIAL: {}})
    correlations: dict[tuple[str, str], float] = field(default_factory=dict)
    implied: dict[tuple[str, int], float | None] = field(default_factory=dict)
    depths_usd: dict[str, float] = field(default_factory=dict)
    spreads_bps: dict[str, float] = field(default_factory=dict)
    lags_s: dict[str, float] = field(default_factory=dict)

    def with_haircut_inputs_of(self, other: "View") -> "View":
        return replace(self, depths_usd=other.depths_usd, spreads_bps=other.spreads_bps, lags_s=other.lags_s)

    def with_regime_of(self, other: "View") -> "View":
        """An implied volatility that the other view hasn't got stays."""
        implied = self.implied | {option: sigma for option, sigma in other.implied.items() if sigma is not None}
        return replace(self, sigmas=other.sigmas, correlations=other.correlations, implied=implied)


class Market:
    """State of the market as frames build it. Every method takes the JSON form of the messages."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.universe = Universe()
        self.clock_ns = 0
        self.observations: dict[str, dict[str, Observation]] = {}
        self.marks: dict[str, Mark] = {}
        self.volatilities: dict[str, Volatility] = {}
        self.correlations = Correlations()
        self.depths: dict[str, Message] = {}
        self.implied: dict[tuple[str, int], Message] = {}
        self.indexes: dict[tuple[str, str], Message] = {}
        self.lags: dict[str, Message] = {}
        self.moves: dict[str, MoveWindow] = {}
        self.breakers: dict[tuple[str, str], Breaker] = {}

    # ---- what comes in ------------------------------------------------------------------------------------------------------------

    def define(self, messages: list[Message]) -> None:
        for message in messages:
            self.universe.define(message)
        self.refresh(list(self.universe.assets))

    def set_parameters(self, parameters: Parameters) -> None:
        self.parameters = parameters
        if not parameters["breakers_enabled"]:
            self.breakers.clear()
        self.refresh(list(self.universe.assets))

    # Each of these answers why an observation is refused, or "". An older one is; one of the same time replaces nothing.

    def observe_price(self, message: Message) -> str:
        asset, source = message["asset"], message["source"]
        if asset not in self.universe.assets:
            return "unknown_asset"
        weights = self.universe.assets[asset].get("sources", {})
        if source not in weights:
            return "unknown_source"
        newest = self.observations.setdefault(asset, {}).get(source)
        fault = self._time_fault(message["publish_time_ns"], -1 if newest is None else newest.publish_time_ns)
        if not fault and (newest is None or message["publish_time_ns"] > newest.publish_time_ns):
            self.observations[asset][source] = Observation(
                source, weights[source], message["price"], message["confidence"], message["publish_time_ns"]
            )
        return fault

    def observe_depth(self, message: Message) -> str:
        return self._keep_newest(self.depths, message["asset"], message)

    def observe_implied(self, message: Message) -> str:
        if self.clock_ns >= message["expiry_ns"] and (message["underlying"], message["expiry_ns"]) not in self.implied:
            return "out_of_range"
        return self._keep_newest(self.implied, (message["underlying"], message["expiry_ns"]), message)

    def observe_funding(self, message: Message) -> str:
        if message["measure"] != "interest_index":
            return ""
        return self._keep_newest(self.indexes, (message["venue"], message["instrument"]), message)

    def observe_lag(self, message: Message) -> str:
        chain = message["chain"]
        if chain in self.lags and message["last_heartbeat_ns"] < self.lags[chain]["last_heartbeat_ns"]:
            return "out_of_order"
        self.lags[chain] = message
        return ""

    def _keep_newest(self, kept: dict[Any, Message], key: Any, message: Message) -> str:
        last_ns = kept[key]["time_ns"] if key in kept else -1
        fault = self._time_fault(message["time_ns"], last_ns)
        if not fault and message["time_ns"] > last_ns:
            kept[key] = message
        return fault

    def _time_fault(self, time_ns: int, last_ns: int) -> str:
        if self.clock_ns and time_ns > self.clock_ns + self._ns("future_skew_s"):
            return "future_time"
        return "out_of_order" if time_ns < last_ns else ""

    def tick(self, time_ns: int) -> None:
        most_ns = self.clock_ns + self._ns("clock_step_max_s") if self.clock_ns else time_ns
        self.clock_ns = max(self.clock_ns, min(time_ns, most_ns))
        self.refresh(list(self.universe.assets))
        universe, p = self.universe, self.parameters
        groups = universe.groups()
        self.correlations.tick(
            self.clock_ns,
            {g: self.marks[g].price for g in groups},
            {g: p["classes"][universe.asset_class(g)]["sigma_ref"] for g in groups},
            {(g, h): universe.prior_correlation(g, h, p["prior_correlation"]) for g in groups for h in groups},
            p["correlation_lambda"],
        )
        self.step_lags()

    def step_lags(self) -> None:
        """The lag breakers of the chains that ever sent a heartbeat."""
        for chain, lag in self.lags.items():
            if self.clock_ns and lag["last_heartbeat_ns"] > 0:
                value = max(lag["lag_p95_ns"], self.clock_ns - lag["last_heartbeat_ns"]) / NANOSECONDS
                self._step("attestation_lag", chain, value, "lag_trip_s", "lag_reset_s")

    def refresh(self, assets: list[str]) -> None:
        """Marks of these assets, their breakers and samples; nothing before the first tick."""
        if not self.clock_ns:
            return
        for asset in assets:
            self._mark(asset)

    def bring_sigmas_up_to_date(self) -> None:
        for asset in self.universe.assets if self.clock_ns else ():
            self._sigma(asset)

    # ---- steps --------------------------------------------------------------------------------------------------------------------

    def _mark(self, asset: str) -> None:
        p = self.parameters
        if asset == "USD":
            self.marks[asset] = Mark(1.0)
            return
        weights = self.universe.assets[asset].get("sources", {})
        mark = mark_of(
            [replace(seen, weight=weights[source]) for source, seen in self.observations.get(asset, {}).items() if source in weights],
            self.clock_ns,
            round(self._class(asset)["max_age_s"] * NANOSECONDS),
            p["quorum"],
            p["mad_k"],
            p["mad_floor_bps"],
        )
        if mark.divergence is not None:
            self._step("source_divergence", asset, mark.divergence, "divergence_trip", "divergence_reset")
        if not self.breaker("source_divergence", asset).closed and mark.price is not None:
            mark = replace(mark, price=None, reason="sources_apart")
        self.marks[asset] = mark
        if mark.price is None:
            return
        move = self.moves.setdefault(asset, MoveWindow()).move(mark.price, self.clock_ns, self._ns("move_window_s"))
        self._step("asset_move", asset, move, "move_trip", "move_reset")
        self._volatility(asset).sample(
            mark.price,
            mark.time_ns,
            self._ns("vol_min_step_s"),
            (p["tau_fast_s"], p["tau_slow_s"]),
            self._class(asset)["sigma_floor"],
            p["half_life_s"],
        )

    def _sigma(self, asset: str) -> None:
        volatility = self._volatility(asset)
        month = nearest_to_a_month(self.fresh_implied(asset), self.clock_ns)
        target = volatility.sigma if month is None else max(volatility.sigma, month)
        if not self.breaker("asset_move", asset).closed:
            target *= self.parameters["breaker_widen"]
        target = min(target, self._class(asset)["sigma_cap"])
        volatility.advance(target, self.clock_ns, self.parameters["sigma_rise_per_hour"])

    def _volatility(self, asset: str) -> Volatility:
        if asset not in self.volatilities:
            row = self._class(asset)
            self.volatilities[asset] = Volatility.start(row["sigma_ref"], row["sigma_floor"], row["sigma_cap"])
        return self.volatilities[asset]

    def _step(self, trigger: str, name: str, value: float, trip: str, reset: str) -> None:
        p = self.parameters
        if p["breakers_enabled"]:
            self.breaker(trigger, name).step(value, self.clock_ns, p[trip], p[reset], self._ns("cooldown_s"))

    def breaker(self, trigger: str, name: str) -> Breaker:
        return self.breakers.setdefault((trigger, name), Breaker())

    def _class(self, asset: str) -> dict[str, float]:
        found: dict[str, float] = self.parameters["classes"][self.universe.asset_class(asset)]
        return found

    def _ns(self, name: str) -> int:
        return round(float(self.parameters[name]) * NANOSECONDS)

    # ---- what comes out -----------------------------------------------------------------------------------------------------------

    def fresh_implied(self, underlying: str) -> dict[int, float]:
        """{expiry: sigma} of what is fresh now."""
        limit_ns = self._ns("implied_max_age_s")
        return {
            expiry: message["sigma"]
            for (name, expiry), message in self.implied.items()
            if name == underlying and self.clock_ns - message["time_ns"] <= limit_ns and expiry > self.clock_ns
        }

    def view(self) -> View:
        universe, p = self.universe, self.parameters
        groups = universe.groups()
        depths: dict[str, float] = {}
        spreads: dict[str, float] = {}
        for asset in universe.assets:
            depths[asset], spreads[asset] = self._class(asset)["depth_floor_usd"], p["spread_floor_bps"]
            limit_s = self._class(asset)["max_age_s"] * p["depth_age_multiple"]
            seen = self.depths.get(asset)
            if seen is not None and self.clock_ns - seen["time_ns"] <= limit_s * NANOSECONDS:
                depths[asset], spreads[asset] = max(seen["depth_usd"], DEPTH_MIN_USD), seen["spread_bps"]
        options = {
            (i["underlying"], i["expiry_ns"]) for i in universe.instruments.values() if i["contract"] in ("option", "inverse_option")
        }
        return View(
            parameters=p,
            clock_ns=self.clock_ns,
            marks={asset: self.marks[asset].price if asset in self.marks else None for asset in universe.assets},
            reasons={asset: self.marks[asset].reason if asset in self.marks else "not_defined" for asset in universe.assets},
            indexes={key: message["value"] for key, message in self.indexes.items()},
            sigmas={
                MAINTENANCE: {asset: self._volatility(asset).maintenance for asset in universe.assets},
                INITIAL: {asset: self._volatility(asset).initial for asset in universe.assets},
            },
            correlations={
                (g, h): self.correlations.rho(g, h, universe.prior_correlation(g, h, p["prior_correlation"]), p["correlation_shrink"])
                for g in groups
                for h in groups
            },
            implied={option: implied_at(self.fresh_implied(option[0]), option[1], self.clock_ns) for option in options},
            depths_usd=depths,
            spreads_bps=spreads,
            lags_s={chain: lag["lag_p95_ns"] / NANOSECONDS for chain, lag in self.lags.items()},
        )
