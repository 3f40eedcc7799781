"""Mango's own tests and clients against our health of v4 and v3, and the stable price."""

import csv
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.rules import mango_v3, mango_v4
from tests.reference.case import CaseResult, Noted, files_of, noted

HEALTH = "mango_v4_health"
STABLE = "mango_v4_stable_price"
V3 = "mango_v3"
CARRIED = Path(__file__).parent / "data"
# The explorer computes with decimals, we with 53 bits; the TypeScript client with fixed point of 48 bits after each step.
EXPLORER_TOLERANCE = 1e-12
TYPESCRIPT_TOLERANCE = 1e-7
NATIVE = 1_000_000  # what the TypeScript client counts some of its USD in


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {HEALTH: health, STABLE: stable_price, V3: accounts}


def inputs() -> tuple[str, ...]:
    """Files that hold what the families compute from: the accounts of v3."""
    return ("account", "empty")


# ---- v4: health -----------------------------------------------------------------------------------------------------------------------


def health(folder: Path | None) -> list[CaseResult]:
    """Each case's healths, with the markets and prices of the file."""
    documents = [json.loads(path.read_text()) for path in files_of((folder or CARRIED) / "margin", HEALTH, ".json")]
    return [result for facts in documents for case in facts["cases"] for result in _health(facts, case)]


def _health(facts: Mapping[str, Any], case: Mapping[str, Any]) -> list[CaseResult]:
    """What cannot be read fails by its case."""
    try:
        _require_known(facts["setup"], case)
        return _healths(facts, case)
    except (ArithmeticError, KeyError, TypeError, ValueError) as fault:
        return [CaseResult(HEALTH, str(case.get("id")), False, f"{type(fault).__name__}: {fault}")]


_SETUP = re.compile(r"token\d+|perp|oo_\d+_\d+")  # what is said of open orders is a note
_CASE = re.compile(r"id|expected_.*|(token|bank)\d+|oo_\d+_\d+|perp1?|bank_settings|extra")
_BANK = re.compile(r"deposits|borrows|potential_serum_tokens|(deposit|borrow)_weight_scale_start_quote")
_ORDER = re.compile(r"(pc|coin)_(total|free)|referrer_rebates")  # rebates are no part of health
_TOKEN = re.compile(r"price|stable|maint|init_(asset|liab)_w")
_PERP = re.compile(r"price|stable|base_lot_size|base_(init|maint)_w|overall_(init|maint)_asset_w|settle_token|perp1_fields")
_HELD = re.compile(r"base_lots|quote|bids|asks|taker_(base|quote)_lots|(base|quote)_lot_size")
_PLACED = re.compile(r"(oo_\d+_\d+) (lowest_placed_ask|highest_placed_bid)=([\d.]+)")


def _require_known(setup: Mapping[str, Any], case: Mapping[str, Any]) -> None:
    """ValueError with what setup and case say that nobody here would read: it might change the health."""
    parts = [(_SETUP, setup), (_CASE, case), (_PERP, setup["perp"]), *((_TOKEN, setup[name]) for name in _tokens(setup))]
    parts += [(_BANK, bank) for bank in case.get("bank_settings", [])]
    parts += [(_ORDER, held) for key, held in case.items() if key.startswith("oo_") and isinstance(held, Mapping)]
    parts += [(_HELD, held) for key, held in case.items() if key.startswith("perp") and isinstance(held, Mapping)]
    unknown = sorted(name for known, fields in parts for name in fields if not known.fullmatch(name))
    numbers = {name[5:] for name in _tokens(setup)}
    unknown += sorted(name for name in case if re.fullmatch(r"(token|bank)\d+", name) and re.sub(r"\D+", "", name) not in numbers)
    said = case.get("extra", "")
    unknown += [rest for rest in [_PLACED.sub("", said).strip("; ")] if rest]
    unknown += sorted({order for order, *_ in _PLACED.findall(said)} - set(case))
    if len(case.get("bank_settings", [])) > len(numbers):
        unknown.append("settings of more banks than there are tokens")
    if unknown:
        raise ValueError(f"without a meaning to us: {', '.join(unknown)}")


