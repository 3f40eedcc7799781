"""Presets, what a check says of a set, and the commands about both."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from engine.margin import MAINTENANCE
from engine.parameters import Parameters, parse_parameters
from streams.command_line import FAULT, FOUND_WANTING, app
from streams.parameter_check import check_parameters, warnings
from streams.parameters import ParametersFault, as_toml, read_parameters
from streams.presets import PRESETS, PresetNotKnown, flat, laid_over, preset, whole
from tests.small_market import Account, new_market


def plimsoll(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


# ---- presets --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_valid_set_of_differences_with_sources(name: str) -> None:
    one = preset(name)
    parameters, defaults = flat(whole(one.parameters).model_dump()), flat(Parameters().model_dump())
    for key, value in flat(one.parameters).items():
        assert parameters[key] == value
    changed = {key for key in parameters if parameters[key] != defaults[key]}
    assert changed <= set(flat(one.parameters))
    text = (files("streams") / "parameter_presets" / f"{name}.toml").read_text()
    for line in text.partition("[parameters]")[2].splitlines():
        assert " = " not in line or re.search(r" # \S", line), f"say where this is from: {line}"


def test_the_default_changes_nothing_and_no_file_is_without_a_name() -> None:
    assert whole(preset("default").parameters) == Parameters()
    assert {path.name for path in (files("streams") / "parameter_presets").iterdir()} == {f"{name}.toml" for name in PRESETS}
    with pytest.raises(PresetNotKnown, match="there are default, conservative, span16, derive_pmrm2, deribit_pm"):
        preset("../settings")


def test_span16_is_spans_grid() -> None:
    span = whole(preset("span16").parameters)
    assert 2 * (2 * span.grid_steps + 1) + 2 == 16
    assert (span.extreme_multiple, span.extreme_fraction) == (2.0, 0.33)


def test_the_venues_scan_ranges_do_not_move_and_their_ratio_of_levels_is_theirs() -> None:
    for name, scan in (("derive_pmrm2", 0.18), ("deribit_pm", 0.16)):
        parameters = whole(preset(name).parameters)
        assert (parameters.classes["major"].scan_floor, parameters.classes["major"].scan_cap) == (scan, scan)
        assert parameters.initial_factor == pytest.approx(1.0 / 0.8)
        assert parameters.extreme_multiple * scan == pytest.approx(0.33), "of both tails there is the one of a third"
    assert preset("derive_pmrm2").not_expressed


@pytest.mark.parametrize(
    "positions",
    [
        [("venue-one", "BTC-perp", 100, 0)],
        [("venue-one", "BTC-35-100000-C", -50, 0), ("venue-one", "BTC-perp", 30, 0)],
        [("venue-one", "ETH-perp", 100, 0), ("venue-two", "DOGE-perp", -1_000, 0)],
    ],
)
def test_conservative_asks_for_more(positions: list[tuple[str, str, int, int]]) -> None:
    asked = []
    for name in ("default", "conservative"):
        unknown, out = Account(new_market(preset(name).parameters), positions).value()
        assert unknown == 0
        asked.append(float(out[MAINTENANCE]))
    assert asked[1] > asked[0] > 0.0


def test_laying_one_over_another_changes_neither() -> None:
    base: dict[str, Any] = {"quorum": 2, "classes": {"alt": {"scan_cap": 0.7}}}
    changes: dict[str, Any] = {"classes": {"alt": {"base_haircut": 0.2}, "major": {"scan_cap": 0.4}}, "mad_k": 5.0}
    expected = {"quorum": 2, "classes": {"alt": {"scan_cap": 0.7, "base_haircut": 0.2}, "major": {"scan_cap": 0.4}}, "mad_k": 5.0}
    assert laid_over(base, changes) == expected
    assert base == {"quorum": 2, "classes": {"alt": {"scan_cap": 0.7}}}
    assert laid_over({"classes": 3}, {"classes": {"alt": 1}}) == {"classes": {"alt": 1}}


def test_no_message_names_a_preset() -> None:
    """A preset may change with a release: what is in force must not."""
    assert parse_parameters({"preset": "span16"}) == ["preset: Extra inputs are not permitted"]


# ---- what a file says -----------------------------------------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    file = folder / "set.toml"
    file.write_text(text)
    return file


def test_a_file_begins_with_its_preset_and_what_is_sent_names_none(tmp_path: Path) -> None:
    file = written(tmp_path, 'version = "v1"\npreset = "span16"\nextreme_fraction = 0.4\n[classes.alt]\nscan_cap = 0.6\n')
    read = read_parameters(file)
    assert (read.version, read.preset) == ("v1", "span16")
    assert read.parameters == laid_over(preset("span16").parameters, {"extreme_fraction": 0.4, "classes": {"alt": {"scan_cap": 0.6}}})
    assert "preset" not in read.parameters
    resolved = whole(read.parameters)
    assert (resolved.grid_steps, resolved.extreme_fraction) == (3, 0.4)


@pytest.mark.parametrize("name", PRESETS)
def test_a_set_that_is_shown_can_be_read_again(name: str, tmp_path: Path) -> None:
    parameters = whole(preset(name).parameters)
    file = written(tmp_path, as_toml(name, parameters))
    read = read_parameters(file)
    assert read.version == name
    assert whole(read.parameters) == parameters
    shown = plimsoll("parameters", "show", "--preset", name)
    assert shown.output == file.read_text() == plimsoll("parameters", "show", "--preset", name, "--toml").output
    as_json = json.loads(plimsoll("parameters", "show", "--preset", name, "--json").output)
    assert as_json == {"version": name, **parameters.model_dump(mode="json")} == tomllib.loads(shown.output)


FAULTY = """
quorum = 0
quorums = 2
end_factor = "x"
initial_factor = 1.1
move_reset = 0.9
lag_reset_s = 2000
preset = "spam16"
[classes.alt]
base_haircut = nan
scan_flor = 1
[classes.meme]
[classes.stable]
scan_floor = 0.9
"""


def test_every_fault_is_told_at_once_with_its_bound_and_what_was_meant(tmp_path: Path) -> None:
    result = plimsoll("parameters", "check", str(written(tmp_path, FAULTY)))
    assert result.exit_code == FOUND_WANTING
    told = dict(line.strip().split(": ", 1) for line in result.output.splitlines()[1:])
    assert set(told) == {
        "version",
        "preset",
        "quorum",
        "quorums",
        "end_factor",
        "move_reset",
        "lag_reset_s",
        "classes.alt.base_haircut",
        "classes.alt.scan_flor",
        "classes.meme",
        "classes.stable.scan_floor",
    }
    assert "whole number, from 1 to 16" in told["quorum"]
    assert told["quorums"] == "there is no such parameter; did you mean quorum?"
    assert told["classes.alt.scan_flor"].endswith("did you mean scan_floor?")
    assert told["preset"].endswith("did you mean span16?")
    assert "cash, major, alt" in told["classes.meme"]
    assert told["move_reset"] == "move_reset is above move_trip"
    assert told["classes.stable.scan_floor"].startswith("scan_floor is above scan_cap")
    with pytest.raises(ParametersFault, match="quorums: there is no such parameter"):
        read_parameters(tmp_path / "set.toml")


def test_a_value_of_another_type_is_a_slip_whatever_it_might_mean() -> None:
    told = {"quorum": "2", "scan_k": "3", "grace_s": True, "breakers_enabled": "false", "classes": {"alt": {"scan_cap": "0.5"}}}
    faults = {fault.key for fault in check_parameters(told).faults}
    assert faults == {"quorum", "scan_k", "grace_s", "breakers_enabled", "classes.alt.scan_cap"}
    assert check_parameters({"scan_k": 3, "basis_bps": [1, 2, 3, 4, 5, 6.5], "grace_s": 60}).faults == []


def test_what_is_between_a_wrong_key_and_a_right_one_is_not_made_up() -> None:
    """Without its wrong value end_factor would have the default, which is above this initial_factor."""
    faults = check_parameters({"end_factor": "x", "initial_factor": 1.1}).faults
    assert [fault.key for fault in faults] == ["end_factor"]


def test_what_differs_and_what_is_odd(tmp_path: Path) -> None:
    file = written(tmp_path, 'version = "v2"\npreset = "span16"\nmove_reset = 0.05\ngrid_steps = 6\n[classes.alt]\nbase_haircut = 0.2\n')
    result = plimsoll("parameters", "check", str(file))
    assert result.exit_code == 0
    assert f"{file} is in order: version v2, on preset span16." in result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ["move_reset", "0.05", "(default", "0.02)"] in lines
    assert ["grid_steps", "6", "(default", "6,", "span16", "3)"] in lines, "as the defaults have it, not as the preset"
    assert ["extreme_fraction", "0.33", "(default", "0.35,", "span16", "0.33)"] in lines
    assert ["classes.alt.base_haircut", "0.2", "(default", "0.12)"] in lines
    assert "warning: move_reset is equal to move_trip: the breaker has no hysteresis, and may flap" in result.output
    said = json.loads(plimsoll("parameters", "check", str(file), "--json").output)
    assert (said["version"], said["preset"], said["faults"]) == ("v2", "span16", [])
    assert said["changes"]["grid_steps"] == 6
    assert {one["key"] for one in said["differences"]} >= {"move_reset", "grid_steps"}
    assert len(said["warnings"]) == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"quorum": 1}, "quorum is 1"),
        ({"divergence_reset": 0.05}, "divergence_reset is equal"),
        ({"lag_reset_s": 1_800.0}, "lag_reset_s is equal"),
        ({"breakers_enabled": False}, "breakers_enabled is false"),
        ({"end_factor": 1.0}, "end_factor is 1:"),
        ({"end_factor": 1.3}, "end_factor is equal to initial_factor"),
        ({"end_factor": 1.0, "initial_factor": 1.0}, "initial_factor is 1:"),
        ({"scan_k": 1.5}, "scan_k is below 2"),
        ({"extreme_fraction": 0.0}, "extreme_fraction is 0"),
        ({"extreme_multiple": 1.0}, "extreme_multiple is 1"),
        ({"vol_shock": 0.0}, "vol_shock is 0"),
        ({"tau_fast_s": 86_400.0}, "tau_fast_s is not below"),
        ({"sigma_rise_per_hour": 0.0}, "sigma_rise_per_hour is 0"),
        ({"latency_z": 0.0}, "latency_z is 0"),
        ({"slip_bps": 600.0}, "slip_bps is above"),
        ({"plan_retry_s": 90.0}, "plan_retry_s is above"),
        ({"grace_s": 0.0}, "grace_s is 0"),
        ({"fund_micro_usd": 0}, "fund_micro_usd is 0"),
        ({"classes": {"alt": {"scan_floor": 0.7}}}, "classes.alt: scan_floor is equal"),
        ({"classes": {"alt": {"sigma_ref": 6.0}}}, "classes.alt: sigma_ref is above"),
        ({"classes": {"alt": {"base_haircut": 0.0}}}, "classes.alt: base_haircut is 0"),
    ],
)
def test_every_warning_can_be_met(changes: dict[str, Any], text: str) -> None:
    assert any(said.startswith(text) for said in warnings(whole(changes)))
    assert warnings(Parameters()) == []


# ---- commands -------------------------------------------------------------------------------------------------------------------------


def test_the_presets_are_listed_with_what_they_cannot_say() -> None:
    result = plimsoll("parameters", "presets")
    assert result.exit_code == 0
    for name in PRESETS:
        assert f"{name}: {preset(name).about}" in result.output
    assert "  classes.major.scan_floor = 0.18" in result.output
    assert result.output.count("  not expressed: ") == sum(len(preset(name).not_expressed) for name in PRESETS)


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("show", "--preset", "spam"), FAULT, "no preset is called 'spam'"),
        (("show", "--json", "--toml"), FAULT, "say once how"),
        (("check", "/nowhere/set.toml"), FOUND_WANTING, "cannot be read"),
    ],
)
def test_what_cannot_be_done_says_why(arguments: tuple[str, ...], code: int, why: str) -> None:
    result = plimsoll("parameters", *arguments)
    assert result.exit_code == code
    assert why in result.output


def test_a_file_that_is_not_toml_is_told(tmp_path: Path) -> None:
    result = plimsoll("parameters", "check", str(written(tmp_path, "version =")))
    assert result.exit_code == FOUND_WANTING
    assert "is not TOML" in result.output
