"""Random books as values: one account with what it holds, in a market with all kinds of instruments, as the frames that make both.

Everything comes from the seed. Messages are dictionaries as the twin takes them; whoever feeds something else converts them.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from streams.shadow.universe import FUTURES, INVERSE, LOTS_OF_USD, OPTIONS, PERPETUALS, USD_LIKE, InstrumentKey, Message

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
T0 = 1_760_128_200 * SECOND
CASH_MAX_USD = 1e6
POSITIONS_MAX = 16
VENUES_MAX = 8
HUGE_LOTS = 2**40
CHAINS = ("one", "two", "three", "four")
SOURCES = {"north": 1.0, "south": 1.0, "west": 0.5}
PRICES = {
    "USDC": 1.0,
    "USDE": 1.0,
    "BTC": 100_000.0,
    "ETH": 4_000.0,
    "WBETH": 4_320.0,
    "SOL": 200.0,
    "DOGE": 0.2,
    "TBILL": 105.0,
    "UNI": 8.0,
}
EXPIRIES = tuple(T0 + days * DAY for days in (1, 5, 21, 80, 200, 500))
PAST = T0 + 30 * SECOND  # this one is past before the book is looked at
SIZES = ("empty", "tiny", "usual", "usual", "usual", "large", "huge")
RICH_USD = {"tiny": (2_000.0,), "usual": (1e6, 3e6, 3e7), "large": (3e9, 3e10)}  # of a balance that some accounts have
FREEZE: Message = {"v": 1, "kind": "freeze", "by": "test", "note": "", "time_ns": 0, "scope": "all", "name": "", "frozen": True}

Step = tuple[str, list[Message]]


@dataclass(frozen=True)
class RandomBook:
    """`rules`: changes of the parameters; `sizes`: of each account; `steps`: (kind, messages) of each frame, the accounts' last."""

    seed: int
    rules: Message
    sizes: dict[str, str]
    steps: list[Step] = field(repr=False)


def asset(name: str, asset_class: str, **terms: Any) -> Message:
    return {
        "v": 1,
        "kind": "asset",
        "time_ns": 0,
        "name": name,
        "asset_class": asset_class,
        "sources": {} if name == "USD" else SOURCES,
        **terms,
    }


def instrument(venue: str, name: str, contract: str, underlying: str, lot_size: float, tick_size: float, **terms: Any) -> Message:
    return {
        "v": 1,
        "kind": "instrument",
        "time_ns": 0,
        "venue": venue,
        "name": name,
        "contract": contract,
        "underlying": underlying,
        "quote": underlying if contract in INVERSE else "USD",
        "lot_size": lot_size,
        "tick_size": tick_size,
        **terms,
    }


def definitions() -> list[Message]:
    """In an order in which each names only what was defined before: nine assets on four chains, every kind of contract."""
    every: list[Message] = [
        _chain("one", 780.0, 60.0, atomic_group="shared"),
        _chain("two", 12.0, 600.0, atomic_group="shared"),
        _chain("three", 1.0, 60.0, security_premium=0.01, messaging_layer="other"),
        _chain("four", 60.0, 30.0, security_premium=0.02),
        asset("USD", "cash"),
        asset("USDC", "stable", redemption_asset="USD"),
        asset("USDE", "synthetic_dollar", redemption_asset="USD", redemption_delay_s=604_800.0),
        asset("BTC", "major"),
        asset("ETH", "major"),
        asset("WBETH", "liquid_staking", redemption_asset="ETH", redemption_rate=1.08, eligible_chains=["one", "two"]),
        asset("SOL", "alt", cap_usd_global=1e9),
        asset("DOGE", "alt", cap_usd_per_account=50_000.0),
        asset("TBILL", "real_world"),
        asset("UNI", "governance"),
    ]
    for chain in CHAINS:
        every.append({"v": 1, "kind": "venue", "time_ns": 0, "name": f"vault-{chain}", "chain": chain, "fee_bps": 0.0, "vault": True})
        every.append({"v": 1, "kind": "venue", "time_ns": 0, "name": f"ex-{chain}", "chain": chain, "fee_bps": 5.0, "vault": False})
        every += [instrument(f"vault-{chain}", name, "spot", name, 0.01, 0.01) for name in ("USD", *PRICES)]
        every += _traded(f"ex-{chain}")
    every += [
        instrument("ex-three", "UNI-BTC", "spot", "UNI", 1.0, 1e-7, quote="BTC"),
        instrument("ex-four", "ETH-USDC", "perpetual", "ETH", 0.01, 0.01, quote="USDC"),
    ]
    return every


