"""Random accounts for the rules of venues, as subjects of tests.unit.rule_checks; benchmarks draw from here too.

A rule that stands in `RULES` is held to `tests/property/test_rules_venues.py`, which needs to know of its twin alone.
"""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.random import Generator

from engine.rules import bybit_uta, dederi, deribit_pm, hyperliquid_pm, okx, span16
from engine.rules.outcome import Integers
from tests.unit.rule_checks import Subject

LEGS_MAX: Final = 8


class Trial(NamedTuple):
    """One rule: its module, parameters as its kernel takes them, and a population."""

    module: ModuleType
    document: Struct  # the rule's Parameters
    draw: Callable[[Generator, int], Any]  # generator, accounts -> Inputs
    by_leg: tuple[str, ...]
    by_account: tuple[str, ...]
    sizes: tuple[str, ...]  # what grows when a position does
    equity: str
    feeds: tuple[str, ...] = ()
    caps: tuple[str, ...] = ()  # fields that may be infinite

    @property
    def parameters(self) -> Any:
        """As the rule's kernel takes them."""
        return self.module.parameter_arrays(self.document)


def subject(name: str, accounts: int, seed: int) -> Subject:
    """Random accounts of a rule of `RULES`."""
    trial = RULES[name]
    inputs = trial.draw(np.random.default_rng(seed), accounts)
    legs = {"start": trial.by_leg}
    return Subject(trial.module.RULE, trial.module.margins, inputs, trial.parameters, trial.by_account, legs, trial.feeds)


def _start(generator: Generator, accounts: int) -> Integers:
    return np.concatenate([[0], np.cumsum(generator.integers(0, LEGS_MAX + 1, accounts))]).astype(np.int64)


def _deribit_pm(generator: Generator, accounts: int) -> deribit_pm.Inputs:
    start = _start(generator, accounts)
    legs = int(start[-1])
    return deribit_pm.Inputs(
        start=start,
        size=generator.normal(0.0, 300.0, legs),
        years=generator.choice(np.array([0.0, 0.02, 0.2, 1.0]), legs),
        index_usd=generator.uniform(1_000.0, 100_000.0, accounts),
        equity=generator.uniform(-10.0, 1_000.0, accounts),
        correlation_contingency=generator.uniform(0.0, 0.1, accounts),
        mmp_margin=generator.uniform(0.0, 0.1, accounts),
        open_orders_margin=generator.uniform(0.0, 0.1, accounts),
        spot_margin=generator.uniform(0.0, 0.1, accounts),
    )


def _span16(generator: Generator, accounts: int) -> span16.Inputs:
    start = _start(generator, accounts)
    legs, instruments = int(start[-1]), 12
    return span16.Inputs(
        start=start,
        instrument=generator.integers(0, instruments, legs),
        quantity=generator.integers(-20, 21, legs).astype(np.float64),
        commodity=generator.integers(0, 3, instruments),
        gain_usd=generator.normal(0.0, 5_000.0, (instruments, span16.SCENARIOS)),
        option_value_usd=generator.uniform(0.0, 500.0, instruments),
        is_option=generator.random(instruments) < 0.5,
        notional_usd=generator.uniform(50_000.0, 200_000.0, instruments),
        spread_charge_usd=generator.uniform(0.0, 500.0, legs),
        equity_usd=generator.uniform(-1_000.0, 100_000.0, accounts),
    )


def _bybit_uta(generator: Generator, accounts: int) -> bybit_uta.Inputs:
    start = _start(generator, accounts)
    legs = int(start[-1])
    return bybit_uta.Inputs(
        start=start,
        size=generator.normal(0.0, 5.0, legs),
        is_call=generator.random(legs) < 0.5,
        index_usd=generator.uniform(1_000.0, 100_000.0, legs),
        strike_usd=generator.uniform(1_000.0, 100_000.0, legs),
        entry_usd=generator.uniform(1.0, 5_000.0, legs),
        mark_usd=generator.uniform(1.0, 5_000.0, legs),
        equity_usd=generator.uniform(-1_000.0, 100_000.0, accounts),
    )


