"""What control has told of the market, and by what rules it is taken or refused: observations, the clock, and the state they end in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.breakers import new_breakers, new_move_samples
from engine.correlation import new_covariances
from engine.funding import BASIS, BASIS_LIMIT, INDEX, INTEREST_RATE, has_measure, measure_of, new_fundings
from engine.inputs import Depth, Funding, ImpliedVolatility, LagObservation, OraclePrice
from engine.market_arrays import new_depths, new_lags, new_settings, new_touched
from engine.marks import NEVER_NS, new_observations
from engine.reasons import Refusal
from engine.slow_rise import measure_slip, new_slips, new_slow_rises
from engine.tables import ASSETS_MAX, CHAINS_MAX, CONTRACTS, EXPIRIES_MAX, INSTRUMENTS_MAX, LAYERS_MAX, SPOT
from engine.terms import Terms
from engine.universe import Fault
from engine.volatility import new_implied, new_volatilities

if TYPE_CHECKING:
    from engine.market_pieces import Pieces


class ObservedMarket(Terms):
    """The state of a market, all of which goes into the cut, and what of it was touched since the last revaluation."""

    _pieces: Pieces

    def __init__(self) -> None:
        super().__init__()
        self.advanced_ns = 0  # clock when maintenance volatility and what else rises slowly was last advanced
        self.grid_minute = -1  # of the last point of the correlation grid
        self.observations = new_observations()
        self.depths = new_depths()
        self.implied = new_implied()
        self.lags = new_lags()
        self.fundings = new_fundings()
        self.recognised: NDArray[np.float64] = np.ones(ASSETS_MAX)  # share of balances that the asset's global cap leaves
        self.recognised_in_force: NDArray[np.float64] = np.ones(ASSETS_MAX)  # as of the last frame of the market
        self.slips = new_slips()
        self.quarantined: NDArray[np.bool_] = np.zeros(CHAINS_MAX, dtype=np.bool_)  # as told; whether it is in force its breaker says
        self.volatilities = new_volatilities()
        self.covariances = new_covariances()
        self.move_samples = new_move_samples()
        self.stable: NDArray[np.float64] = np.full(ASSETS_MAX, math.nan)  # delay-limited prices, nan: none yet
        self.uptime: NDArray[np.float64] = np.ones(ASSETS_MAX)  # of the mark, of late
        self.settled: NDArray[np.float64] = np.full(INSTRUMENTS_MAX, math.nan)  # settlement prices, nan: none yet
        self.slow = new_slow_rises()
        self.stressed_ns = 0  # clock when stress last moved
        self.move_breakers = new_breakers(ASSETS_MAX)
        self.jump_breakers = new_breakers(ASSETS_MAX)
        self.divergence_breakers = new_breakers(ASSETS_MAX)
        self.eligibility_breakers = new_breakers(ASSETS_MAX)
        self.lag_breakers = new_breakers(CHAINS_MAX)
        self.layer_breakers = new_breakers(LAYERS_MAX)
        self.system_breakers = new_breakers(1)
        self.quarantine_breakers = new_breakers(CHAINS_MAX)
        self.settings = new_settings(self.parameters)  # of the parameters, for kernels
        self.touched = new_touched()
        # Since the last revalue.
        self._assets_observed: set[int] = set()
        self._ticked = False
        self._defined = False
        self._parameters_set = False
        self._lagged = False
        self._quarantine_told = False
        self._implied_observed = False
        self._funding_observed = False
        self._slip_observed = False

    @property
    def live(self) -> bool:
        """Whether anything can be valued: the clock has been set and parameters are in force."""
        return self.clock_ns > 0 and self.parameters_version != ""

    def observe_price(self, price: OraclePrice) -> Fault | None:
        """One source's price. An older one than the last is refused; one of the same time changes nothing."""
        asset = self.universe.asset_number(price.asset)
        if asset is None:
            return Refusal.UNKNOWN_ASSET, price.asset
        sources = self.universe.sources[asset]
        slot = sources.index(price.source) if price.source in sources else -1
        if slot < 0 or self.universe.asset_arrays.source_weight[asset, slot] <= 0.0:
            return Refusal.UNKNOWN_SOURCE, f"{price.source} is no source of {price.asset}"
        fault = self._time_fault(price.publish_time_ns, int(self.observations.publish_ns[asset, slot]))
        if fault is not None:
            return fault
        if price.publish_time_ns > self.observations.publish_ns[asset, slot]:
            self.observations.price[asset, slot] = price.price
            self.observations.confidence[asset, slot] = price.confidence
            self.observations.publish_ns[asset, slot] = price.publish_time_ns
            self._pieces.changed("mark", asset)
        self._assets_observed.add(asset)
        return None

    def observe_depth(self, depth: Depth) -> Fault | None:
        asset = self.universe.asset_number(depth.asset)
        if asset is None:
            return Refusal.UNKNOWN_ASSET, depth.asset
        fault = self._time_fault(depth.time_ns, int(self.depths.time_ns[asset]))
        if fault is not None:
            return fault
        if depth.time_ns > self.depths.time_ns[asset]:
            if self.depths.time_ns[asset] == NEVER_NS:
                self.slow.thin[asset] = math.nan  # the floor that was assumed before is no fear that would have to fall
            self.depths.depth_usd[asset] = depth.depth_usd
            self.depths.spread_bps[asset] = depth.spread_bps
            self.depths.time_ns[asset] = depth.time_ns
            self._pieces.changed("mark", asset)
        return None

    def observe_volatility(self, quote: ImpliedVolatility) -> Fault | None:
        """Implied volatility of one expiry. When EXPIRIES_MAX are kept, those past make room; else it is refused."""
        asset = self.universe.asset_number(quote.underlying)
        if asset is None:
            return Refusal.UNKNOWN_ASSET, quote.underlying
        implied = self.implied
        count = int(implied.quotes[asset])
        at = int(np.searchsorted(implied.expiry_ns[asset, :count], quote.expiry_ns))
        known = at < count and int(implied.expiry_ns[asset, at]) == quote.expiry_ns
        fault = self._time_fault(quote.time_ns, int(implied.time_ns[asset, at]) if known else NEVER_NS)
        if fault is not None:
            return fault
        if known and quote.time_ns == implied.time_ns[asset, at]:
            return None
        if not known:
            if quote.expiry_ns <= self.clock_ns:
                return Refusal.OUT_OF_RANGE, f"expiry {quote.expiry_ns} is not after the clock {self.clock_ns}"
            if count >= EXPIRIES_MAX:
                past = int(np.searchsorted(implied.expiry_ns[asset, :count], self.clock_ns, side="right"))
                if past == 0:
                    return Refusal.TOO_MANY, f"{EXPIRIES_MAX} expiries of {quote.underlying} are quoted"
                for column in (implied.expiry_ns, implied.sigma, implied.time_ns):
                    column[asset, : count - past] = column[asset, past:count].copy()
                count -= past
                at -= past
            for column in (implied.expiry_ns, implied.sigma, implied.time_ns):
                column[asset, at + 1 : count + 1] = column[asset, at:count].copy()
            implied.quotes[asset] = count + 1
            implied.expiry_ns[asset, at] = quote.expiry_ns
        implied.sigma[asset, at] = quote.sigma
        implied.time_ns[asset, at] = quote.time_ns
        self._implied_observed = True
        self._pieces.changed("implied", asset)
        return None

    def observe_funding(self, funding: Funding) -> Fault | None:
        """One measure of one instrument: funding rate, basis, interest index or rate. An older one than the last is refused."""
        if self.universe.venue_number(funding.venue) is None:
            return Refusal.UNKNOWN_VENUE, funding.venue
        number = self.universe.instrument_number(funding.venue, funding.instrument)
        if number is None:
            return Refusal.UNKNOWN_INSTRUMENT, f"{funding.venue} {funding.instrument}"
        contract = int(self.universe.instrument_arrays.contract[number])
        measure, value = funding.measure, funding.value
        if not has_measure(contract, measure):
            return Refusal.WRONG_TYPE, f"{measure} of {funding.venue} {funding.instrument}, which is a {CONTRACTS[contract]}"
        if measure == INDEX and value <= 0.0:
            return Refusal.NOT_POSITIVE, f"interest_index {value}"
        if (measure == BASIS and abs(value) > BASIS_LIMIT) or (measure == INTEREST_RATE and value < 0.0):
            return Refusal.OUT_OF_RANGE, f"{measure} {value}"
        values, times = measure_of(self.fundings, measure)
        fault = self._time_fault(funding.time_ns, int(times[number]))
        if fault is not None:
            return fault
        if funding.time_ns > times[number]:
            values[number] = value
            times[number] = funding.time_ns
            self._pieces.changed("funding", number)
            self._funding_observed = True
        return None

    def observe_lag(self, lag: LagObservation) -> Fault | None:
        """The attestor's word on a chain's lag and newest heartbeat, and whether it contradicts itself (for good)."""
        chain = self.universe.chain_number(lag.chain)
        if chain is None:
            return Refusal.UNKNOWN_CHAIN, lag.chain
        if lag.last_heartbeat_ns > 0:  # else it is of an attestor that hears none of this chain
            if lag.last_heartbeat_ns < self.lags.heartbeat_ns[chain]:
                return Refusal.OUT_OF_ORDER, f"heartbeat {lag.last_heartbeat_ns} is before {self.lags.heartbeat_ns[chain]}"
            if self.lags.heartbeat_ns[chain] == NEVER_NS:
                terms = self.universe.instrument_arrays
                self.slow.latency[(terms.chain == chain) & (terms.contract == SPOT)] = math.nan  # begins with what is now known
                self.touched.chain[chain] = True
            self.lags.p95_ns[chain] = lag.lag_p95_ns
            self.lags.heartbeat_ns[chain] = lag.last_heartbeat_ns
        if lag.quarantined:
            self.quarantined[chain] = True
            self._quarantine_told = True
        self._lagged = True
        self._pieces.changed("lag", chain)
        return None

    def set_quarantine(self, chain: str, on: bool) -> Fault | None:
        """An operator's word on a chain's quarantine."""
        number = self.universe.chain_number(chain)
        if number is None:
            return Refusal.UNKNOWN_CHAIN, chain
        self.quarantined[number] = on
        self._quarantine_told = True
        self._pieces.changed("lag", number)
        return None

    def observe_recognised(self, asset: int, share: float) -> None:
        """The treasury's word on an asset: which share (0 to 1) of all accounts' balances its global cap leaves."""
        assert 0.0 <= share <= 1.0, f"a share of {share}: whoever sent it must be stopped"
        if share != self.recognised[asset]:
            self.recognised[asset] = share
            self._pieces.changed("mark", asset)

    def observe_slip(self, chain: int, slip: float, time_ns: int) -> None:
        """How much worse than its mark an order went whose account lies on another chain, as a fraction >= 0."""
        assert 0.0 <= slip < math.inf, f"a slippage of {slip} was measured"
        measure_slip(chain, slip, time_ns, self.parameters.fear_half_life_s, self.slips)
        self._slip_observed = True
        self._pieces.changed("lag", chain)

    def tick(self, time_ns: int) -> bool:
        """As every machine's clock moves; what follows from it is left to the next revaluation."""
        if not super().tick(time_ns):
            return False
        self._ticked = True
        self._pieces.changed("clock")
        return True

    # ---- inside -----------------------------------------------------------------------------------------------------------------

    def _time_fault(self, time_ns: int, last_ns: int) -> Fault | None:
        if self._is_future(time_ns):
            return Refusal.FUTURE_TIME, self._future(time_ns)
        if time_ns < last_ns:
            return Refusal.OUT_OF_ORDER, f"{time_ns} is before {last_ns}"
        return None