def _chain(name: str, finality_s: float, messaging_delay_s: float, **terms: Any) -> Message:
    return {
        "v": 1,
        "kind": "chain",
        "time_ns": 0,
        "name": name,
        "finality_s": finality_s,
        "messaging_delay_s": messaging_delay_s,
        **terms,
    }


def _traded(venue: str) -> Iterator[Message]:
    """What every exchange lists."""
    for name in ("USD", "ETH", "WBETH", "DOGE"):
        yield instrument(venue, f"{name}-LOAN", "loan", name, 0.01, 0.01)
    for name in ("BTC", "ETH", "SOL", "DOGE", "UNI"):
        yield instrument(venue, f"{name}-PERP", "perpetual", name, 0.01, 0.01, funding_interval_s=28_800)
    for name in ("BTC", "ETH"):
        yield instrument(venue, f"{name}-COIN", "inverse_perpetual", name, 10.0, 0.5, funding_interval_s=3_600)
        for number, expiry_ns in enumerate((*EXPIRIES[2:5], PAST)):
            yield instrument(venue, f"{name}-F{number}", "future", name, 0.01, 0.01, expiry_ns=expiry_ns)
            yield instrument(venue, f"{name}-I{number}", "inverse_future", name, 10.0, 0.5, expiry_ns=expiry_ns)
        for number, expiry_ns in enumerate((*EXPIRIES, PAST)):
            for moneyness in (0.8, 1.0, 1.25):
                for is_call in (True, False):
                    strike = PRICES[name] * moneyness
                    contract = "inverse_option" if venue in ("ex-two", "ex-four") else "option"
                    tick = 0.0001 if contract == "inverse_option" else 0.01
                    option = f"{name}-{number}-{strike:.0f}-{'C' if is_call else 'P'}"
                    yield instrument(venue, option, contract, name, 0.01, tick, strike=strike, expiry_ns=expiry_ns, is_call=is_call)


DEFINITIONS = definitions()
INSTRUMENTS: dict[InstrumentKey, Message] = {(one["venue"], one["name"]): one for one in DEFINITIONS if one["kind"] == "instrument"}
CLASSES = {one["name"]: one["asset_class"] for one in DEFINITIONS if one["kind"] == "asset"}


def lot_usd(key: InstrumentKey) -> float:
    """Notional of a lot at the first prices."""
    one = INSTRUMENTS[key]
    return float(one["lot_size"]) * (1.0 if one["contract"] in LOTS_OF_USD else PRICES.get(one["underlying"], 1.0))


def cash_usd(key: InstrumentKey) -> float:
    """Of a cash unit at the first prices."""
    quote = INSTRUMENTS[key]["quote"]
    return (1e-6 if CLASSES[quote] in USD_LIKE else 1e-9) * PRICES.get(quote, 1.0)


# ---- drawing ----------------------------------------------------------------------------------------------------------------------------


def random_book(seed: int, *, wild: bool = True, accounts: int = 1, planned: bool = False) -> RandomBook:
    """Accounts named `account_name(k)`, k from 0, which are in one market, since that costs more than they do.

    `wild`: parameters anywhere within their bounds; else the default ones. Not `planned`: all orders are frozen, so that no plan is made.
    """
    dice = random.Random(seed)
    rules = random_rules(dice) if wild else {}
    rules["future_skew_s"] = 600.0
    steps: list[Step] = [
        ("definitions", DEFINITIONS),
        ("parameters", [{"v": 1, "version": "random", "parameters": rules, "time_ns": 0}]),
        *([] if planned else [("commands", [FREEZE])]),
        *_market(dice),
    ]
    now_ns = max(event["time_ns"] for kind, events in steps if kind == "tick" for event in events)
    sizes = {account_name(number): dice.choice(SIZES) for number in range(accounts)}
    for name, size in sizes.items():
        steps += _account(dice, name, size, now_ns)
    return RandomBook(seed, rules, sizes, steps)


def account_name(number: int) -> str:
    return f"somebody-{number}"