def _okx(generator: Generator, accounts: int) -> okx.Inputs:
    start = _start(generator, accounts)
    legs = int(start[-1])
    return okx.Inputs(
        start=start,
        hedged_usd=generator.uniform(0.0, 1e7, legs),
        stablecoin_usd=generator.uniform(0.7, 1.01, legs),
        other_maintenance_usd=generator.uniform(0.0, 1e5, accounts),
        equity_usd=generator.uniform(-1_000.0, 1e6, accounts),
    )


def _hyperliquid_pm(generator: Generator, accounts: int) -> hyperliquid_pm.Inputs:
    start = _start(generator, accounts)
    legs = int(start[-1])
    return hyperliquid_pm.Inputs(
        start=start,
        balance=generator.uniform(0.0, 10_000.0, legs),
        supply_cap=generator.uniform(5_000.0, 20_000.0, legs),
        price_usd=generator.uniform(1.0, 100.0, legs),
        loan_to_value=generator.uniform(0.0, 0.8, legs),
        cash_usd=generator.normal(0.0, 100_000.0, accounts),
        perp_maintenance_usd=generator.uniform(0.0, 10_000.0, accounts),
    )


def _dederi(generator: Generator, accounts: int) -> dederi.Inputs:
    start = _start(generator, accounts)
    legs = int(start[-1])
    return dederi.Inputs(
        start=start,
        quantity=generator.normal(0.0, 20.0, legs),
        price_usd=generator.uniform(1_000.0, 3_000.0, legs),
        index_usd=generator.uniform(1_000.0, 3_000.0, accounts),
        equity_usd=generator.uniform(-1_000.0, 100_000.0, accounts),
    )


DERIBIT: Final = deribit_pm.Parameters(
    price_range=0.18,
    pnl_offset=0.6,
    max_offsetable_pnl_usd=2e7,
    annualised_move_risk=0.05,
    min_annualised_move=0.005,
    extended_dampener_usd=200_000.0,
    extended_table_factor=2.0,
)
OKX: Final = okx.Parameters(tier_ends_usd=(1e6, 5e6), rates=((0.005, 0.015, 0.02), (0.1, 0.2, 0.3)), price_floors=(0.99, 0.0))

RULES: Final[dict[str, Trial]] = {
    "deribit_pm": Trial(
        deribit_pm,
        DERIBIT,
        _deribit_pm,
        ("size", "years"),
        ("index_usd", "equity", "correlation_contingency", "mmp_margin", "open_orders_margin", "spot_margin"),
        ("size",),
        "equity",
    ),
    "span16": Trial(
        span16,
        span16.Parameters(short_option_minimum_usd=100.0, initial_factor=1.1),
        _span16,
        ("instrument", "quantity", "spread_charge_usd"),
        ("equity_usd",),
        ("quantity",),
        "equity_usd",
        feeds=("gain_usd", "option_value_usd", "notional_usd"),
    ),
    "bybit_uta": Trial(
        bybit_uta,
        bybit_uta.Parameters(),
        _bybit_uta,
        ("size", "is_call", "index_usd", "strike_usd", "entry_usd", "mark_usd"),
        ("equity_usd",),
        ("size",),
        "equity_usd",
    ),
    "okx": Trial(
        okx,
        OKX,
        _okx,
        ("hedged_usd", "stablecoin_usd"),
        ("other_maintenance_usd", "equity_usd"),
        ("hedged_usd",),
        "equity_usd",
    ),
    "hyperliquid_pm": Trial(
        hyperliquid_pm,
        hyperliquid_pm.Parameters(borrow_cap_usd=1e6),
        _hyperliquid_pm,
        ("balance", "supply_cap", "price_usd", "loan_to_value"),
        ("cash_usd", "perp_maintenance_usd"),
        ("perp_maintenance_usd",),
        "cash_usd",
        caps=("supply_cap",),
    ),
    "dederi": Trial(
        dederi,
        dederi.Parameters(initial_factor=1.2),
        _dederi,
        ("quantity", "price_usd"),
        ("index_usd", "equity_usd"),
        ("quantity",),
        "equity_usd",
    ),
}

MAKERS: Final[list[Callable[[int, int], Subject]]] = [partial(subject, name) for name in RULES]
