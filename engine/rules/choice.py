"""A venue's choice of its rule: checked whole when it is said, then used for many accounts at once."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from engine.rules.adapters import ADAPTERS, CANNOT, Adapter
from engine.rules.catalogue import modules
from engine.rules.faults import read, told, twice
from engine.rules.interface import COLUMNS, RuleInfo
from engine.rules.legs import Adapted, Given, Needs, VenueLegs, no_legs


class Choice(NamedTuple):
    """A rule with a venue's parameters, as its kernel takes them."""

    info: RuleInfo
    module: Any  # a module of engine.rules
    adapt: Adapter
    parameters: Struct
    terms: object
    given: Given


class Found(NamedTuple):
    """What a rule makes of legs. Rows of accounts that it cannot take, or that lack a number, are nan; `needs` says why."""

    out: NDArray[np.float64]  # (accounts, COLUMNS), see engine.rules.interface
    needs: Needs
    adapted: list[Adapted]


def choose(rule: str, parameters: Mapping[str, Any], given: Given) -> Choice | list[str]:
    """The choice, or the faults of it, each with its path: those of the rule, else all of its parameters, else all of what is given.

    What is not given is no fault: which accounts lack it depends on what they hold.
    """
    choice = read_choice(rule, parameters, given)
    return choice if isinstance(choice, list) else given_faults(choice) or choice


def read_choice(rule: str, parameters: Mapping[str, Any], given: Given) -> Choice | list[str]:
    """The choice, or every fault of its rule or parameters; what is given is taken as it is."""
    rules = modules()
    if rule not in rules:
        near = next(iter(get_close_matches(rule, rules)), "")
        return [f"rule: no rule is called {rule!r}{near and f'; did you mean {near}?'}"]
    if rule not in ADAPTERS:
        return [f"rule: {rule} cannot take a leg of a portfolio: {CANNOT[rule]}"]
    module: Any = rules[rule]
    read_parameters = read(module.Parameters, parameters)
    found = read_parameters if isinstance(read_parameters, list) else twice(read_parameters)
    if isinstance(read_parameters, list) or found:
        return [f"parameters.{fault}" for fault in found]
    make = getattr(module, "terms", None) or module.parameter_arrays
    return Choice(module.RULE, module, ADAPTERS[rule], read_parameters, make(read_parameters), given)


def given_faults(choice: Choice) -> list[str]:
    """What is wrong with what is given, whatever anybody holds: what the rule does not ask for, and what is of the wrong form."""
    held = no_legs("", choice.given)
    needs = Needs(held)
    choice.adapt(held, choice.parameters, needs)
    return told([*needs.faults, *needs.unasked(by_asset=False)])


def margins(choice: Choice, held: VenueLegs) -> Found:
    """Runs the rule over all accounts of `held`. Each account's row is to the last bit what it is alone."""
    needs = Needs(held)
    adapted = choice.adapt(held, choice.parameters, needs)
    out = np.full((held.accounts, COLUMNS), np.nan)
    for one in adapted:
        if hasattr(choice.module, "require_indices"):
            choice.module.require_indices(one.inputs, choice.terms)
        rows = np.empty((len(one.accounts), COLUMNS))
        choice.module.margins(one.inputs, choice.terms, rows)
        out[one.accounts] = rows
    out[needs.not_taken | needs.lacking] = np.nan
    return Found(out, needs, adapted)