def random_rules(dice: random.Random) -> Message:
    """About half of those that valuation looks at, each from its lowest to its highest."""
    whole: Message = {
        "grid_steps": dice.choice((3, 6)),
        "decision_mode": dice.choice(("isolated", "protocol", "portfolio")),
        "scan_k": dice.uniform(0.1, 10.0),
        "extreme_multiple": dice.uniform(1.0, 5.0),
        "extreme_fraction": dice.random(),
        "correlation_shrink": dice.random(),
        "prior_correlation": dice.random(),
        "correlation_high": dice.random(),
        "correlation_low": dice.random(),
        "vol_shock": dice.uniform(0.0, 3.0),
        "vol_shock_power": dice.random(),
        "vol_min": dice.uniform(0.0, 2.0),
        "latency_z": dice.uniform(0.0, 10.0),
        "impact_coefficient": dice.random(),
        "sigma_rise_per_hour": dice.uniform(0.0, 10.0),
        "haircut_rise_per_hour": dice.uniform(0.0, 10.0),
        "thin_rise_per_hour": dice.uniform(0.0, 100.0),
        "stress_rise_per_hour": dice.uniform(0.0, 100.0),
        "fear_half_life_s": dice.choice((60.0, 3_600.0)),
        "recognition_half_life_s": dice.choice((60.0, 21_600.0)),
        "short_option_minimum": dice.random(),
        "basis_bps": [dice.uniform(0.0, 1_000.0) for _ in range(6)],
        "vega_shock": dice.random(),
        "gap_fraction": dice.random(),
        "concentration_k": dice.uniform(0.0, 10.0),
        "limit_account": dice.uniform(0.1, 30.0),
        "limit_asset": dice.uniform(0.1, 30.0),
        "limit_venue": dice.uniform(0.1, 30.0),
        "move_trip": dice.choice((0.02, 0.05, 0.5)),
        "jump_trip": dice.choice((3.0, 4.0, 100.0)),
        "jump_reset": dice.choice((1.5, 3.0)),
        "lag_trip_s": dice.choice((600.0, 1_800.0)),
        "layer_share": dice.choice((0.2, 0.5)),
        "system_share": dice.choice((0.1, 0.5)),
        "breakers_enabled": dice.random() < 0.8,
        "end_factor": dice.uniform(1.0, 1.3),
        "initial_factor": dice.uniform(1.3, 2.0),
    }
    classes = {
        name: {
            "vol_coefficient": dice.uniform(0.0, 5.0),
            "stable_rate": dice.uniform(0.01, 10.0),
            "suspend_depth_usd": dice.choice((0, 1e5)),
        }
        for name in dice.sample(("major", "alt", "stable", "governance", "liquid_staking"), 2)
    }
    return (
        {name: value for name, value in whole.items() if dice.random() < 0.5}
        | {"classes": classes}
        | {"move_reset": 0.02, "lag_reset_s": 500.0}
    )


def _market(dice: random.Random) -> Iterator[Step]:
    """Some minutes in which prices go where they go, so that volatility, correlation and all that rises have something to see."""
    yield "tick", [{"time_ns": T0}]
    drift = {name: dice.choice((0.0, 0.0, dice.gauss(0.0, 0.01), dice.gauss(0.0, 0.1))) for name in PRICES}
    silent = dice.choice(CHAINS)
    for step in range(1, 5):
        now_ns = T0 + step * 50 * SECOND
        prices = {name: usd * max(1 + drift[name] * step / 2, 0.3) for name, usd in PRICES.items()}
        yield (
            "prices",
            [
                {
                    "v": 1,
                    "asset": name,
                    "source": source,
                    "price": usd * (1 + dice.gauss(0.0, 0.0003)),
                    "confidence": usd * 1e-4,
                    "publish_time_ns": now_ns,
                }
                for name, usd in prices.items()
                for source in SOURCES
            ],
        )
        yield (
            "volatilities",
            [
                {"v": 1, "underlying": name, "expiry_ns": expiry_ns, "sigma": dice.uniform(0.2, 1.5), "time_ns": now_ns}
                for name in ("BTC", "ETH")
                for expiry_ns in EXPIRIES[step % 2 :: 2]
            ],
        )
        yield (
            "depths",
            [
                {
                    "v": 1,
                    "asset": name,
                    "depth_usd": dice.choice((0.0, 1e4, 1e6, 1e8)),
                    "spread_bps": dice.uniform(0, 50),
                    "time_ns": now_ns,
                }
                for name in dice.sample(sorted(PRICES), 4)
            ],
        )
        yield (
            "lags",
            [
                {
                    "chain": name,
                    "lag_p95_ns": dice.choice((10, 700, 1_000, 2_000)) * SECOND,
                    "last_heartbeat_ns": now_ns,
                    "quarantined": dice.random() < 0.03,
                }
                for name in CHAINS
                if name != silent
            ],
        )
        if dice.random() < 0.05:
            yield "lags", [{"chain": silent, "lag_p95_ns": 0, "last_heartbeat_ns": 0, "quarantined": True}]
        yield "fundings", list(_observed(dice, now_ns))
        if dice.random() < 0.3:
            yield "grants", [_grant("SOL", dice.choice((1.0, 0.6)))]
        yield "tick", [{"time_ns": now_ns}]


