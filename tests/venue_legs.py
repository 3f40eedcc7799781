"""Random legs of many accounts at one venue, and a choice of each rule that takes legs: for tests of adapters, and benchmarks.

Most accounts hold what the rule takes. Some hold what it cannot take, a coin without a mark, or one of which a number is not given.
"""

from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.random import Generator

from engine.rules.choice import Choice, choose
from engine.rules.legs import Given, Legs, VenueLegs
from engine.tables import CONTRACTS
from tests.derive_accounts import pmrm2_parameters
from tests.reference.derive_srm import cases as srm_portfolios

ASSETS: Final = ("USD", "USDC", "BTC", "ETH", "SOL", "DARK", "RARE")
MARKS_USD: Final = (1.0, 0.9995, 100_000.0, 4_000.0, 200.0, float("nan"), 7.0)
COINS: Final = ("BTC", "ETH", "SOL", "DARK", "RARE")  # DARK has no mark; of RARE nothing is given, nor is it in parameters of some rules
LEGS_MAX: Final = 8

_WEIGHTS: Final = {"init_asset_weight": 0.8, "maint_asset_weight": 0.9, "init_liab_weight": 1.2, "maint_liab_weight": 1.1}
_EVEN: Final = dict.fromkeys(_WEIGHTS, 1.0)
_PERP_V4: Final = {
    "settle_token": 0,
    "init_base_asset_weight": 0.9,
    "maint_base_asset_weight": 0.95,
    "init_base_liab_weight": 1.1,
    "maint_base_liab_weight": 1.05,
    "init_overall_asset_weight": 0.9,
    "maint_overall_asset_weight": 0.95,
}
_DRIFT: Final = {
    "initial_asset_weight": 0.8,
    "maintenance_asset_weight": 0.9,
    "initial_liability_weight": 1.2,
    "maintenance_liability_weight": 1.1,
    "imf_factor": 0.001,
    "scale_initial_asset_weight_start_usd": 1e6,
}
_DERIBIT: Final = {
    "price_range": 0.16,
    "pnl_offset": 0.5,
    "annualised_move_risk": 0.075,
    "min_annualised_move": 0.01,
    "extended_dampener_usd": 25_000,
}
_SCALED: Final = {"deposit_weight_scale_start_usd": 1e6, "borrow_weight_scale_start_usd": 1e5}


def _of(value: float, *coins: str) -> dict[str, float]:
    return {coin: value * (k + 1) for k, coin in enumerate(coins)}


class Trial(NamedTuple):
    """A rule as a venue chooses it, and the contracts that its accounts mostly hold; `one_coin`: each account holds those of one coin."""

    parameters: dict[str, Any]
    given: Given
    contracts: tuple[str, ...]
    one_coin: bool = False
    dollars: tuple[str, ...] = ("USD",)


def _trials() -> dict[str, Trial]:
    srm: Any = msgspec.to_builtins(srm_portfolios(None)[0].parameters)
    srm["markets"] = [{**srm["markets"][0], "name": name} for name in ("SOL", "DARK", "BTC", "ETH")]
    pmrm2: Any = msgspec.to_builtins(pmrm2_parameters())
    pmrm2["collaterals"] = [{**pmrm2["collaterals"][0], "name": name} for name in ("ETH", "DARK", "BTC")]
    balances, both = ("spot", "loan"), ("spot", "loan", "perpetual")
    stable = {"USD": 1.0, "BTC": 99_000.0, "ETH": 4_100.0, "SOL": 190.0, "DARK": 1.0}
    feeds = {"confidence": 0.9, "stable_usd": 0.99}
    v4_tokens = [
        {"name": "USD", **_EVEN},
        {"name": "BTC", **_WEIGHTS, **_SCALED},
        *({"name": name, **_WEIGHTS} for name in ("ETH", "DARK", "RARE")),
    ]
    return {
        "aave_v3": Trial(
            {
                "reserves": [{"name": name, "liquidation_threshold": 0.8, "loan_to_value": 0.7} for name in ("ETH", "USD", "BTC", "DARK")],
                "categories": [{"name": "coins", "collateral": [0, 2], "loan_to_value": 0.9, "liquidation_threshold": 0.93}],
            },
            {"mode": 1},
            balances,
        ),
        "bybit_uta": Trial({}, {}, ("option",)),
        "dederi": Trial({}, {}, ("future",), one_coin=True),
        "deribit_pm": Trial(_DERIBIT, {"mmp_margin": 0.25}, ("inverse_perpetual", "inverse_future", "spot"), one_coin=True, dollars=()),
        "derive_pmrm2": Trial(pmrm2, {**feeds, "rate": 0.05}, ("option", "perpetual", "option"), one_coin=True, dollars=("USD", "USDC")),
        "derive_srm": Trial(srm, feeds, ("option", "perpetual", "spot", "option"), dollars=("USD", "USDC")),
        "drift_v2": Trial(
            {
                "spots": [{"name": "USD"}, *({"name": name, **_DRIFT} for name in ("BTC", "SOL", "ETH", "DARK", "RARE"))],
                "perps": [
                    {"name": name, "margin_ratio_initial": 0.1, "margin_ratio_maintenance": 0.05, "imf_factor": 0.001}
                    for name in ("ETH", "BTC", "DARK")
                ],
            },
            {"deposits": _of(100.0, "BTC", "ETH", "SOL", "DARK"), "custom_ratio": 0.02},
            both,
        ),
        "hyperliquid_pm": Trial(
            {},
            {"loan_to_value": _of(0.2, "BTC", "ETH", "SOL", "DARK"), "supply_cap": _of(5.0, "BTC", "ETH", "SOL", "DARK")},
            ("spot",),
            dollars=("USD", "USDC"),
        ),
        "mango_v3": Trial(
            {"markets": [{"name": name, "spot": _WEIGHTS, "perp": _EVEN} for name in ("ETH", "DARK", "SOL", "BTC")]},
            {},
            both,
            dollars=("USD", "USDC"),
        ),
        "mango_v4": Trial(
            {"tokens": v4_tokens, "perps": [{"name": name, **_PERP_V4} for name in ("ETH", "BTC", "DARK")]},
            {"stable_usd": stable, "deposits": {"BTC": 30.0}, "borrows": {"BTC": 3.0}},
            both,
        ),
    }