def _healths(facts: Mapping[str, Any], case: Mapping[str, Any]) -> list[CaseResult]:
    parameters, account = v4_market(facts["setup"], case), v4_account(facts["setup"], case)
    arrays = mango_v4.terms(parameters)
    found = np.empty((1, mango_v4.LEVELS))
    mango_v4.healths(account, arrays, found)
    out = np.empty((1, 4))
    mango_v4.margins(account, arrays, out)
    results = []
    names = ((mango_v4.INIT, "init"), (mango_v4.LIQUIDATION_END, "liquidation_end"), (mango_v4.MAINT, "maint"))
    known = {"expected_expr_from_source", *(f"expected_{name}_health" for _, name in names)}
    others = sorted(name for name in case if name.startswith("expected_") and name not in known)
    results += [CaseResult(HEALTH, f"{case['id']}, {other}", False, "is no health that we know of") for other in others]
    for level, name in names:
        expected = case.get(f"expected_{name}_health")
        if expected is None:
            continue
        remains = {mango_v4.INIT: out[0, 0] - out[0, 1], mango_v4.MAINT: out[0, 0] - out[0, 2]}.get(level, found[0, level])
        parts = mango_v4.parts(account, arrays, 0, level)
        worst = max(abs(value - expected) for value in (found[0, level], remains, parts[-1][1], sum(part for _, part in parts[:-1])))
        passed = bool(worst <= facts["tolerance_abs"])
        results.append(CaseResult(HEALTH, f"{case['id']}, {name}", passed, f"{found[0, level]!r}, expected {expected!r}"))
    return results or [CaseResult(HEALTH, str(case["id"]), False, "has no health that we know of")]


def _tokens(setup: Mapping[str, Any]) -> list[str]:
    return sorted((name for name in setup if re.fullmatch(r"token\d+", name)), key=lambda name: int(name[5:]))


def v4_market(setup: Mapping[str, Any], case: Mapping[str, Any]) -> mango_v4.Parameters:
    """The banks of the setup as the case has set them, and its perpetual."""
    names = _tokens(setup)
    settings = [*case.get("bank_settings", []), *[{}] * len(names)]
    tokens = tuple(
        mango_v4.TokenParameters(
            name=name,
            init_asset_weight=setup[name]["init_asset_w"],
            maint_asset_weight=setup[name]["maint"][0],
            init_liab_weight=setup[name]["init_liab_w"],
            maint_liab_weight=setup[name]["maint"][1],
            deposit_weight_scale_start_usd=bank.get("deposit_weight_scale_start_quote", 1e18),
            borrow_weight_scale_start_usd=bank.get("borrow_weight_scale_start_quote", 1e18),
        )
        for name, bank in zip(names, settings, strict=False)
    )
    perp = setup["perp"]
    init = perp["base_init_w"]
    maint = perp.get("base_maint_w", init)
    overall = perp["overall_init_asset_w"]
    perps = mango_v4.PerpParameters(
        name="perp1",
        settle_token=names.index(perp["settle_token"]),
        init_base_asset_weight=init[0],
        maint_base_asset_weight=maint[0],
        init_base_liab_weight=init[1],
        maint_base_liab_weight=maint[1],
        init_overall_asset_weight=overall,
        maint_overall_asset_weight=perp.get("overall_maint_asset_w", overall),
    )
    return mango_v4.Parameters(tokens=tokens, perps=(perps,))


def v4_account(setup: Mapping[str, Any], case: Mapping[str, Any]) -> mango_v4.Inputs:
    """The case's account, alone, and the prices of the setup."""
    names = _tokens(setup)
    balances = [float(case.get(name, case.get(f"bank{name[5:]}", 0.0))) for name in names]
    orders: list[tuple[int, int, float, float, float, float]] = []
    for key in sorted(case):
        found = re.fullmatch(r"oo_(\d+)_(\d+)", key)
        if found is None:
            continue
        quote, base = (names.index(f"token{number}") for number in found.groups())
        held = case[key]
        if isinstance(held, Mapping):  # as the program has them: totals, and what of them is free
            balances[quote] += held["pc_free"]
            balances[base] += held["coin_free"]
            held = [held["pc_total"] - held["pc_free"], held["coin_total"] - held["coin_free"]]
        placed = {side: price for order, side, price in _PLACED.findall(case.get("extra", "")) if order == key}
        bid, ask = (float(placed.get(name, 0.0)) for name in ("highest_placed_bid", "lowest_placed_ask"))
        orders.append((base, quote, float(held[1]), float(held[0]), bid, ask))
    perps = _perps(setup["perp"], case)
    banks = [*case.get("bank_settings", []), *[{}] * len(names)][: len(names)]
    order_columns = [np.array([order[column] for order in orders]) for column in range(6)]
    prices = np.array([setup[name]["price"] for name in names], dtype=np.float64)
    perp_prices = np.array([setup["perp"]["price"]], dtype=np.float64)
    return mango_v4.Inputs(
        token_start=np.array([0, len(names)]),
        token=np.arange(len(names)),
        token_balance=np.array(balances),
        order_start=np.array([0, len(orders)]),
        order_base_token=order_columns[0].astype(np.int64),
        order_quote_token=order_columns[1].astype(np.int64),
        order_base_reserved=order_columns[2].astype(np.float64),
        order_quote_reserved=order_columns[3].astype(np.float64),
        order_highest_bid=order_columns[4].astype(np.float64),
        order_lowest_ask=order_columns[5].astype(np.float64),
        perp_start=np.array([0, len(perps)]),
        perp=np.zeros(len(perps), dtype=np.int64),
        perp_base=np.array([perp[0] for perp in perps], dtype=np.float64),
        perp_quote=np.array([perp[1] for perp in perps], dtype=np.float64),
        perp_bids=np.array([perp[2] for perp in perps], dtype=np.float64),
        perp_asks=np.array([perp[3] for perp in perps], dtype=np.float64),
        oracle_usd=prices,
        stable_usd=np.array([setup[name].get("stable", setup[name]["price"]) for name in names], dtype=np.float64),
        deposits=np.array([bank.get("deposits", 0.0) for bank in banks], dtype=np.float64),
        borrows=np.array([bank.get("borrows", 0.0) for bank in banks], dtype=np.float64),
        potential_order_tokens=np.array([bank.get("potential_serum_tokens", 0.0) for bank in banks], dtype=np.float64),
        perp_oracle_usd=perp_prices,
        perp_stable_usd=np.array([setup["perp"].get("stable", setup["perp"]["price"])], dtype=np.float64),
    )


