"""Risk parameters: one frozen, validated set. Unknown keys are refused and all faults are reported at once.

Every number has a bound; docs/model.md says where each is used. Pools may differ; a decision carries the version that it used.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

AssetClass = Literal["cash", "major", "alt", "stable", "synthetic_dollar", "liquid_staking", "real_world", "governance"]
ASSET_CLASSES: tuple[AssetClass, ...] = (
    "cash",
    "major",
    "alt",
    "stable",
    "synthetic_dollar",
    "liquid_staking",
    "real_world",
    "governance",
)
MODES = ("isolated", "protocol", "portfolio")
BPS: Final = 1e-4

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Sigma = Annotated[float, Field(ge=0.0, le=10.0)]
Seconds = Annotated[float, Field(ge=0.0, le=31_536_000.0)]
Bps = Annotated[float, Field(ge=0.0, le=10_000.0)]
Usd = Annotated[float, Field(ge=0.0, le=1e15)]


class _Frozen(BaseModel):
    # Strict: `grace_s = true` is a slip, and no second.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class ClassParameters(_Frozen):
    """What holds for every asset of one class."""

    max_age_s: Annotated[float, Field(gt=0.0, le=604_800.0)] = 60.0
    base_haircut: Fraction = 0.05
    vol_coefficient: Annotated[float, Field(ge=0.0, le=5.0)] = 0.05
    depeg_coefficient: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    size_coefficient: Annotated[float, Field(ge=0.0, le=1.0)] = 0.02
    sigma_ref: Sigma = 0.8
    sigma_floor: Sigma = 0.3
    sigma_cap: Sigma = 5.0
    scan_floor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    scan_cap: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    depth_floor_usd: Annotated[float, Field(gt=0.0, le=1e12)] = 100_000.0
    stable_rate: Annotated[float, Field(gt=0.0, le=100.0)] = 0.06
    suspend_depth_usd: Usd = 0.0
    suspend_uptime: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> "ClassParameters":
        if self.scan_floor > self.scan_cap:
            raise ValueError("scan_floor is above scan_cap: raise the cap or lower the floor")
        if self.sigma_floor > self.sigma_cap:
            raise ValueError("sigma_floor is above sigma_cap: raise the cap or lower the floor")
        return self


def _default_classes() -> dict[AssetClass, ClassParameters]:
    return {
        "cash": ClassParameters(
            base_haircut=0.0, vol_coefficient=0.0, size_coefficient=0.0, sigma_ref=0.0, sigma_floor=0.0, scan_floor=0.001
        ),
        "major": ClassParameters(),
        "alt": ClassParameters(base_haircut=0.12, sigma_ref=1.2, sigma_floor=0.5, scan_floor=0.08, scan_cap=0.7),
        "stable": ClassParameters(
            base_haircut=0.02,
            depeg_coefficient=1.0,
            sigma_ref=0.03,
            sigma_floor=0.02,
            scan_floor=0.01,
            scan_cap=0.3,
            size_coefficient=0.005,
        ),
        "synthetic_dollar": ClassParameters(
            base_haircut=0.04,
            depeg_coefficient=1.0,
            sigma_ref=0.06,
            sigma_floor=0.03,
            scan_floor=0.02,
            scan_cap=0.4,
            size_coefficient=0.005,
        ),
        "liquid_staking": ClassParameters(base_haircut=0.07, depeg_coefficient=0.5),
        "real_world": ClassParameters(base_haircut=0.15, max_age_s=345_600.0, sigma_ref=0.2, sigma_floor=0.1),
        "governance": ClassParameters(base_haircut=0.3, sigma_ref=1.5, sigma_floor=0.8, scan_floor=0.1, scan_cap=0.8),
    }


class Parameters(_Frozen):
    """One whole set."""

    classes: dict[AssetClass, ClassParameters] = Field(default_factory=_default_classes)
    # marks
    quorum: Annotated[int, Field(ge=1, le=16)] = 2
    mad_k: Annotated[float, Field(gt=0.0, le=20.0)] = 4.0
    mad_floor_bps: Bps = 50.0
    depth_age_multiple: Annotated[float, Field(ge=1.0, le=100.0)] = 5.0
    implied_max_age_s: Seconds = 600.0
    funding_max_age_s: Seconds = 86_400.0
    settlement_wait_s: Seconds = 3_600.0
    uptime_tau_s: Annotated[float, Field(gt=0.0, le=31_536_000.0)] = 3_600.0
    clock_step_max_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 60.0
    # Feeders hand events on while the clock lags by up to 2 s; half a tick and the way through the log come on top. Below 3 s an
    # event that is true and in time could be refused, and a fill that was refused leaves its account UNKNOWN.
    future_skew_s: Annotated[float, Field(ge=3.0, le=3_600.0)] = 5.0
    # volatility and correlation
    vol_min_step_s: Annotated[float, Field(ge=0.001, le=3_600.0)] = 1.0
    tau_fast_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 1_800.0
    tau_slow_s: Annotated[float, Field(gt=0.0, le=31_536_000.0)] = 86_400.0
    half_life_s: Annotated[float, Field(gt=0.0, le=31_536_000.0)] = 21_600.0
    sigma_rise_per_hour: Annotated[float, Field(ge=0.0, le=10.0)] = 0.5
    correlation_lambda: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.99
    correlation_shrink: Fraction = 0.3
    prior_correlation: Fraction = 0.6
    correlation_high: Fraction = 0.25
    correlation_low: Fraction = 0.25
    # what is not a price, at maintenance: how much an hour it rises at most, and by which half-life it falls
    haircut_rise_per_hour: Annotated[float, Field(ge=0.0, le=10.0)] = 0.05
    thin_rise_per_hour: Annotated[float, Field(ge=0.0, le=100.0)] = 1.0
    stress_rise_per_hour: Annotated[float, Field(ge=0.0, le=100.0)] = 2.0
    fear_half_life_s: Annotated[float, Field(gt=0.0, le=31_536_000.0)] = 3_600.0
    recognition_half_life_s: Annotated[float, Field(gt=0.0, le=31_536_000.0)] = 21_600.0
    # haircuts
    latency_z: Annotated[float, Field(ge=0.0, le=10.0)] = 3.0
    auction_s: Seconds = 900.0
    # scenarios
    grid_steps: Literal[3, 6] = 6
    scan_k: Annotated[float, Field(gt=0.0, le=10.0)] = 3.0
    horizon_s: Annotated[float, Field(gt=0.0, le=2_592_000.0)] = 86_400.0
    vol_shock: Annotated[float, Field(ge=0.0, le=3.0)] = 0.35
    vol_shock_power: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    tenor_floor_s: Annotated[float, Field(gt=0.0, le=31_536_000.0)] = 86_400.0
    vol_min: Sigma = 0.2
    extreme_multiple: Annotated[float, Field(ge=1.0, le=5.0)] = 2.0
    extreme_fraction: Fraction = 0.35
    # add-ons
    short_option_minimum: Fraction = 0.01
    basis_bps: Annotated[tuple[Bps, Bps, Bps, Bps, Bps, Bps], Field(strict=False)] = (25.0, 25.0, 50.0, 75.0, 150.0, 250.0)
    vega_shock: Annotated[float, Field(ge=0.0, le=1.0)] = 0.03
    gap_fraction: Fraction = 0.15
    concentration_k: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    # position limits, as multiples of the collateral's value
    limit_account: Annotated[float, Field(gt=0.0, le=1e6)] = 25.0
    limit_asset: Annotated[float, Field(gt=0.0, le=1e6)] = 20.0
    limit_venue: Annotated[float, Field(gt=0.0, le=1e6)] = 20.0
    # levels
    end_factor: Annotated[float, Field(ge=1.0, le=3.0)] = 1.15
    initial_factor: Annotated[float, Field(ge=1.0, le=5.0)] = 1.3
    decision_mode: Literal["isolated", "protocol", "portfolio"] = "portfolio"
    # distance of a leg to its venue's own liquidation, see engine.rules.interface.DISTANCE
    venue_call_distance: Fraction = 0.05  # below it margin.calls says so
    venue_clear_distance: Fraction = 0.08  # above it the call is over
    grace_s: Seconds = 600.0
    grace_shortfall_fraction: Annotated[float, Field(ge=0.0, le=10.0)] = 0.5
    # circuit breakers
    breakers_enabled: bool = True
    move_window_s: Annotated[float, Field(ge=10.0, le=630.0)] = 300.0
    move_trip: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    move_reset: Annotated[float, Field(gt=0.0, le=1.0)] = 0.02
    breaker_widen: Annotated[float, Field(ge=1.0, le=5.0)] = 1.5
    divergence_trip: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    divergence_reset: Annotated[float, Field(gt=0.0, le=1.0)] = 0.02
    lag_trip_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 1_800.0
    lag_reset_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 1_200.0
    jump_trip: Annotated[float, Field(gt=0.0, le=1e6)] = 4.0
    jump_reset: Annotated[float, Field(gt=0.0, le=1e6)] = 3.0
    layer_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    system_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    volume_trip: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    volume_reset: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    silence_trip: Annotated[int, Field(ge=1, le=1_000)] = 5
    bad_debt_limit_usd: Annotated[float, Field(gt=0.0, le=1e15)] = 1_000_000.0
    cooldown_s: Seconds = 300.0
    # liquidation
    plan_legs_max: Annotated[int, Field(ge=1, le=16)] = 4
    plan_retry_s: Annotated[float, Field(ge=0.0, le=3_600.0)] = 5.0
    order_ttl_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 60.0
    impact_coefficient: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    spread_floor_bps: Bps = 10.0
    slip_bps: Bps = 50.0
    slip_step_bps: Bps = 50.0
    slip_cap_bps: Bps = 500.0
    # treasury
    grant_interval_s: Annotated[float, Field(gt=0.0, le=3_600.0)] = 10.0
    throttle_share: Annotated[float, Field(gt=0.0, le=10.0)] = 0.25
    throttle_burst: Annotated[float, Field(ge=1.0, le=100.0)] = 4.0
    fund_micro_usd: Annotated[int, Field(ge=0, le=2**62)] = 10_000_000_000_000
    # what is told
    health_publish_bps: Bps = 100.0  # account.health speaks again when equity or requirement moved by this share of the requirement

    @model_validator(mode="after")
    def _whole(self) -> "Parameters":
        faults = [f"classes: {name} is missing" for name in ASSET_CLASSES if name not in self.classes]
        for low, high in (
            ("end_factor", "initial_factor"),
            ("venue_call_distance", "venue_clear_distance"),
            ("move_reset", "move_trip"),
            ("divergence_reset", "divergence_trip"),
            ("lag_reset_s", "lag_trip_s"),
            ("jump_reset", "jump_trip"),
            ("volume_reset", "volume_trip"),
        ):
            if getattr(self, low) > getattr(self, high):
                faults.append(f"{low} is above {high}")
        if faults:
            raise ValueError("; ".join(faults))
        return self


def parse_parameters(raw: dict[str, Any]) -> Parameters | list[str]:
    """A validated set, or every fault found, each naming its key. `classes` given in part are merged over the defaults."""
    merged = dict(raw)
    classes = merged.get("classes")
    if isinstance(classes, dict):
        defaults = {name: c.model_dump() for name, c in _default_classes().items()}
        merged["classes"] = {
            **defaults,
            **{k: ({**defaults.get(k, {}), **v} if isinstance(v, dict) else v) for k, v in classes.items()},
        }
    try:
        return Parameters.model_validate(merged)
    except ValidationError as faults:
        return [f"{'.'.join(str(part) for part in fault['loc']) or 'parameters'}: {fault['msg']}" for fault in faults.errors()]
