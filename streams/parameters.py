"""Risk parameters as an operator keeps them: a TOML file with a `version` and what differs from the defaults; and their tables.

`python -m streams.parameters FILE...` renews the tables of parameters in those files; without a file it prints them.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from pydantic import BaseModel

from engine.inputs import Name
from engine.parameters import ASSET_CLASSES, ClassParameters, Parameters
from streams.documents import MadeTable, allowed_values, as_table, as_written, run
from streams.parameter_check import KeyFault, ParameterCheck, check_parameters


class ParametersFault(ValueError):
    """A file that is no parameter set; the text names every fault."""


class ParameterSet(Struct, frozen=True):
    """What a file says, with that of the preset it begins with: validated. `version` is the name that decisions will carry."""

    version: str
    parameters: dict[str, Any]
    preset: str = "default"


def check_file(path: Path) -> tuple[str, ParameterCheck]:
    """(version, all there is to say) of a TOML file. Raises ParametersFault where there is nothing to look at."""
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParametersFault(f"{path} is not TOML: {error}") from None
    except OSError as error:
        raise ParametersFault(f"{path} cannot be read: {error.strerror}") from None
    version = content.pop("version", None)
    check = check_parameters(content)
    try:
        return msgspec.convert(version, type=Name), check
    except msgspec.ValidationError as error:
        fault = KeyFault(key="version", problem=f'{error}; name the set, as in version = "2025-10-10.1"')
        return "", msgspec.structs.replace(check, faults=[fault, *check.faults])


def read_parameters(path: Path) -> ParameterSet:
    """The parameter set in a TOML file, with that of its preset. Raises ParametersFault with every fault at once."""
    version, check = check_file(path)
    if check.faults:
        raise ParametersFault("\n  ".join([f"{path} is not in order:", *map(str, check.faults)]))
    return ParameterSet(version, check.changes, check.preset)


def as_toml(version: str, parameters: Parameters) -> str:
    """A whole set as a file that `read_parameters` reads, with what each is for."""
    whole = parameters.model_dump()
    classes = whole.pop("classes")
    lines = [f'version = "{version}"', *(_line(name, value, OF_A_SET) for name, value in whole.items())]
    for name, row in classes.items():
        lines += ["", f"[classes.{name}]", *(_line(key, value, OF_A_CLASS) for key, value in row.items())]
    return "\n".join(lines) + "\n"


def _line(name: str, value: Any, what: dict[str, str]) -> str:
    return f"{name} = {json.dumps(value)} # {what[name]}" if name in what else f"{name} = {json.dumps(value)}"


# ---- tables ---------------------------------------------------------------------------------------------------------------------------

# What each is for, in a line; the formulas are in docs/model.md.
OF_A_SET: Final = {
    "quorum": "sources that must be fresh and agree for a mark",
    "mad_k": "how many deviations (1.4826 MAD) from the median make an outlier",
    "mad_floor_bps": "what is nearer to the median than this is never an outlier",
    "depth_age_multiple": "depths stay fresh this many times a price's maximum age",
    "implied_max_age_s": "how long an implied volatility stays fresh",
    "funding_max_age_s": "how long a funding rate or a basis counts after it was observed",
    "settlement_wait_s": "how long what has expired is valued at its settlement price; then it is unknown (`expired`)",
    "uptime_tau_s": "time constant of the share of time in which an asset had a mark",
    "clock_step_max_s": "the most that one tick moves the clock",
    "future_skew_s": "how far an event's time may lie beyond the clock; more than feeders let the clock lag by, which is 2 s",
    "vol_min_step_s": "least time between two volatility samples",
    "tau_fast_s": "time constant of the fast volatility",
    "tau_slow_s": "time constant of the slow volatility",
    "half_life_s": "how slowly volatility falls after it rose",
    "sigma_rise_per_hour": "the most that maintenance volatility rises in an hour",
    "correlation_lambda": "weight of the past in the covariance, a minute",
    "correlation_shrink": "weight of the prior in a correlation",
    "prior_correlation": "prior between groups that move with the market",
    "correlation_high": "how far the regime of high correlation goes from the observed one towards 1",
    "correlation_low": "how far that of low correlation goes towards 0",
    "haircut_rise_per_hour": "the most that flat and latency haircuts, and what is over a global cap, rise in an hour at maintenance",
    "thin_rise_per_hour": "the same of the thinness of depth, as a multiple of what it was",
    "stress_rise_per_hour": "the same of stress, which is 1 while a breaker of moves is open",
    "fear_half_life_s": "how slowly all of these fall again, and measured slippage too",
    "recognition_half_life_s": "how slowly a chain's credit is recognised less while it is late or in quarantine",
    "latency_z": "how many standard deviations a transfer's delay costs",
    "auction_s": "time to sell collateral, added to the delay of its chain",
    "grid_steps": "price steps a side: 6 gives 28 scenarios, 3 gives SPAN's 16",
    "scan_k": "scan range in standard deviations over the horizon",
    "horizon_s": "time within which a position can be closed",
    "vol_shock": "relative shock of volatility at 30 days",
    "vol_shock_power": "how much stronger short tenors are shocked",
    "tenor_floor_s": "shorter tenors are shocked as this one",
    "vol_min": "what a shock upwards brings volatility to at least",
    "extreme_multiple": "extreme moves in scan ranges",
    "extreme_fraction": "share of an extreme move's loss that counts",
    "short_option_minimum": "least requirement of options sold, as a share of their underlyings' notional",
    "basis_bps": "charge for a basis by time to expiry: perpetuals, then up to 7, 30, 90, 365 days, and beyond",
    "vega_shock": "volatility shock at 30 days by which what is netted within a tenor is charged",
    "gap_fraction": "share of what curvature loses beyond the scan range that is charged",
    "concentration_k": "charge for positions larger than the depth, in scan ranges",
    "limit_account": "most notional of an account's derivatives, as a multiple of its collateral",
    "limit_asset": "the same of one risk group",
    "limit_venue": "the same at one venue",
    "end_factor": "liquidation ends at this multiple of maintenance",
    "initial_factor": "initial requirement over the scenarios' loss",
    "decision_mode": "what offsets what: nothing, within a venue, or everything",
    "venue_call_distance": "nearer than this to a venue's own liquidation, a leg there is a margin call",
    "venue_clear_distance": "further than this, that call is over",
    "grace_s": "after a margin call for a haircut, regime or credit",
    "grace_shortfall_fraction": "of maintenance; a larger shortfall ends the grace at once",
    "breakers_enabled": "all breakers",
    "move_window_s": "over which an asset's move is measured",
    "move_trip": "move that trips",
    "move_reset": "move below which it recovers",
    "breaker_widen": "factor on volatility while the move breaker is not closed",
    "divergence_trip": "divergence of sources that trips: the mark becomes unknown",
    "divergence_reset": "divergence below which it recovers",
    "lag_trip_s": "attestation lag that trips: credits of the chain are held",
    "lag_reset_s": "lag below which it recovers",
    "jump_trip": "fast volatility over slow volatility that trips: volatility is widened",
    "jump_reset": "ratio below which it recovers",
    "layer_share": "share of a messaging layer's chains that are late, beyond which none of them is recognised in full",
    "system_share": "share of groups that moved too fast, beyond which all are under stress",
    "volume_trip": "share of a liquidation budget spent that trips: it is told",
    "volume_reset": "share below which it recovers",
    "silence_trip": "orders in a row without a word until their venue is let alone",
    "bad_debt_limit_usd": "bad debt over all partitions beyond which new risk is refused",
    "cooldown_s": "time below reset until a breaker closes",
    "plan_legs_max": "orders of one plan",
    "plan_retry_s": "time until a plan that came to nothing is tried again",
    "order_ttl_s": "life of an order",
    "impact_coefficient": "price impact, times the root of order over depth",
    "spread_floor_bps": "spread where none was observed, and the least where it is old",
    "slip_bps": "limit price from the mark, first attempt",
    "slip_step_bps": "more slip with each further attempt",
    "slip_cap_bps": "most slip",
    "grant_interval_s": "how often throttle budgets are granted",
    "throttle_share": "of an asset's depth, that all partitions together may order in an interval",
    "throttle_burst": "how many intervals' budgets may pile up",
    "fund_micro_usd": "the insurance fund, in millionths of a USD",
    "health_publish_bps": "`account.health` speaks again when equity or requirement moved by this share of the requirement",
}
OF_A_CLASS: Final = {
    "max_age_s": "how long a price stays fresh",
    "base_haircut": "taken off collateral always",
    "vol_coefficient": "haircut on positions for volatility above its reference",
    "depeg_coefficient": "haircut for each unit below the redemption value",
    "size_coefficient": "haircut, times the root of value over depth",
    "sigma_ref": "volatility before any sample",
    "sigma_floor": "least volatility",
    "sigma_cap": "most volatility",
    "scan_floor": "least scan range",
    "scan_cap": "most scan range",
    "depth_floor_usd": "depth where none was observed, and the most where it is old",
    "stable_rate": "how far in an hour the price follows that the initial level goes by",
    "suspend_depth_usd": "with less depth it is no collateral; 0: whatever its depth",
    "suspend_uptime": "with a mark for a smaller share of the time it is no collateral; 0: whatever its uptime",
}


def parameters_table() -> str:
    """The parameters of a set, but for its classes, as a table in Markdown."""
    fields = _fields(Parameters)
    rows = [
        [f"`{name}`", allowed_values(fields[name]), f"`{as_written(fields[name]['default'])}`", what] for name, what in OF_A_SET.items()
    ]
    return as_table(["parameter", "may be", "default", "what it is"], rows)


def classes_table() -> str:
    """The parameters of each class, with the classes' defaults, as a table in Markdown."""
    fields = _fields(ClassParameters)
    defaults = Parameters().classes
    rows = [
        [f"`{name}`", allowed_values(fields[name]), *(as_written(getattr(defaults[group], name)) for group in ASSET_CLASSES), what]
        for name, what in OF_A_CLASS.items()
    ]
    return as_table(["of each class", "may be", *(f"`{group}`" for group in ASSET_CLASSES), "what it is"], rows)


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    fields: dict[str, Any] = model.model_json_schema()["properties"]
    return fields


PARAMETERS_TABLE = MadeTable("parameters", "streams.parameters", parameters_table)
CLASSES_TABLE = MadeTable("classes", "streams.parameters", classes_table)

if __name__ == "__main__":
    run(PARAMETERS_TABLE, CLASSES_TABLE)
