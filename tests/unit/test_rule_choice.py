"""A venue's choice of its rule: what it may be, and every fault of it by its path."""

from collections.abc import Mapping
from typing import Any

import pytest

from engine.rules.adapters import ADAPTERS, CANNOT
from engine.rules.catalogue import modules
from engine.rules.choice import Choice, choose
from engine.rules.faults import FAULTS_MAX
from tests.venue_legs import TRIALS

AAVE = TRIALS["aave_v3"].parameters
WEIGHTS = {"init_asset_weight": 0.8, "maint_asset_weight": 0.9, "init_liab_weight": 1.2, "maint_liab_weight": 1.1}


@pytest.mark.parametrize("rule", TRIALS)
def test_a_choice_in_order(rule: str) -> None:
    trial = TRIALS[rule]
    choice = choose(rule, trial.parameters, trial.given)
    assert isinstance(choice, Choice)
    assert choice.info.name == rule
    assert choice.module is modules()[rule]
    assert choice.given == trial.given
    assert isinstance(choose(rule, trial.parameters, {}), Choice), "who lacks what is not given depends on what they hold"


def test_every_rule_can_be_chosen_or_says_why_not() -> None:
    assert set(modules()) == {*ADAPTERS, *CANNOT}
    for rule, why in CANNOT.items():
        assert choose(rule, {}, {}) == [f"rule: {rule} cannot take a leg of a portfolio: {why}"]


@pytest.mark.parametrize(
    ("rule", "parameters", "given", "faults"),
    [
        ("mango_v5", {}, {}, ["rule: no rule is called 'mango_v5'; did you mean mango_v4?"]),
        ("", {}, {}, ["rule: no rule is called ''"]),
        ("aave_v3_liquidation", {}, {}, ["rule: no rule is called 'aave_v3_liquidation'"]),
        ("aave_v3", {}, {}, ["parameters.reserves: is missing"]),
        (
            "dederi",
            {"shock": [0.1], "contingency_factor": 2.0},
            {"rate": 1.0},
            ["parameters.shock: not a parameter", "parameters.contingency_factor: Expected `float` <= 1.0"],
        ),
        (
            "mango_v4",
            {"tokens": [{"name": "USD", **WEIGHTS}, {"name": "BTC", **WEIGHTS, "maint_asset_weight": 0.7}]},
            {},
            ["parameters.tokens[1]: init weights must not be milder than maint weights"],
        ),
        (
            "dederi",
            {},
            {"rate": 1.0, "mode": {"BTC": 1.0}},
            ["given.rate: the rule does not ask for it", "given.mode: the rule does not ask for it"],
        ),
        (
            "aave_v3",
            AAVE,
            {"mode": 7, "modes": 1},
            ["given.mode: 7 is none of the 1 categories, counted from 1; 0 is none", "given.modes: the rule does not ask for it"],
        ),
        (
            "aave_v3",
            {"reserves": [AAVE["reserves"][0], AAVE["reserves"][1], AAVE["reserves"][0]]},
            {},
            ["parameters.reserves[2].name: ETH is there before"],
        ),
        ("drift_v2", {"spots": [{"name": f"S{k}"} for k in range(513)]}, {}, ["parameters.spots: Expected `array` of length <= 512"]),
        ("mango_v4", {"tokens": [{"name": "", **WEIGHTS}]}, {}, ["parameters.tokens[0].name: Expected `str` of length >= 1"]),
        ("aave_v3", AAVE, {"mode": 0.5}, ["given.mode: 0.5 is none of the 1 categories, counted from 1; 0 is none"]),
        ("aave_v3", AAVE, {"mode": {"BTC": 1}}, ["given.mode: must be one number"]),
        (
            "hyperliquid_pm",
            {},
            {"loan_to_value": {"BTC": 0.5, "ETH": 50.0}, "supply_cap": {"SOL": -1.0}},
            ["given.supply_cap.SOL: -1 is not 0 or more", "given.loan_to_value.ETH: 50 is not from 0 to 1"],
        ),
        ("derive_srm", TRIALS["derive_srm"].parameters, {"confidence": 98.0}, ["given.confidence: 98 is not from 0 to 1"]),
        ("deribit_pm", TRIALS["deribit_pm"].parameters, {"spot_margin": -0.1}, ["given.spot_margin: -0.1 is not 0 or more"]),
        ("hyperliquid_pm", {}, {"supply_cap": 5.0}, ["given.supply_cap: must be numbers by asset"]),
        ("deribit_pm", TRIALS["deribit_pm"].parameters, {"spot_margin": {"BTC": 1.0}}, ["given.spot_margin: must be one number"]),
        ("derive_srm", TRIALS["derive_srm"].parameters, {"confidence": {"BTC": 98.0}}, ["given.confidence.BTC: 98 is not from 0 to 1"]),
    ],
)
def test_faults_by_their_path(rule: str, parameters: Mapping[str, Any], given: Mapping[str, Any], faults: list[str]) -> None:
    assert choose(rule, parameters, given) == faults


def test_thousands_of_faults_are_counted() -> None:
    """They go into one letter."""
    told = choose("dederi", {}, {f"x{k}": 1.0 for k in range(5_000)})
    assert isinstance(told, list)
    assert len(told) == FAULTS_MAX + 1
    assert told[-1] == f"and {5_000 - FAULTS_MAX} more"
