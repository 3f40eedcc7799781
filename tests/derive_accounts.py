"""Accounts at Derive by the seed, for checks and benchmarks of its rules: markets of plausible prices, books of any size."""

from typing import Final

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from engine.rules import derive_pmrm2, derive_srm
from tests.reference import derive_pmrm2 as portfolios
from tests.reference import derive_srm as standard
from tests.unit.rule_checks import Subject

DAY_S: Final = 86_400.0
EXPIRY_DAYS: Final = (0.01, 1.0, 9.0, 44.0, 180.0)
COLLATERALS: Final = (("ETH", True, 3_000.0), ("WEETH", True, 3_200.0), ("BTC", False, 90_000.0), ("USDT", False, 0.9995))


def generator(seed: int) -> np.random.Generator:
    """Numbers that depend on the seed alone."""
    return np.random.Generator(np.random.PCG64(seed))


def offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each account's legs begin, and the end."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def pmrm2_parameters() -> derive_pmrm2.Parameters:
    """The venue's parameters as the carried cases have them, with four collaterals."""
    collaterals = tuple(derive_pmrm2.Collateral(name, hedges, 0.01, 0.1 if hedges else 0.2, 0.55) for name, hedges, _ in COLLATERALS)
    [common] = [case.parameters for case in portfolios.carried() if case.name.startswith("12:")]
    return structs.replace(common, collaterals=collaterals)


def pmrm2_subject(accounts: int, seed: int, legs: int = 6, listed_strikes: int = 9) -> Subject:
    """Accounts of one underlying, each with up to `legs` options, 2 collaterals and most with a perpetual.

    Every option that is listed is priced in each scenario, held or not: the fewer strikes, the quicker.
    """
    numbers = generator(seed)
    spot_usd = 3_000.0
    strikes = spot_usd * np.linspace(0.6, 1.6, listed_strikes)
    expiries, listed = len(EXPIRY_DAYS), len(EXPIRY_DAYS) * len(strikes) * 2
    option_expiry = np.repeat(np.arange(expiries), len(strikes) * 2).astype(np.int64)
    option_strike = np.tile(np.repeat(strikes, 2), expiries)
    counts = numbers.integers(1, legs + 1, accounts)
    held = numbers.integers(1, 3, accounts)
    has_perp = numbers.random(accounts) < 0.8
    inputs = derive_pmrm2.Inputs(
        spot_usd=spot_usd,
        spot_confidence=0.95,
        perp_usd=3_004.0,
        perp_confidence=0.9,
        stable_usd=0.97,
        expiry_s=np.array(EXPIRY_DAYS) * DAY_S,
        forward_usd=spot_usd * (1.0 + 0.0002 * np.array(EXPIRY_DAYS)),
        forward_confidence=np.full(expiries, 0.9),
        rate=np.linspace(0.04, 0.1, expiries),
        rate_confidence=np.full(expiries, 0.8),
        sigma_confidence=np.linspace(0.5, 0.9, expiries),
        option_expiry=option_expiry,
        option_pair=derive_pmrm2.option_pairs(option_expiry, option_strike),
        option_strike_usd=option_strike,
        option_is_call=np.arange(listed) % 2 == 0,
        option_sigma=0.4 + 0.5 * numbers.random(listed),
        collateral_usd=np.array([price for *_, price in COLLATERALS]),
        collateral_confidence=np.array([0.95, 0.3, 0.9, 1.0]),
        cash_usd=numbers.uniform(-1e4, 5e4, accounts),
        perps=np.where(has_perp, numbers.uniform(-20.0, 20.0, accounts), 0.0),
        perp_profit_usd=np.where(has_perp, numbers.normal(0.0, 500.0, accounts), 0.0),
        perp_funding_usd=np.where(has_perp, numbers.normal(0.0, 20.0, accounts), 0.0),
        start=offsets(counts),
        leg_option=numbers.integers(0, listed, counts.sum()),
        leg_amount=numbers.uniform(-10.0, 10.0, counts.sum()),
        collateral_start=offsets(held),
        held_collateral=numbers.integers(0, len(COLLATERALS), held.sum()),
        held_amount=numbers.uniform(0.0, 5.0, held.sum()),
    )
    return Subject(
        rule=derive_pmrm2.RULE,
        margins=derive_pmrm2.margins,
        inputs=inputs,
        parameters=derive_pmrm2.terms(pmrm2_parameters()),
        by_account=("cash_usd", "perps", "perp_profit_usd", "perp_funding_usd"),
        legs={"start": ("leg_option", "leg_amount"), "collateral_start": ("held_collateral", "held_amount")},
        feeds=(
            *("spot_usd", "spot_confidence", "perp_usd", "perp_confidence", "stable_usd", "expiry_s", "forward_usd", "forward_confidence"),
            *("rate", "rate_confidence", "sigma_confidence", "option_strike_usd", "option_sigma", "collateral_usd"),
            "collateral_confidence",
        ),
    )