def _perps(setup: Mapping[str, Any], case: Mapping[str, Any]) -> list[tuple[float, float, float, float]]:
    """(base, quote, bids, asks) of the case's perpetual, lots resolved, with what takers have not yet settled."""
    held = case.get("perp1", case.get("perp"))
    if held is None:
        return []
    if not isinstance(held, Mapping):
        held = dict(zip(("base_lots", "quote", "bids", "asks"), held, strict=True))
    lot = held.get("base_lot_size", setup["base_lot_size"])
    base = (held["base_lots"] + held.get("taker_base_lots", 0)) * lot
    quote = held["quote"] + held.get("taker_quote_lots", 0) * held.get("quote_lot_size", 0)
    return [(base, quote, held["bids"] * lot, held["asks"] * lot)]


# ---- v4: stable price -----------------------------------------------------------------------------------------------------------------


def stable_price(folder: Path | None) -> list[CaseResult]:
    """Each expectation of each case, in the order of its steps, from second 0."""
    documents = [json.loads(path.read_text()) for path in files_of((folder or CARRIED) / "margin", STABLE, ".json")]
    return [result for facts in documents for case in noted(facts["cases"]) for result in _stable_case(facts["params"], case)]


def _stable_case(given: Mapping[str, Any], case: Noted) -> list[CaseResult]:
    parameters = mango_v4.StablePriceParameters(**{name: case.get(name, value) for name, value in given.items()})
    limits = mango_v4.stable_limits(parameters)
    state = mango_v4.stable_prices(parameters, np.array([case["start"]]), 0)
    results: list[CaseResult] = []
    now_s = 0
    steps = noted(case["steps"]) if "steps" in case else [case]
    for position, step in enumerate(steps):
        for _ in range(step["n"]):
            now_s += step["dt"]
            mango_v4.advance(state, limits, np.array([_oracle(case["oracle"], now_s)]), now_s)
        for name in step:
            delay = re.fullmatch(r"expect_delay(\d+)", name)
            if delay is None and name != "expect_stable":
                continue
            found = float(state.stable_usd[0] if delay is None else state.delay_usd[0, int(delay[1])])
            tolerance = step["abs_tol" if delay is None else "delay_tol"]
            passed = abs(found - step[name]) <= tolerance
            results.append(CaseResult(STABLE, f"{case['name']}, step {position}, {name}", passed, f"{found!r}, expected {step[name]!r}"))
    for one in (case, *steps):
        one.require_read("abs_tol", "delay_tol")
    return results


def _oracle(given: float | str, now_s: int) -> float:
    """A price, or `A until t<=T then B`."""
    if not isinstance(given, str):
        return float(given)
    found = re.fullmatch(r"([\d.]+) until t<=(\d+) then ([\d.]+)", given)
    assert found is not None, f"an oracle that we don't know: {given}"
    return float(found[1] if now_s <= int(found[2]) else found[3])


# ---- v3 -------------------------------------------------------------------------------------------------------------------------------


def accounts(folder: Path | None) -> list[CaseResult]:
    """Each account's health, ratios, value, leverage and profit, against both clients."""
    place = (folder or CARRIED) / "accounts"
    documents = [json.loads(path.read_text()) for path in files_of(place, V3, ".json")]
    named = [(name, fact["expected"]) for facts in documents for name, fact in facts.items()]
    results = [result for name, expected in named for result in _v3_account(name, place / f"{name}.csv", expected)]
    answered = {name for name, _ in named}
    alone = sorted(path.stem for beginning in inputs() for path in place.glob(f"{beginning}*.csv") if path.stem not in answered)
    return [*results, *(CaseResult(V3, name, False, "an account without an answer") for name in alone)]


