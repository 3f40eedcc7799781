"""One look at the market: all that an account is valued with, by names."""

from dataclasses import dataclass, field, replace
from typing import Any

from streams.shadow.universe import InstrumentKey

Parameters = dict[str, Any]
MAINTENANCE, INITIAL = "maintenance", "initial"
LEVELS = (MAINTENANCE, INITIAL)

ByLevel = dict[str, dict[Any, float]]


def levels() -> ByLevel:
    return {level: {} for level in LEVELS}


@dataclass(frozen=True)
class View:
    """What accounts are valued with, by names.

    By level and name: `sigmas`, `thins` and `over` (the share above the global cap) of assets, `stress` of groups, `flats` (base, security,
    not eligible) and `latencies` of spot instruments. `implied` by (underlying, expiry); `indexes` with accrued interest; `funding` is what
    a long perpetual owes of its value for the present interval; `settlements` of instruments that have expired; `lags_s`, `paused` and
    `slips` by chain.
    """

    parameters: Parameters
    clock_ns: int = 0
    marks: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    stable: dict[str, float] = field(default_factory=dict)
    indexes: dict[InstrumentKey, float] = field(default_factory=dict)
    basis: dict[InstrumentKey, float] = field(default_factory=dict)
    funding: dict[InstrumentKey, float] = field(default_factory=dict)
    settlements: dict[InstrumentKey, float] = field(default_factory=dict)
    sigmas: ByLevel = field(default_factory=levels)
    correlations: dict[tuple[str, str], float] = field(default_factory=dict)
    stress: ByLevel = field(default_factory=levels)
    implied: dict[tuple[str, int], float | None] = field(default_factory=dict)
    depths_usd: dict[str, float] = field(default_factory=dict)
    spreads_bps: dict[str, float] = field(default_factory=dict)
    lags_s: dict[str, float] = field(default_factory=dict)
    flats: ByLevel = field(default_factory=levels)
    latencies: ByLevel = field(default_factory=levels)
    thins: ByLevel = field(default_factory=levels)
    over: ByLevel = field(default_factory=levels)
    paused: dict[str, float] = field(default_factory=dict)
    slips: dict[str, float] = field(default_factory=dict)

    def with_haircut_inputs_of(self, other: "View") -> "View":
        return replace(
            self,
            depths_usd=other.depths_usd,
            spreads_bps=other.spreads_bps,
            lags_s=other.lags_s,
            flats=other.flats,
            latencies=other.latencies,
            thins=other.thins,
            over=other.over,
            paused=other.paused,
            slips=other.slips,
        )

    def with_regime_of(self, other: "View") -> "View":
        """An implied volatility that the other view hasn't got stays."""
        implied = self.implied | {option: sigma for option, sigma in other.implied.items() if sigma is not None}
        return replace(self, sigmas=other.sigmas, correlations=other.correlations, stress=other.stress, implied=implied)

    def with_nothing_paused(self) -> "View":
        return replace(self, paused={})
