"""What is wrong, what is odd and what is different about a parameter set: for those who write one."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Final

from msgspec import Struct
from pydantic import BaseModel

from engine.parameters import ASSET_CLASSES, ClassParameters, Parameters, parse_parameters
from streams.documents import allowed_values, as_written
from streams.presets import PRESETS, PresetNotKnown, flat, laid_over, preset, whole

OF_THE_FILE: Final = ("version", "preset")  # keys that a file has besides parameters
_UNKNOWN: Final = "Extra inputs are not permitted"
_OF_SEVERAL: Final = "Value error, "  # what pydantic puts before a fault that lies between several keys


class KeyFault(Struct, frozen=True, kw_only=True):
    """One thing that is wrong. `allowed`: what the key may be, `meant`: the nearest key that there is; '' where that says nothing."""

    key: str
    problem: str
    allowed: str = ""
    meant: str = ""

    def __str__(self) -> str:
        bound = f"; it may be: {self.allowed}" if self.allowed else ""
        return f"{self.key}: {self.problem}{bound}{f'; did you mean {self.meant}?' if self.meant else ''}"


class Difference(Struct, frozen=True, kw_only=True):
    """A parameter that is not as the preset, or not as the defaults, have it; in the form in which a file has it."""

    key: str
    value: str
    preset: str
    default: str


class ParameterCheck(Struct, frozen=True, kw_only=True):
    """What there is to say about a set. `changes` is all that differs from the defaults, and what is sent; {} where something is wrong."""

    preset: str
    faults: list[KeyFault]
    differences: list[Difference]
    warnings: list[str]
    changes: dict[str, Any]


def check_parameters(content: dict[str, Any]) -> ParameterCheck:
    """Look at the content of a set file without its version: at all of it at once."""
    own = dict(content)
    name = own.pop("preset", "default")
    try:
        base = preset(name if isinstance(name, str) else str(name)).parameters
        faults = []
    except PresetNotKnown as unknown:
        near = get_close_matches(str(name), PRESETS, n=1)
        base, faults = {}, [KeyFault(key="preset", problem=str(unknown), meant=near[0] if near else "")]
    changes = laid_over(base, own)
    faults += _faults(changes)
    if faults:
        return ParameterCheck(preset=str(name), faults=faults, differences=[], warnings=[], changes={})
    parameters = whole(changes)
    return ParameterCheck(
        preset=name, faults=[], differences=differences(parameters, whole(base)), warnings=warnings(parameters), changes=changes
    )


# ---- faults ---------------------------------------------------------------------------------------------------------------------------


def _faults(changes: dict[str, Any]) -> list[KeyFault]:
    """Those of single keys, and those between keys of which none is wrong by itself."""
    found: list[KeyFault] = []
    left = changes
    while isinstance(lines := parse_parameters(left), list):
        told = [fault for line in lines for fault in _told(*line.partition(": ")[::2])]
        wrong = [fault.key for fault in found]
        # Without its wrong keys a set has their defaults: what is said of those is not said of the file.
        found += [fault for fault in told if not any(_names(fault, key) for key in wrong)]
        pruned = _without(left, {fault.key for fault in told})
        if pruned == left:
            break
        left = pruned
    return found


def _told(key: str, problem: str) -> list[KeyFault]:
    """One line of the parser, taken apart: what lies between several keys comes in one."""
    if problem.startswith(_OF_SEVERAL):
        section = "" if key == "parameters" else f"{key}."
        return [_between(section, part) for part in problem.removeprefix(_OF_SEVERAL).split("; ")]
    if key.endswith(".[key]"):
        name = key.removesuffix(".[key]")
        return [KeyFault(key=name, problem="there is no such class", allowed=", ".join(ASSET_CLASSES), meant=_near(name, "classes."))]
    if problem == _UNKNOWN:
        return [KeyFault(key=key, problem="there is no such parameter", meant=_near(key, key.rpartition(".")[0] + "."))]
    return [KeyFault(key=key, problem=problem, allowed=_allowed(key))]


def _between(section: str, part: str) -> KeyFault:
    first, _, rest = part.partition(" ")
    return KeyFault(key=f"{section}{first.rstrip(':')}", problem=part if rest else "is wrong")


def _names(fault: KeyFault, key: str) -> bool:
    last = key.rpartition(".")[2]
    return last in fault.problem.replace(":", " ").split() or fault.key == key


def _without(content: dict[str, Any], keys: set[str], prefix: str = "") -> dict[str, Any]:
    left = {key: value for key, value in content.items() if f"{prefix}{key}" not in keys}
    return {key: _without(value, keys, f"{prefix}{key}.") if isinstance(value, dict) else value for key, value in left.items()}


def _near(key: str, section: str) -> str:
    """The nearest name that could have been meant in that section of a file, '' where none is near."""
    names: tuple[str, ...] = (*OF_THE_FILE, *Parameters.model_fields)
    if section.startswith("classes."):
        names = ASSET_CLASSES if section == "classes." else tuple(ClassParameters.model_fields)
    near = get_close_matches(key.rpartition(".")[2], names, n=1)
    return near[0] if near else ""


def _allowed(key: str) -> str:
    parts = key.split(".")
    model: type[BaseModel] = ClassParameters if parts[0] == "classes" and len(parts) == 3 else Parameters
    schema: dict[str, Any] = model.model_json_schema()["properties"].get(parts[-1], {})
    return allowed_values(schema) if "type" in schema or "enum" in schema or "anyOf" in schema else ""


# ---- what differs, and what is odd ----------------------------------------------------------------------------------------------------


def differences(parameters: Parameters, base: Parameters) -> list[Difference]:
    """What `parameters` has otherwise than the defaults, or than `base`."""
    values, before, defaults = (flat(one.model_dump()) for one in (parameters, base, Parameters()))
    return [
        Difference(key=key, value=as_written(value), preset=as_written(before[key]), default=as_written(defaults[key]))
        for key, value in values.items()
        if value != defaults[key] or value != before[key]
    ]


def warnings(parameters: Parameters) -> list[str]:
    """What is allowed and seldom meant."""
    p = parameters
    said = [text for test, text in _ODD if test(p)]
    for name, row in p.classes.items():
        said += [f"classes.{name}: {text}" for test, text in _ODD_OF_A_CLASS if test(row)]
        if name != "cash" and row.base_haircut == 0.0:
            said.append(f"classes.{name}: base_haircut is 0: such collateral counts whole while markets rest")
    return said


_ODD: Final[tuple[tuple[Callable[[Parameters], bool], str], ...]] = (
    (lambda p: p.quorum == 1, "quorum is 1: one source alone makes a mark, right or wrong"),
    (lambda p: p.move_reset == p.move_trip, "move_reset is equal to move_trip: the breaker has no hysteresis, and may flap"),
    (lambda p: p.divergence_reset == p.divergence_trip, "divergence_reset is equal to divergence_trip: the breaker has no hysteresis"),
    (lambda p: p.lag_reset_s == p.lag_trip_s, "lag_reset_s is equal to lag_trip_s: the breaker has no hysteresis, and may flap"),
    (lambda p: not p.breakers_enabled, "breakers_enabled is false: no breaker trips, whatever happens"),
    (lambda p: p.end_factor == 1.0, "end_factor is 1: a liquidation ends where it began, and may begin again at once"),
    (lambda p: p.end_factor == p.initial_factor, "end_factor is equal to initial_factor: nothing lies between liquidated and healthy"),
    (lambda p: p.initial_factor == 1.0, "initial_factor is 1: new risk is refused only where liquidation begins"),
    (lambda p: p.scan_k < 2.0, "scan_k is below 2: a scan range of less than two standard deviations"),
    (lambda p: p.extreme_fraction == 0.0, "extreme_fraction is 0: no loss beyond the scan range counts"),
    (lambda p: p.extreme_multiple == 1.0, "extreme_multiple is 1: the extremes are no further than the scan range"),
    (lambda p: p.vol_shock == 0.0, "vol_shock is 0: no scenario moves volatility, so that vega costs nothing"),
    (lambda p: p.tau_fast_s >= p.tau_slow_s, "tau_fast_s is not below tau_slow_s: the fast volatility is not the faster one"),
    (lambda p: p.sigma_rise_per_hour == 0.0, "sigma_rise_per_hour is 0: maintenance never follows a volatility that rises"),
    (lambda p: p.latency_z == 0.0, "latency_z is 0: collateral that is out of reach costs nothing"),
    (lambda p: p.slip_bps > p.slip_cap_bps, "slip_bps is above slip_cap_bps: every order has the cap"),
    (lambda p: p.plan_retry_s > p.order_ttl_s, "plan_retry_s is above order_ttl_s: nothing is tried for longer than an order lives"),
    (lambda p: p.grace_s == 0.0, "grace_s is 0: a haircut that rises liquidates without a call before it"),
    (lambda p: p.fund_micro_usd == 0, "fund_micro_usd is 0: there is no insurance fund"),
)
_ODD_OF_A_CLASS: Final[tuple[tuple[Callable[[ClassParameters], bool], str], ...]] = (
    (lambda c: c.scan_floor == c.scan_cap, "scan_floor is equal to scan_cap: the scan range does not follow volatility"),
    (lambda c: c.sigma_ref > c.sigma_cap, "sigma_ref is above sigma_cap: volatility begins at the cap"),
)
