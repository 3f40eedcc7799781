"""Derive's two margins a second time, for one account, as its documents and cases have them: slow, plain, and from nothing of the engine.

An account is a plain dictionary; see `tests/property/test_rules_derive.py` for how it is made. All results are what is left, USD:
(equity, initial margin, maintenance margin).
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

YEAR_S = 31_536_000.0


def black76(forward: float, strike: float, sigma: float, years: float, is_call: bool, discount: float = 1.0) -> float:
    deviation = sigma * math.sqrt(years) if years > 0.0 else 0.0
    if deviation <= 0.0:
        return discount * max(forward - strike if is_call else strike - forward, 0.0)
    d1 = math.log(forward / strike) / deviation + deviation / 2.0
    d2 = d1 - deviation
    if is_call:
        return discount * (forward * normal(d1) - strike * normal(d2))
    return discount * (strike * normal(-d2) - forward * normal(-d1))


def normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def doubt(confidences: Iterable[float], threshold: float, factor: float) -> float:
    worst = min(confidences)
    return (1.0 - worst) * factor if worst < threshold else 0.0


# --- PMRM_2
#
# An account is {"spot", "spot_conf", "perp", "perp_conf", "stable", "cash", "perps", "profit", "options", "collaterals"}; an option
# {"expiry", "strike", "call", "sigma", "amount"}, its expiry {"seconds", "forward", "rate", "confs"}; a collateral {"value", "conf",
# "hedges", "initial", "maintenance", "threshold"}, with its value in USDC.


def pmrm2(account: dict[str, Any], p: dict[str, Any]) -> tuple[float, float, float]:
    expiries: dict[int, dict[str, Any]] = {id(option["expiry"]): option["expiry"] for option in account["options"]}
    held = {key: [option for option in account["options"] if id(option["expiry"]) == key] for key in expiries}
    marks = {key: sum(o["amount"] * _value(o, 1.0, o["sigma"]) for o in held[key]) for key in expiries}

    basis = 0.0
    for key, expiry in expiries.items():
        moved = [sum(o["amount"] * _value(o, shock, o["sigma"]) for o in held[key]) for shock in (p["spot_up"], p["spot_down"])]
        years = expiry["seconds"] / YEAR_S
        basis += min(min(moved) - marks[key], 0.0) * (p["basis_add"] + p["basis_mult"] * years)

    linear = account["perps"] * account["perp"] + sum(c["value"] for c in account["collaterals"] if c["hedges"])
    losses = [0.0, basis]
    for scenario in p["scenarios"]:
        shock = scenario["spot_shock"]
        changes = []
        for key, expiry in expiries.items():
            moves = 1.0 if scenario["vol"] in ("linear", "abs") else shock
            value = sum(o["amount"] * _value(o, moves, _sigma(o, scenario["vol"], p)) for o in held[key])
            changes.append(value * _discount(expiry, value > 0.0, p) - marks[key])
        if scenario["vol"] in ("linear", "abs"):
            changes = [-abs(change) for change in changes]
        losses.append(scenario["dampening"] * (sum(changes) + (shock - 1.0) * linear))
    worst = min(losses)

    nets: defaultdict[tuple[int, float], float] = defaultdict(float)
    for option in account["options"]:
        nets[id(option["expiry"]), option["strike"]] += option["amount"]
    short_usd = -sum(min(net, 0.0) for net in nets.values()) * account["spot"]
    perps_usd = abs(account["perps"]) * account["spot"]
    spot_confs = [account["spot_conf"], *([account["perp_conf"]] if account["perps"] else [])]
    common = (p["confidence_threshold"], p["confidence_margin"])
    oracle = perps_usd * doubt(spot_confs, *common)
    for option in account["options"]:
        oracle += abs(option["amount"]) * account["spot"] * doubt([*spot_confs, *option["expiry"]["confs"]], *common)
    for c in account["collaterals"]:
        oracle += abs(c["value"]) * doubt([c["conf"], account["spot_conf"]], c["threshold"], p["confidence_margin"])

    equity = account["cash"] + account["profit"] + sum(marks.values()) + sum(c["value"] for c in account["collaterals"])
    maintenance = sum(abs(c["value"]) * c["maintenance"] for c in account["collaterals"])
    maintenance += perps_usd * p["perp_maintenance"] + short_usd * p["option_maintenance"]
    more = sum(abs(c["value"]) * c["initial"] for c in account["collaterals"])
    more += perps_usd * p["perp_initial"] + short_usd * p["option_initial"] + oracle
    depeg = max(p["peg_loss_threshold"] - account["stable"], 0.0) * p["peg_loss_factor"]
    return (
        equity,
        equity + (p["initial_factor"] + depeg) * worst - maintenance - more,
        equity + p["maintenance_factor"] * worst - maintenance,
    )


def _value(option: dict[str, Any], shock: float, sigma: float) -> float:
    expiry = option["expiry"]
    years = expiry["seconds"] / YEAR_S
    moving = min(max(expiry["seconds"] / 1800.0, 0.0), 1.0)
    forward = expiry["forward"] * (1.0 - moving + moving * shock)
    strike, is_call = float(option["strike"]), bool(option["call"])
    return black76(forward, strike, sigma, years, is_call, math.exp(-max(expiry["rate"], 0.0) * years))


def _discount(expiry: dict[str, Any], is_long: bool, p: dict[str, Any]) -> float:
    years, rate = expiry["seconds"] / YEAR_S, max(expiry["rate"], 0.0)
    if years <= 0.0:
        return 1.0
    if is_long:
        return float(p["discount"] * math.exp(-years * (rate * p["long_mult"] + p["long_add"])))
    raised = p["discount_negative"] * math.exp(years * (rate * p["short_mult"] + p["short_add"]))
    return min(float(raised), math.exp(rate * years))


def _sigma(option: dict[str, Any], vol: str, p: dict[str, Any]) -> float:
    sigma, expiry = option["sigma"], option["expiry"]
    years = expiry["seconds"] / YEAR_S
    spread = (30.0 / max(years * 365.0, p["days_floor"])) ** (p["short_power"] if years * 365.0 <= 30.0 else p["long_power"])
    root = math.sqrt(years)
    k_star = max(p["width"] * root * (p["vol_static"] + p["vol_scale"] * root), p["k_star_min"])
    k = math.log(option["strike"] / expiry["forward"])
    by_kind = {
        "none": sigma,
        "up": max(sigma * (1.0 + p["range_up"] * spread), p["shocked_sigma_min"]),
        "down": sigma * max(1.0 - p["range_down"] * spread, 0.0),
        "linear": sigma * (1.0 + _skew(k, k_star, p["linear_scale"] + p["linear_base"] * root)),
        "abs": sigma * (1.0 + _skew(abs(k), k_star, p["abs_scale"] + p["abs_base"] * root)),
    }
    return max(float(by_kind[vol]), 0.0)


def _skew(k: float, k_star: float, cap: float) -> float:
    """As the venue's contract says it: from below for what is out of the money upwards, from above downwards."""
    return min(cap, k * cap / k_star) if k >= 0.0 else max(-cap, k * cap / k_star)


