"""All that is not an account: the clock, marks, volatilities, depths, lags and breakers, and one `View` of them for valuation."""

import math
from dataclasses import replace
from typing import Any

from streams.shadow.marks import Mark, Observation, mark_of
from streams.shadow.universe import FUTURES, NANOSECONDS, OPTIONS, PERPETUALS, YEAR_S, InstrumentKey, Message, Universe
from streams.shadow.view import INITIAL, LEVELS, MAINTENANCE, ByLevel, Parameters, View, levels
from tests.twin import fear
from tests.twin.breakers import CLOSED, TRIPPED, Breaker, MoveWindow
from tests.twin.volatility import Correlations, Volatility, implied_at, nearest_to_a_month

DEPTH_MIN_USD = 1.0
SLIP_MAX = 0.5
BASIS_MAX = 0.5
GROUPS_FOR_A_SYSTEM = 3
ELIGIBILITY_RESET = 0.8
MEASURES = {
    "rate_per_hour": PERPETUALS,
    "basis": (*PERPETUALS, *FUTURES),
    "interest_index": ("loan",),
    "interest_rate": ("loan",),
}


class Market:
    """State of the market as frames build it. Every method takes the JSON form of the messages.

    What comes in is only kept; `bring_up_to_date` then does once for the frame all that follows from it, in the order of the specification.
    The parameters given at the start are for times only: nothing is known before a set came (`set_parameters`) and the clock was set.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.has_parameters = False
        self.universe = Universe()
        self.clock_ns = 0
        self.ticked_ns: int | None = None  # clock at the tick before
        self.observations: dict[str, dict[str, Observation]] = {}
        self.marks: dict[str, Mark] = {}
        self.stable: dict[str, float] = {}
        self.volatilities: dict[str, Volatility] = {}
        self.correlations = Correlations()
        self.depths: dict[str, Message] = {}
        self.implied: dict[tuple[str, int], Message] = {}
        self.observed: dict[tuple[InstrumentKey, str], Message] = {}
        self.lags: dict[str, Message] = {}
        self.moves: dict[str, MoveWindow] = {}
        self.breakers: dict[tuple[str, str], Breaker] = {}
        self.settlements: dict[InstrumentKey, float] = {}
        self.uptimes: dict[str, float] = {}
        self.recognised: dict[str, float] = {}
        self.slips: dict[str, tuple[float, int]] = {}  # chain -> (slip, the clock then)
        self.new_minute = False  # whether the last tick was the first of a minute
        self.minute_ns: int | None = None  # clock at the last tick that was
        # What rises slowly, at maintenance; of stress, which doesn't move with each tick, both levels.
        self.flats: dict[InstrumentKey, float] = {}
        self.latencies: dict[InstrumentKey, float] = {}
        self.thins: dict[str, float] = {}
        self.sounded: set[str] = set()  # assets whose depth was ever observed
        self.timed: set[str] = set()  # chains whose lag was
        self.over: dict[str, float] = {}
        self.paused: dict[str, float] = {}
        self.stress: ByLevel = levels()

    # ---- what comes in ------------------------------------------------------------------------------------------------------------

    def define(self, messages: list[Message]) -> None:
        for message in messages:
            self.universe.define(message)

    def set_parameters(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.has_parameters = True
        if not parameters["breakers_enabled"]:
            # A quarantine is a fact, no measure: it stays.
            self.breakers = {key: breaker for key, breaker in self.breakers.items() if key[0] == "quarantine"}

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
        key, measure = (message["venue"], message["instrument"]), message["measure"]
        if key not in self.universe.instruments:
            return "unknown_instrument"
        if self.universe.contract(key) not in MEASURES[measure]:
            return "wrong_type"
        if (measure == "basis" and abs(message["value"]) > BASIS_MAX) or (measure == "interest_rate" and message["value"] < 0):
            return "out_of_range"
        return self._keep_newest(self.observed, (key, measure), message)

    def observe_lag(self, message: Message) -> str:
        chain = message["chain"]
        if message["last_heartbeat_ns"] > 0:  # else the attestor hears none of this chain, and says nothing of its lag
            if chain in self.lags and message["last_heartbeat_ns"] < self.lags[chain]["last_heartbeat_ns"]:
                return "out_of_order"
            self.lags[chain] = message
        if message.get("quarantined", False):
            self.quarantine(chain, True)
        return ""

    def quarantine(self, chain: str, on: bool) -> None:
        self.breaker("quarantine", chain).state = TRIPPED if on else CLOSED

    def recognise(self, asset: str, share: float) -> None:
        """What the asset's global cap leaves of all balances of it."""
        self.recognised[asset] = share

    def slipped(self, chain: str, slip: float) -> None:
        """Closing elsewhere, for collateral on this chain, was done at so much worse a price than that of the decision."""
        known, then_ns = self.slips.get(chain, (0.0, self.clock_ns))
        left = known * fear.halved((self.clock_ns - then_ns) / NANOSECONDS, self.parameters["fear_half_life_s"])
        self.slips[chain] = min(max(slip, left), SLIP_MAX), self.clock_ns

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

    # ---- what follows, once for each frame of the market ----------------------------------------------------------------------------

    def bring_up_to_date(self, kind: str, assets: list[str]) -> None:
        """`assets`: those whose marks are made anew."""
        at_tick = kind == "tick"
        hours = 0.0
        if at_tick:
            hours = 0.0 if self.ticked_ns is None else (self.clock_ns - self.ticked_ns) / 3.6e12
            self.ticked_ns = self.clock_ns
        self.new_minute = False
        if not self.has_parameters:
            return
        self._start_correlations()
        if self.clock_ns:
            for asset in assets:
                self._mark(asset)
            if at_tick or kind == "lags":
                self._step_lags()
            if at_tick:
                groups = {g: self.price(g) for g in self.universe.groups()}
                self.new_minute = self.correlations.tick(self.clock_ns, groups, self.parameters["correlation_lambda"])
            self._settle()
            if at_tick or kind == "lags":
                self._step_layers()
            if at_tick:
                self._step_system()
                for asset in self.universe.assets:
                    self._step_eligibility(asset, hours * fear.HOUR_S)
            for asset in self.universe.assets:
                self._stabilise(asset, hours, at_tick)
                self._sigma(asset)
        self._rise(hours)

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
            self._step("source_divergence", asset, mark.divergence, p["divergence_trip"], p["divergence_reset"])
        if not self.breaker("source_divergence", asset).closed and mark.price is not None:
            mark = replace(mark, price=None, reason="sources_apart")
        self.marks[asset] = mark
        if mark.price is None:
            return
        move = self.moves.setdefault(asset, MoveWindow()).move(mark.price, self.clock_ns, self._ns("move_window_s"))
        self._step("asset_move", asset, move, p["move_trip"], p["move_reset"])
        volatility, floor = self._volatility(asset), self._class(asset)["sigma_floor"]
        sampled = volatility.sample(
            mark.price, mark.time_ns, self._ns("vol_min_step_s"), (p["tau_fast_s"], p["tau_slow_s"]), floor, p["half_life_s"]
        )
        if sampled:
            self._step("volatility_jump", asset, volatility.jump(floor), p["jump_trip"], p["jump_reset"])

    def _step_lags(self) -> None:
        """The lag breakers of the chains that ever sent a heartbeat."""
        for chain, lag in self.lags.items():
            value = max(lag["lag_p95_ns"], self.clock_ns - lag["last_heartbeat_ns"]) / NANOSECONDS
            self._step("attestation_lag", chain, value, self.parameters["lag_trip_s"], self.parameters["lag_reset_s"])

    def _step_layers(self) -> None:
        for layer in self.universe.layers():
            chains = [chain for chain in self.lags if self.universe.layer_of(chain) == layer]
            late = sum(not self.breaker("attestation_lag", chain).closed for chain in chains)
            trip = self.parameters["layer_share"]
            self._step("layer_lag", layer, late / len(chains) if len(chains) > 1 else 0.0, trip, trip / 2)

    def _step_system(self) -> None:
        known = [group for group in self.universe.groups() if self.price(group) is not None]
        moving = sum(self.breaker("asset_move", group).state == TRIPPED for group in known)
        trip = self.parameters["system_share"]
        self._step("system_move", "system", moving / len(known) if len(known) >= GROUPS_FOR_A_SYSTEM else 0.0, trip, trip / 2)

    def _step_eligibility(self, asset: str, seconds: float) -> None:
        row = self._class(asset)
        known = self.price(asset) is not None
        self.uptimes[asset] = fear.uptime(self.uptimes.get(asset, 1.0), known, seconds, self.parameters["uptime_tau_s"])
        value = 0.0
        if asset in self.depths:
            value = row["suspend_depth_usd"] / max(self.depths[asset]["depth_usd"], DEPTH_MIN_USD)
        if row["suspend_uptime"] > 0:
            value = max(value, (1 - self.uptimes[asset]) / (1 - row["suspend_uptime"]))
        self._step("eligibility", asset, value, 1.0, ELIGIBILITY_RESET)

    def _start_correlations(self) -> None:
        p, universe = self.parameters, self.universe
        groups = universe.groups()
        self.correlations.start(
            {g: p["classes"][universe.asset_class(g)]["sigma_ref"] for g in groups},
            {(g, h): universe.prior_correlation(g, h, p["prior_correlation"]) for g in groups for h in groups},
        )

    def _settle(self) -> None:
        """What has expired is worth what its underlying was when it was first known after that."""
        for key, instrument in self.universe.instruments.items():
            if instrument["contract"] in (*FUTURES, *OPTIONS) and self.clock_ns >= instrument["expiry_ns"]:
                mark = self.price(instrument["underlying"])
                if mark is not None:
                    self.settlements.setdefault(key, mark)

    def _stabilise(self, asset: str, hours: float, at_tick: bool) -> None:
        mark = self.price(asset)
        if mark is None:
            return
        if asset not in self.stable:
            self.stable[asset] = mark
        elif at_tick:
            self.stable[asset] = fear.stable_price(self.stable[asset], mark, hours, self._class(asset)["stable_rate"])

    def _sigma(self, asset: str) -> None:
        volatility = self._volatility(asset)
        target = max(volatility.sigma, self._month(asset))
        if not (self.breaker("asset_move", asset).closed and self.breaker("volatility_jump", asset).closed):
            target *= self.parameters["breaker_widen"]
        target = min(target, self._class(asset)["sigma_cap"])
        volatility.advance(target, self.clock_ns, self.parameters["sigma_rise_per_hour"])

    def _month(self, asset: str) -> float:
        """The implied volatility of a month; once all are too old, the last that was known, less as that is longer ago."""
        quotes = {expiry: seen for (name, expiry), seen in self.implied.items() if name == asset and expiry > self.clock_ns}
        if not quotes:
            return 0.0
        newest_ns, age_ns = max(seen["time_ns"] for seen in quotes.values()), self._ns("implied_max_age_s")
        silent_ns = max(self.clock_ns - newest_ns - age_ns, 0)
        as_of_ns = newest_ns if silent_ns else self.clock_ns
        known = {expiry: seen["sigma"] for expiry, seen in quotes.items() if as_of_ns - seen["time_ns"] <= age_ns}
        return nearest_to_a_month(known, self.clock_ns) * fear.halved(silent_ns / NANOSECONDS, self.parameters["half_life_s"])

    def _rise(self, hours: float) -> None:
        """What isn't a price either; what is new starts at its target."""
        p, universe = self.parameters, self.universe

        def moved(kept: dict[Any, float], name: Any, target: float, rise_per_hour: float) -> None:
            kept[name] = fear.slow(kept.get(name, target), target, hours, rise_per_hour, p["fear_half_life_s"])

        for asset in universe.assets:
            self._volatility(asset)
            target = self._thin(asset)
            if asset in self.depths and asset not in self.sounded:
                self.sounded.add(asset)
                self.thins.pop(asset, None)  # the first depth that is known is no move of the floor that was assumed
            moved(self.thins, asset, target, p["thin_rise_per_hour"] * self.thins.get(asset, target))
            moved(self.over, asset, 1 - self.recognised.get(asset, 1.0), p["haircut_rise_per_hour"])
        new = [chain for chain in universe.chains if chain in self.lags and chain not in self.timed]
        self.timed.update(new)
        for key in universe.spots():
            if universe.chain_of(key) in new:
                self.latencies.pop(key, None)  # nor is the first lag one of the delay that was assumed
            moved(self.flats, key, self._flat(key), p["haircut_rise_per_hour"])
            moved(self.latencies, key, self._latency(key, MAINTENANCE), p["haircut_rise_per_hour"])
        for chain in universe.chains:
            self.paused[chain] = fear.paused(self.paused.get(chain, 0.0), not self.takes_credit(chain), hours, p["recognition_half_life_s"])
        self._stress()

    def _stress(self) -> None:
        hours = 0.0
        if self.new_minute:
            hours = 0.0 if self.minute_ns is None else (self.clock_ns - self.minute_ns) / 3.6e12
            self.minute_ns = self.clock_ns
        p, (slow, fast) = self.parameters, (self.stress[MAINTENANCE], self.stress[INITIAL])
        for group in self.universe.groups():
            calm = all(self.breaker(*key).closed for key in (("asset_move", group), ("volatility_jump", group), ("system_move", "system")))
            target = 0.0 if calm else 1.0
            if group not in slow:
                slow[group] = fast[group] = target
            elif self.new_minute:
                slow[group] = fear.slow(slow[group], target, hours, p["stress_rise_per_hour"], p["fear_half_life_s"])
                fast[group] = max(target, slow[group])

    def _flat(self, key: InstrumentKey) -> float:
        asset, chain = self.universe.instruments[key]["underlying"], self.universe.chain_of(key)
        flat = self._class(asset)["base_haircut"] + float(self.universe.chains[chain].get("security_premium", 0.0))
        out = not self.breaker("eligibility", asset).closed or not self.universe.eligible(asset, chain)
        return flat + 1.0 if out else flat

    def _latency(self, key: InstrumentKey, level: str) -> float:
        """As if the account were elsewhere."""
        asset, name = self.universe.instruments[key]["underlying"], self.universe.chain_of(key)
        chain, volatility = self.universe.chains[name], self._volatility(asset)
        way_s = (
            chain["finality_s"]
            + max(chain["messaging_delay_s"], self.lags[name]["lag_p95_ns"] / NANOSECONDS if name in self.lags else 0.0)
            + self.universe.assets[asset].get("redemption_delay_s", 0.0)
            + self.parameters["auction_s"]
        )
        sigma = volatility.maintenance if level == MAINTENANCE else volatility.initial
        return float(self.parameters["latency_z"] * sigma * math.sqrt(way_s / YEAR_S))

    def _thin(self, asset: str) -> float:
        return 1 / math.sqrt(self._depth(asset)[0])

    def _volatility(self, asset: str) -> Volatility:
        if asset not in self.volatilities:
            row = self._class(asset)
            self.volatilities[asset] = Volatility.start(row["sigma_ref"], row["sigma_floor"], row["sigma_cap"])
        return self.volatilities[asset]

    def _step(self, trigger: str, name: str, value: float, trip: float, reset: float) -> None:
        if self.parameters["breakers_enabled"]:
            self.breaker(trigger, name).step(value, self.clock_ns, trip, reset, self._ns("cooldown_s"))

    def _class(self, asset: str) -> dict[str, float]:
        found: dict[str, float] = self.parameters["classes"][self.universe.asset_class(asset)]
        return found

    def _ns(self, name: str) -> int:
        return round(float(self.parameters[name]) * NANOSECONDS)

    # ---- what comes out -----------------------------------------------------------------------------------------------------------

    def breaker(self, trigger: str, name: str) -> Breaker:
        return self.breakers.setdefault((trigger, name), Breaker())

    def takes_credit(self, chain: str) -> bool:
        """Whether new credit from there is applied at once."""
        of_layer = self.breaker("layer_lag", self.universe.layer_of(chain))
        return self.breaker("attestation_lag", chain).closed and self.breaker("quarantine", chain).closed and of_layer.closed

    def price(self, asset: str) -> float | None:
        return self.marks[asset].price if asset in self.marks else None

    def fresh_implied(self, underlying: str) -> dict[int, float]:
        """{expiry: sigma} of what is fresh now."""
        limit_ns = self._ns("implied_max_age_s")
        return {
            expiry: message["sigma"]
            for (name, expiry), message in self.implied.items()
            if name == underlying and self.clock_ns - message["time_ns"] <= limit_ns and expiry > self.clock_ns
        }

    def _depth(self, asset: str) -> tuple[float, float]:
        """USD on the bid side, and the spread; what is too old counts only where it is worse than the floors."""
        floors = self._class(asset)["depth_floor_usd"], self.parameters["spread_floor_bps"]
        seen = self.depths.get(asset)
        if seen is None:
            return floors
        depth, spread = max(seen["depth_usd"], DEPTH_MIN_USD), seen["spread_bps"]
        limit_s = self._class(asset)["max_age_s"] * self.parameters["depth_age_multiple"]
        is_fresh = self.clock_ns - seen["time_ns"] <= limit_s * NANOSECONDS
        return (depth, spread) if is_fresh else (min(depth, floors[0]), max(spread, floors[1]))

    def _fresh_value(self, key: InstrumentKey, measure: str) -> float:
        """Of a rate or a basis; 0 where none is known that is young enough."""
        seen = self.observed.get((key, measure))
        return float(seen["value"]) if seen is not None and self.clock_ns - seen["time_ns"] <= self._ns("funding_max_age_s") else 0.0

    def _index(self, key: InstrumentKey) -> float:
        index, rate = self.observed.get((key, "interest_index")), self.observed.get((key, "interest_rate"))
        value = 1.0 if index is None else float(index["value"])
        since = index or rate
        return value if since is None or rate is None else fear.with_interest(value, rate["value"], since["time_ns"], self.clock_ns)

    def _slip(self, chain: str) -> float:
        """As of the clock's last whole minute."""
        slip, then_ns = self.slips[chain]
        minute_ns = self.clock_ns // fear.MINUTE_NS * fear.MINUTE_NS
        return slip * fear.halved(max(minute_ns - then_ns, 0) / NANOSECONDS, self.parameters["fear_half_life_s"])

    def view(self) -> View:
        universe, p = self.universe, self.parameters
        if not self.has_parameters:
            return View(p, self.clock_ns, dict.fromkeys(universe.assets), dict.fromkeys(universe.assets, "not_defined"))
        groups, spots = universe.groups(), universe.spots()
        depths = {asset: self._depth(asset) for asset in universe.assets}
        by_contract = {name: [key for key in universe.instruments if universe.contract(key) in MEASURES[name]] for name in MEASURES}
        options = {(i["underlying"], i["expiry_ns"]) for i in universe.instruments.values() if i["contract"] in OPTIONS}

        def both(slow: dict[Any, float], target: dict[Any, float]) -> ByLevel:
            return {MAINTENANCE: dict(slow), INITIAL: {name: max(target[name], slow[name]) for name in slow}}

        return View(
            parameters=p,
            clock_ns=self.clock_ns,
            marks={asset: self.price(asset) for asset in universe.assets},
            reasons={asset: self.marks[asset].reason if asset in self.marks else "not_defined" for asset in universe.assets},
            stable=dict(self.stable),
            indexes={key: self._index(key) for key in by_contract["interest_index"]},
            basis={key: self._fresh_value(key, "basis") for key in by_contract["basis"]},
            funding={
                key: self._fresh_value(key, "rate_per_hour")
                * fear.hours_of_interval(self.clock_ns, universe.instruments[key].get("funding_interval_s", 0))
                for key in by_contract["rate_per_hour"]
            },
            settlements=dict(self.settlements),
            sigmas={
                MAINTENANCE: {asset: self._volatility(asset).maintenance for asset in universe.assets},
                INITIAL: {asset: self._volatility(asset).initial for asset in universe.assets},
            },
            correlations={
                (g, h): self.correlations.rho(g, h, universe.prior_correlation(g, h, p["prior_correlation"]), p["correlation_shrink"])
                for g in groups
                for h in groups
            },
            stress={level: dict(self.stress[level]) for level in LEVELS},
            implied={option: implied_at(self.fresh_implied(option[0]), option[1], self.clock_ns) for option in options},
            depths_usd={asset: depth for asset, (depth, _) in depths.items()},
            spreads_bps={asset: spread for asset, (_, spread) in depths.items()},
            lags_s={chain: lag["lag_p95_ns"] / NANOSECONDS for chain, lag in self.lags.items()},
            flats=both(self.flats, {key: self._flat(key) for key in spots}),
            latencies=both(self.latencies, {key: self._latency(key, INITIAL) for key in spots}),
            thins=both(self.thins, {asset: self._thin(asset) for asset in universe.assets}),
            over=both(self.over, {asset: 1 - self.recognised.get(asset, 1.0) for asset in universe.assets}),
            paused=dict(self.paused),
            slips={chain: self._slip(chain) for chain in self.slips},
        )