def srm_subject(accounts: int, seed: int, legs: int = 6) -> Subject:
    """Accounts of two underlyings, each with up to `legs` options, a perpetual and a base."""
    numbers = generator(seed)
    spot_usd = np.array([3_000.0, 90_000.0])
    markets, expiries = len(spot_usd), 2 * len(EXPIRY_DAYS)
    moneyness = np.linspace(0.6, 1.6, 9)
    listed = expiries * len(moneyness) * 2
    expiry_market = np.repeat(np.arange(markets), len(EXPIRY_DAYS)).astype(np.int64)
    option_expiry = np.repeat(np.arange(expiries), len(moneyness) * 2).astype(np.int64)
    counts = numbers.integers(1, legs + 1, accounts)
    one = np.ones(accounts, dtype=np.int64)
    size = np.array([1.0, 0.05])
    leg_option = numbers.integers(0, listed, counts.sum())
    perp_market, base_market = numbers.integers(0, markets, accounts), numbers.integers(0, markets, accounts)
    inputs = derive_srm.Inputs(
        stable_usd=0.97,
        spot_usd=spot_usd,
        spot_confidence=np.array([0.9, 0.95]),
        perp_usd=spot_usd * 1.001,
        perp_confidence=np.array([0.9, 0.3]),
        expiry_market=expiry_market,
        expiry_s=np.tile(np.array(EXPIRY_DAYS) * DAY_S, markets),
        forward_usd=spot_usd[expiry_market] * 1.003,
        forward_confidence=np.full(expiries, 0.9),
        sigma_confidence=np.linspace(0.35, 0.9, expiries),
        option_expiry=option_expiry,
        option_strike_usd=spot_usd[expiry_market[option_expiry]] * np.tile(np.repeat(moneyness, 2), expiries),
        option_is_call=np.arange(listed) % 2 == 0,
        option_sigma=0.4 + 0.5 * numbers.random(listed),
        cash_usd=numbers.uniform(-1e4, 5e4, accounts),
        start=offsets(counts),
        leg_option=leg_option,
        leg_amount=numbers.uniform(-10.0, 10.0, counts.sum()) * size[expiry_market[option_expiry[leg_option]]],
        perp_start=offsets(one),
        perp_market=perp_market,
        perp_amount=numbers.uniform(-20.0, 20.0, accounts) * size[perp_market],
        perp_profit_usd=numbers.normal(0.0, 500.0, accounts),
        base_start=offsets(one),
        base_market=base_market,
        base_amount=numbers.uniform(0.0, 20.0, accounts) * size[base_market],
    )
    return Subject(
        rule=derive_srm.RULE,
        margins=derive_srm.margins,
        inputs=inputs,
        parameters=derive_srm.terms(standard.cases(None)[0].parameters),
        by_account=("cash_usd",),
        legs={
            "start": ("leg_option", "leg_amount"),
            "perp_start": ("perp_market", "perp_amount", "perp_profit_usd"),
            "base_start": ("base_market", "base_amount"),
        },
        feeds=(
            *("stable_usd", "spot_usd", "spot_confidence", "perp_usd", "perp_confidence", "expiry_s", "forward_usd", "forward_confidence"),
            *("sigma_confidence", "option_strike_usd", "option_sigma"),
        ),
    )