# --- SRM
#
# An account is {"stable", "cash", "options", "perps", "bases"}. A perpetual {"market", "amount", "profit"} and a base {"market", "amount"}
# name their market, an option as above through its expiry {"market", "seconds", "forward", "confs"}; a market is {"spot", "spot_conf",
# "perp", "perp_conf"} and its parameters.


def srm(account: dict[str, Any], depeg_threshold: float, depeg_factor: float) -> tuple[float, float, float]:
    missing = max(depeg_threshold - account["stable"], 0.0) * depeg_factor
    equity = initial = maintenance = account["cash"]
    for base in account["bases"]:
        m, value = base["market"], base["amount"] * base["market"]["spot"]
        equity += value
        maintenance += value * m["base_factor"]
        initial += value * m["base_factor"] * m["base_initial_scale"]
        initial -= value * doubt([m["spot_conf"]], m["confidence_threshold"], m["confidence_factor"])
    for perp in account["perps"]:
        m, size = perp["market"], abs(perp["amount"])
        equity, maintenance, initial = (figure + perp["profit"] for figure in (equity, maintenance, initial))
        maintenance -= size * m["perp"] * m["perp_maintenance"]
        initial -= size * m["perp"] * m["perp_initial"] + size * m["spot"] * missing
        initial -= size * m["spot"] * doubt([m["spot_conf"], m["perp_conf"]], m["confidence_threshold"], m["confidence_factor"])
    expiries = {id(option["expiry"]): option["expiry"] for option in account["options"]}
    for key, expiry in expiries.items():
        mark, first, last = _srm_expiry(expiry, [option for option in account["options"] if id(option["expiry"]) == key], missing)
        equity, initial, maintenance = equity + mark, initial + first, maintenance + last
    return equity, initial, maintenance


def _srm_expiry(expiry: dict[str, Any], options: list[dict[str, Any]], missing: float) -> tuple[float, float, float]:
    m = expiry["market"]
    spot = m["spot"]
    net: defaultdict[tuple[float, bool, float], float] = defaultdict(float)
    for option in options:
        net[option["strike"], option["call"], option["sigma"]] += option["amount"]
    mark = isolated_initial = isolated_maintenance = short = 0.0
    for (strike, is_call, sigma), amount in net.items():
        price = black76(expiry["forward"], strike, sigma, expiry["seconds"] / YEAR_S, is_call)
        mark += amount * price
        if amount >= 0.0:
            continue
        short -= amount
        away = max(strike - spot if is_call else spot - strike, 0.0)
        first = max(m["spot_max"] - away / spot, m["spot_min"]) * spot + price
        if is_call:
            last = m["call_maintenance"] * spot + price
        else:
            last = max(m["put_maintenance"] * spot, m["put_mark_maintenance"] * price) + price
            first = max(first, last * m["put_initial_scale"])
        isolated_initial += amount * first
        isolated_maintenance += amount * last

    def payoff(settlement: float) -> float:
        return sum(n * max(settlement - k if is_call else k - settlement, 0.0) for (k, is_call, _), n in net.items())

    loss = min([payoff(0.0), 0.0, *(payoff(strike) for strike, _, _ in net)])
    unpaired = min(sum(amount for (_, is_call, _), amount in net.items() if is_call), 0.0) * expiry["forward"]
    costs = short * spot * (missing + doubt([m["spot_conf"], *expiry["confs"]], m["confidence_threshold"], m["confidence_factor"]))
    return (
        mark,
        max(isolated_initial, loss + unpaired * m["unpaired_initial"]) - costs,
        max(isolated_maintenance, loss + unpaired * m["unpaired_maintenance"]),
    )