def _v3_account(name: str, path: Path, expected: Mapping[str, Any]) -> list[CaseResult]:
    rows = v3_rows(path)
    parameters, account = v3_market(rows[:-1]), v3_inputs(rows)
    arrays = mango_v3.terms(parameters)
    measures, out = np.empty((1, mango_v3.MEASURES)), np.empty((1, 4))
    mango_v3.measures(account, arrays, measures)
    mango_v3.margins(account, arrays, out)
    found = {
        "init_health": float(measures[0, mango_v3.INIT]),
        "maint_health": float(measures[0, mango_v3.MAINT]),
        "init_health_ratio": float(measures[0, mango_v3.INIT_RATIO]),
        "maint_health_ratio": float(measures[0, mango_v3.MAINT_RATIO]),
        "redeemable_pnl": float(measures[0, mango_v3.REDEEMABLE_USD]),
        "total_value": float(out[0, 0]),
        "leverage": float(measures[0, mango_v3.LEVERAGE]),
    }
    others = sorted(set(expected) - set(found) - {"is_liquidatable"})
    results = [CaseResult(V3, f"{name}, {other}", False, "is no measure that we know of") for other in others]
    for measure, value in found.items():
        if measure not in expected:
            continue
        explorer = float(expected[measure]["mango_explorer"])
        results.append(_close(f"{name}, {measure}, explorer", value, explorer, EXPLORER_TOLERANCE))
        native = NATIVE if measure in {"init_health", "maint_health", "redeemable_pnl"} else 1
        typescript = float(expected[measure]["typescript_client"]) / native
        results.append(_close(f"{name}, {measure}, client", value, typescript, TYPESCRIPT_TOLERANCE))
    liquidatable = mango_v3.liquidatable(out[0, 0] - out[0, 2], out[0, 0] - out[0, 1], False)
    agrees = bool(liquidatable) == expected["is_liquidatable"]
    return [*results, CaseResult(V3, f"{name}, liquidatable", agrees, f"{liquidatable}, expected {expected['is_liquidatable']}")]


def v3_rows(path: Path) -> list[dict[str, str]]:
    """An account's file: a row for each market, and the quote's last."""
    with path.open() as file:
        return list(csv.DictReader(file))


def v3_market(rows: list[dict[str, str]]) -> mango_v3.Parameters:
    """The weights of the markets of these rows."""

    def side(row: Mapping[str, str], kind: str) -> mango_v3.SideParameters:
        return mango_v3.SideParameters(
            init_asset_weight=float(row[f"{kind}InitAssetWeight"]),
            maint_asset_weight=float(row[f"{kind}MaintAssetWeight"]),
            init_liab_weight=float(row[f"{kind}InitLiabilityWeight"]),
            maint_liab_weight=float(row[f"{kind}MaintLiabilityWeight"]),
        )

    return mango_v3.Parameters(
        markets=tuple(mango_v3.MarketParameters(name=row["Symbol"], spot=side(row, "Spot"), perp=side(row, "Perp")) for row in rows)
    )


def v3_inputs(rows: list[dict[str, str]]) -> mango_v3.Inputs:
    """One account; its last row is the quote. Perpetuals' orders are what the health's base has more than the position.

    The explorer's `Spot` has what is in open orders; the rule counts that apart.
    """
    quote, rows = rows[-1], rows[:-1]

    def column(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([float(row[name]) for row in rows])

    ordered = column("PerpHealthBase") - column("PerpPositionSize")
    price = column("CurrentPrice")
    return mango_v3.Inputs(
        start=np.array([0, len(rows)]),
        market=np.arange(len(rows)),
        spot=column("Spot") - column("BaseUnsettled") - column("BaseLocked"),
        in_basket=np.array([row["InMarginBasket"] == "True" for row in rows]),
        order_base_free=column("BaseUnsettled"),
        order_base_locked=column("BaseLocked"),
        order_quote_free=column("QuoteUnsettled"),
        order_quote_locked=column("QuoteLocked"),
        perp_base=column("PerpPositionSize"),
        perp_quote=column("PerpAsset") + column("PerpLiability") - column("PerpNotionalSize"),
        perp_bids=np.maximum(ordered, 0.0),
        perp_asks=np.maximum(-ordered, 0.0),
        quote_usd=np.array([float(quote["Spot"])]),
        price_usd=price,
    )


def _close(name: str, found: float, expected: float, tolerance: float) -> CaseResult:
    passed = math.isclose(found, expected, rel_tol=tolerance, abs_tol=1e-12)
    return CaseResult(V3, name, passed, f"{found!r}, expected {expected!r}")