def _grant(name: str, recognised: float) -> Message:
    return {"partition": 0, "asset": name, "budget_usd": 1e6, "cap_usd": 1e6, "fund_paid_micro_usd": 0, "recognised": recognised}


def _observed(dice: random.Random, now_ns: int) -> Iterator[Message]:
    for (venue, name), one in INSTRUMENTS.items():
        draws: list[tuple[str, float]] = []
        if one["contract"] in PERPETUALS:
            draws = [("rate_per_hour", dice.gauss(0.0, 0.001)), ("basis", dice.gauss(0.0, 0.01))]
        elif one["contract"] in FUTURES:
            draws = [("basis", dice.gauss(0.01, 0.02))]
        elif one["contract"] == "loan":
            draws = [("interest_index", dice.uniform(1.0, 1.2)), ("interest_rate", dice.uniform(0.0, 0.3))]
        for measure, value in draws:
            if dice.random() < 0.4:
                yield {
                    "v": 1,
                    "venue": venue,
                    "instrument": name,
                    "measure": measure,
                    "value": min(max(value, -0.5), 0.5) if measure == "basis" else value,
                    "time_ns": now_ns,
                }


def _account(dice: random.Random, account: str, size: str, now_ns: int) -> Iterator[Step]:
    """Snapshots of all venues that it holds something on, then what is pending there."""
    venues = dice.sample(sorted({venue for venue, _ in INSTRUMENTS}), dice.randint(1, VENUES_MAX))
    candidates = [key for key in INSTRUMENTS if key[0] in venues]
    options = [key for key in candidates if INSTRUMENTS[key]["contract"] in OPTIONS]
    plain = [key for key in candidates if key not in options]
    wanted = dice.randint(1, POSITIONS_MAX)
    pool = dice.sample(plain, min(len(plain), wanted)) + dice.sample(options, min(len(options), dice.choice((0, 2, 8))))
    chosen = dice.sample(pool, min(len(pool), wanted))
    rich = f"vault-{dice.choice(CHAINS)}", "USD"
    if size in RICH_USD and dice.random() < 0.7 and (rich[0] in venues or len(venues) < VENUES_MAX):
        chosen = [rich, *[key for key in chosen if key != rich][: POSITIONS_MAX - 1]]
    for venue in sorted({key[0] for key in chosen}):
        mine = [key for key in chosen if key[0] == venue]
        said = [
            {
                "instrument": key[1],
                "lots": round(dice.choice(RICH_USD[size]) / lot_usd(key)) if size in RICH_USD and key == rich else _lots(dice, size, key),
                "cash": _cash(dice, size, key),
            }
            for key in mine
        ]
        yield "snapshots", [{"v": 1, "account": account, "venue": venue, "sequence": 1, "positions": said, "time_ns": now_ns}]
        if dice.random() < 0.5:
            pending = [
                {
                    "instrument": key[1],
                    "buy_lots": abs(_lots(dice, size, key)) * dice.choice((0, 1)),
                    "sell_lots": abs(_lots(dice, size, key)) * dice.choice((0, 1)),
                    "leaving_lots": abs(_lots(dice, size, key)) * dice.choice((0, 1)),
                }
                for key in dice.sample(mine, dice.randint(1, len(mine)))
            ]
            yield "pending", [{"v": 1, "account": account, "venue": venue, "positions": pending, "time_ns": now_ns}]


def _lots(dice: random.Random, size: str, key: InstrumentKey) -> int:
    sign = dice.choice((1, 1, 1, -1)) if INSTRUMENTS[key]["contract"] == "spot" else dice.choice((1, -1))
    if INSTRUMENTS[key]["contract"] == "loan" and size != "tiny":  # now and then a little more is repaid than was owed
        sign = -1
    if size == "empty":
        return 0
    if size == "tiny":
        return sign * dice.randint(0, 3)
    if size == "huge":
        return sign * dice.randint(HUGE_LOTS // 2, HUGE_LOTS)
    usd = dice.choice((1_000.0, 50_000.0, 1e6)) * (1_000.0 if size == "large" else 1.0)
    return sign * round(dice.uniform(0.1, 1.0) * usd / lot_usd(key))


def _cash(dice: random.Random, size: str, key: InstrumentKey) -> int:
    if size == "empty" or INSTRUMENTS[key]["contract"] == "loan" or dice.random() < 0.3:
        return 0
    if size == "tiny":
        return dice.randint(-3, 3)
    most = CASH_MAX_USD * {"usual": 1.0, "large": 1_000.0, "huge": 1e6}[size]
    return round(dice.uniform(-1.0, 1.0) * most / cash_usd(key))