TRIALS: Final = _trials()


def choice_of(rule: str, given: Given | None = None) -> Choice:
    """The trial's choice, with what else is `given` where that is said."""
    trial = TRIALS[rule]
    found = choose(rule, trial.parameters, trial.given if given is None else given)
    assert isinstance(found, Choice), found
    return found


class _Listed(NamedTuple):
    """One instrument of the venue."""

    name: str
    contract: int
    asset: int
    quote: int
    strike_usd: float = 0.0
    is_call: bool = False
    years: float = 0.0
    sigma: float = 0.0


def _listed() -> list[_Listed]:
    found = [_Listed(name, CONTRACTS.index("spot"), ASSETS.index(name), 0) for name in ASSETS]
    for coin in COINS:
        asset = ASSETS.index(coin)
        for contract in CONTRACTS[1:]:
            terms = [(1.0, 0.0)] if "option" not in contract and "future" not in contract else [(0.9, 0.1), (1.0, 0.1), (1.1, 0.5)]
            for strike, years in terms:
                is_option = "option" in contract
                strike_usd = round(strike * MARKS_USD[asset]) if is_option and np.isfinite(MARKS_USD[asset]) else 1.0
                dated = years if is_option or "future" in contract else 0.0
                quote = asset if contract.startswith("inverse") else 0
                name = f"{coin}-{contract}-{strike}-{years}"
                found.append(_Listed(name, CONTRACTS.index(contract), asset, quote, strike_usd, strike > 1.0, dated, 0.6 + 0.1 * strike))
    return found


LISTED: Final = _listed()


def random_legs(rule: str, accounts: int, seed: int, legs_max: int = LEGS_MAX, *, faultless: bool = False) -> VenueLegs:
    """Of `accounts`, some of them without legs. `faultless`: only what the rule takes, and no coin without a mark or a number."""
    generator, trial = np.random.default_rng(seed), TRIALS[rule]
    coins = COINS[:2] if faultless else COINS
    held = [_held(generator, trial, coins, legs_max, faultless) for _ in range(accounts)]
    start = np.concatenate([[0], np.cumsum([len(one) for one in held])]).astype(np.int64)
    instrument = np.array([k for one in held for k in one], np.int64)
    terms = {name: np.array([getattr(one, name) for one in LISTED])[instrument] for name in _Listed._fields[1:]}
    count = len(instrument)
    contract, asset = terms["contract"], terms["asset"]
    mark_usd = np.array(MARKS_USD)[asset]
    is_balance = (contract <= CONTRACTS.index("loan")) | (asset == 0)
    units = np.where(
        asset <= 1, generator.normal(0.0, 50_000.0, count), generator.normal(0.0, 50_000.0, count) / np.nan_to_num(mark_usd, nan=1.0)
    )
    if faultless or rule == "hyperliquid_pm":
        spots = (contract == 0) & (asset > 1)
        units = np.where(spots, abs(units), units)
    units = np.where(generator.random(count) < 0.05, 0.0, units)
    cash = np.where(is_balance, 0.0, generator.normal(0.0, 100.0, count))
    cash_usd = np.where(terms["quote"] == 0, cash, cash * mark_usd)
    price_usd = np.where(np.isin(contract, [6, 7]), 0.05, 1.0) * mark_usd
    told = generator.random(count) < (1.0 if faultless else 0.95)
    orders = generator.random((2, count)) < 0.2
    legs = Legs(
        start=start,
        instrument=instrument,
        contract=contract,
        asset=asset,
        quote=terms["quote"],
        units=units,
        cash=cash,
        cash_usd=cash_usd,
        mark_usd=mark_usd,
        value_usd=units * price_usd + cash_usd,
        strike_usd=terms["strike_usd"],
        is_call=terms["is_call"],
        years=terms["years"],
        sigma=terms["sigma"],
        entry_usd=np.where(told, price_usd * 1.01, np.nan),
        buys=np.where(orders[0], abs(units) * 0.5, 0.0),
        sells=np.where(orders[1], abs(units) * 2.0, 0.0),
    )
    return VenueLegs("ex", legs, [one.name for one in LISTED], list(ASSETS), np.array(MARKS_USD), trial.given)


def _held(generator: Generator, trial: Trial, coins: tuple[str, ...], legs_max: int, faultless: bool) -> list[int]:
    """Instruments of one account, in some order."""
    usual = [coins[k] for k in generator.choice(len(coins), 2, replace=False)] if generator.random() < 0.3 else list(coins[:2])
    if trial.one_coin:
        usual = usual[:1]
    menu = [
        k
        for k, one in enumerate(LISTED)
        if (CONTRACTS[one.contract] in trial.contracts and ASSETS[one.asset] in usual) or one.name in trial.dollars
    ]
    found: list[int] = generator.choice(menu, min(len(menu), int(generator.integers(0, legs_max + 1))), replace=False).tolist()
    if not faultless and generator.random() < 0.1:  # what it may not take
        found.insert(int(generator.integers(0, len(found) + 1)), int(generator.integers(0, len(LISTED))))
    return found
