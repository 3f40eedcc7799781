"""What the specification promises of itself, looked for in the twin alone: an engine that agrees with the twin keeps it as well."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.parameters import Parameters, parse_parameters
from streams.shadow.margin import MODES, Account
from streams.shadow.scenarios import Grid
from streams.shadow.universe import LOTS_OF_USD, InstrumentKey, Message
from streams.shadow.values import Position, Positions
from streams.shadow.view import INITIAL, LEVELS, MAINTENANCE, View
from tests.twin.monitor import Monitor
from tests.twin.random_books import DEFINITIONS, INSTRUMENTS, PRICES, SECOND, SOURCES, T0, RandomBook, lot_usd, random_book

ROUNDING = 1e-9  # of the gross notional
ACCOUNTS = 10  # of each random market
SEEDS = st.integers(0, 2**32)

# An example feeds a market; a smaller counterexample is not worth the minutes that shrinking takes.
settings.register_profile(
    "model",
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
everyday = settings.get_profile("model")
some = settings(everyday, max_examples=60)


def complete(rules: Message) -> Message:
    """The whole parameter set that these changes make."""
    parsed = parse_parameters(rules)
    assert isinstance(parsed, Parameters), parsed
    return parsed.model_dump()


def fed(book: RandomBook) -> Monitor:
    monitor = Monitor(complete({}))
    for kind, events in book.steps:
        whole = [{**event, "parameters": complete(event["parameters"])} for event in events] if kind == "parameters" else events
        monitor.apply(kind, whole)
    assert not monitor.refused
    return monitor


def random_accounts(seed: int) -> list[Account]:
    """Those of one market that can be valued."""
    monitor = fed(random_book(seed, accounts=ACCOUNTS))
    found = [monitor.margin(record) for record in monitor.accounts.values()]
    return [account for account in found if not account.reason()]


def slack(account: Account) -> float:
    return ROUNDING * (account.gross() + 1.0)


# ---- random books ---------------------------------------------------------------------------------------------------------------------


@everyday
@given(SEEDS)
def test_netting_only_helps(seed: int) -> None:
    for account in random_accounts(seed):
        for level in LEVELS:
            isolated, protocol, portfolio = (account.requirement(level, mode) for mode in MODES)
            assert 0.0 <= portfolio <= protocol + slack(account)
            assert protocol <= isolated + slack(account)


@everyday
@given(SEEDS)
def test_the_levels_are_in_order(seed: int) -> None:
    for account in random_accounts(seed):
        valuation = account.valuation()
        assert 0.0 <= valuation.maintenance <= valuation.end <= valuation.initial
        assert valuation.equity_i <= valuation.equity_m + slack(account)
        assert valuation.equity_m <= valuation.unhaircut + slack(account)


@everyday
@given(SEEDS)
def test_open_orders_count_at_the_worst_of_what_may_become_of_them(seed: int) -> None:
    """No fill of some of their lots at their prices needs more, in any mode, or loses more by haircuts, filled and unfilled ones together.

    Of what is paid for in another thing than dollars only inverse perpetuals and futures: what a coin paid away no longer risks isn't said.
    """
    dice = random.Random(seed)
    measures: list[Callable[[Account, str], float]] = [scanned, lost, *(partial(required, mode) for mode in MODES)]
    for account in random_accounts(seed):
        before, after, none = account_in_orders(account, dice)
        for level in LEVELS:
            for needed in measures:
                worst = needed(before, level)
                assert needed(none, level) <= worst + slack(account)
                assert needed(after, level) <= worst + slack(account) + slack(after) + 2 * a_unit_of_each_coin(after)


def a_unit_of_each_coin(account: Account) -> float:
    """USD: what is paid in a coin is a whole number of its cash units."""
    return sum(account.valuer.cash_unit_usd(key) for key in account.positions if INSTRUMENTS[key]["contract"] in LOTS_OF_USD)


def account_in_orders(account: Account, dice: random.Random) -> tuple[Account, Account, Account]:
    """The account with its open orders, with some of their lots filled, and with none of them."""
    valuer = account.valuer
    positions: list[Positions] = [{}, {}, {}]
    for key, position in account.positions.items():
        one = INSTRUMENTS[key]
        coin = one["contract"] in LOTS_OF_USD
        buy, sell = valuer.orders(key, position) if coin or one["quote"] == "USD" else (0, 0)
        bought, sold = round(buy * dice.choice((0, 1, dice.random()))), round(sell * dice.choice((0, 1, dice.random())))
        lots = bought - sold
        cash = position.cash + (round(lots * valuer.traded_usd(key) / valuer.cash_unit_usd(key)) if lots and coin else 0)
        filled = replace(position, quantity=position.quantity + lots, cash=cash, buy=buy - bought, sell=sell - sold)
        for those, now in zip(positions, (replace(position, buy=buy, sell=sell), filled, replace(position, buy=0, sell=0)), strict=True):
            those[key] = now
    before, after, none = (Account(account.universe, account.view, those) for those in positions)
    return before, after, none


def lost(account: Account, level: str) -> float:
    """By haircuts, and not by the initial level's prices of debts."""
    return account.unhaircut() - account.equity(level) - (account.dearer_debts_usd() if level == INITIAL else 0.0)


def required(mode: str, account: Account, level: str) -> float:
    return account.requirement(level, mode)


def scanned(account: Account, level: str) -> float:
    return Grid(account.valuer, level).scan(list(account.positions.items()), account.groups())


# ---- made books -----------------------------------------------------------------------------------------------------------------------


@cache
def market() -> Monitor:
    """Calm, everything known, default parameters."""
    monitor = Monitor(complete({}))
    monitor.apply("definitions", DEFINITIONS)
    monitor.apply("parameters", [{"parameters": complete({})}])
    monitor.apply("tick", [{"time_ns": T0}])
    prices = [
        {"asset": name, "source": source, "price": usd, "confidence": 0.0, "publish_time_ns": T0}
        for name, usd in PRICES.items()
        for source in SOURCES
    ]
    monitor.apply("prices", prices)
    expiries = sorted({one["expiry_ns"] for one in INSTRUMENTS.values() if one.get("expiry_ns", 0) > T0})
    monitor.apply(
        "volatilities",
        [{"underlying": name, "expiry_ns": moment, "sigma": 0.6, "time_ns": T0} for name in ("BTC", "ETH") for moment in expiries],
    )
    monitor.apply("depths", [{"asset": name, "depth_usd": 1e7, "spread_bps": 4.0, "time_ns": T0} for name in PRICES])
    monitor.apply("tick", [{"time_ns": T0 + SECOND}])
    return monitor


def account_of(positions: Positions, view: View | None = None) -> Account:
    return Account(market().market.universe, view or market().view, positions)


def lots_for(key: InstrumentKey, usd: float) -> int:
    return round(usd / lot_usd(key))


def worse_by(what: str, factor: float) -> View:
    """One of the tables that are by level made worse."""
    view = market().view
    match what:
        case "sigmas":
            return replace(view, sigmas=by_level(view.sigmas, factor))
        case "latencies":
            return replace(view, latencies=by_level(view.latencies, factor))
        case "thins":
            return replace(view, thins=by_level(view.thins, factor))
        case _:
            return replace(view, flats=by_level(view.flats, factor))


def by_level(table: dict[str, dict[Any, float]], change: float) -> dict[str, dict[Any, float]]:
    return {level: {name: value * change for name, value in row.items()} for level, row in table.items()}


@pytest.mark.parametrize("mode", MODES)
@some
@given(seed=SEEDS, factor=st.floats(1.0, 10.0), what=st.sampled_from(["sigmas", "latencies", "thins", "flats"]))
def test_a_worse_market_never_asks_less_of_a_one_sided_book(mode: str, seed: int, factor: float, what: str) -> None:
    """Long linear things alone, so that nothing is netted: more volatility, latency or less depth never lowers haircuts or requirement."""
    dice = random.Random(seed)
    linear = [key for key, one in INSTRUMENTS.items() if one["contract"] in ("spot", "perpetual", "future") and one["quote"] == "USD"]
    linear = [key for key in linear if market().view.clock_ns < INSTRUMENTS[key].get("expiry_ns", 2**62)]
    book = {key: Position(lots_for(key, dice.uniform(1e3, 1e8))) for key in dice.sample(linear, 8)}
    worse = worse_by(what, factor)
    for level in LEVELS:
        before, after = account_of(book), account_of(book, worse)
        assert after.requirement(level, mode) >= before.requirement(level, mode) - slack(before)
        assert after.equity(level) <= before.equity(level) + slack(before)
    assert after.valuation().initial >= before.valuation().initial - slack(before)


@some
@given(
    asset=st.sampled_from(["BTC", "ETH"]),
    tenor=st.integers(0, 5),
    usd=st.floats(1e3, 1e8),
    shape=st.sampled_from([("0.8", "1.25"), ("1.0", "1.0"), ("0.8", "0.8"), ("1.25", "1.25")]),
    venue=st.sampled_from(["ex-one", "ex-two"]),
)
def test_whoever_sold_the_options_of_a_neutral_book_needs_more(
    asset: str, tenor: int, usd: float, shape: tuple[str, str], venue: str
) -> None:
    put, call = (f"{asset}-{tenor}-{PRICES[asset] * float(m):.0f}-{kind}" for m, kind in zip(shape, "PC", strict=True))
    lots = lots_for((venue, call), usd)
    valuer = account_of({}).valuer
    delta = sum(valuer.delta_usd((venue, name), lots) for name in (put, call))
    hedge = "ex-one", f"{asset}-PERP"
    requirements = []
    for sign in (1, -1):
        book = {(venue, put): Position(sign * lots), (venue, call): Position(sign * lots)}
        book[hedge] = Position(-sign * round(delta / valuer.traded_usd(hedge)))
        requirements.append(account_of(book).requirement(MAINTENANCE, "portfolio"))
    bought, sold = requirements
    assert sold > bought


@some
@given(
    asset=st.sampled_from(["BTC", "ETH", "SOL", "DOGE", "UNI"]),
    chains=st.permutations(["one", "two", "three", "four"]),
    usd=st.floats(1.0, 1e9),
)
def test_a_hedge_across_chains_pays_no_price_charge(asset: str, chains: list[str], usd: float) -> None:
    """Spot here against a short there pays base, security, latency, depeg and size, but nothing for the price."""
    here, there = chains[:2]
    spot, short = (f"vault-{here}", asset), (f"ex-{there}", f"{asset}-PERP")
    lots = lots_for(spot, usd)
    account = account_of({spot: Position(lots), short: Position(-lots)})
    grid = Grid(account.valuer, MAINTENANCE)
    held = list(account.positions.items())
    assert grid.scan(held, account.groups()) == 0.0
    added = grid.add_ons(held)
    charged = lots * account.valuer.traded_usd(short) * account.parameters["basis_bps"][0] * 1e-4
    assert added.basis == pytest.approx(charged)
    assert account.requirement(MAINTENANCE, "portfolio") == pytest.approx(charged + grid.concentration(held))
    view, universe = account.view, account.universe
    row = account.parameters["classes"][universe.asset_class(asset)]
    usd = lots * account.valuer.lot_usd(spot, 1)
    inside = min(usd, universe.assets[asset].get("cap_usd_per_account", 1e15))
    way = view.latencies[MAINTENANCE][spot] if not universe.same_place(here, there) else 0.0
    haircut = view.flats[MAINTENANCE][spot] + way + row["size_coefficient"] * view.thins[MAINTENANCE][asset] * math.sqrt(usd)
    assert view.flats[MAINTENANCE][spot] == row["base_haircut"] + universe.chains[here].get("security_premium", 0.0)
    assert account.unhaircut() - account.equity(MAINTENANCE) == pytest.approx(usd - inside * (1 - min(haircut, 1.0)), abs=slack(account))


def test_initial_is_never_below_liquidation_end() -> None:
    """A hedge may need less when its other side has become as volatile: the factors alone don't order the levels."""
    long, short = ("ex-one", "BTC-PERP"), ("ex-one", "ETH-PERP")
    book = {long: Position(lots_for(long, 1e4)), short: Position(-lots_for(short, 1e4))}
    sigmas = {level: {**market().view.sigmas[level], "BTC": 3.0, "ETH": 0.3 if level == MAINTENANCE else 3.0} for level in LEVELS}
    account = account_of(book, replace(market().view, sigmas=sigmas))
    assert account.parameters["initial_factor"] * account.requirement(INITIAL, "portfolio") < account.valuation().end
    assert account.valuation().initial == account.valuation().end


def test_full_stress_leaves_no_hedge_across_groups() -> None:
    """Long one thing, short another: with stress neither their going together nor their not doing so is relied on."""
    long, short = ("ex-one", "BTC-PERP"), ("ex-one", "ETH-PERP")
    hedge = {long: Position(lots_for(long, 1e6)), short: Position(-lots_for(short, 1e6))}
    both = {long: Position(lots_for(long, 1e6)), short: Position(lots_for(short, 1e6))}
    view = market().view
    stressed = replace(view, stress={level: dict.fromkeys(row, 1.0) for level, row in view.stress.items()})
    for book in (hedge, both):
        calm_usd, stress_usd = (scanned(account_of(book, seen), INITIAL) for seen in (view, stressed))
        assert calm_usd < stress_usd
    alone = [scanned(account_of({key: position}, stressed), INITIAL) for key, position in hedge.items()]
    assert scanned(account_of(hedge, stressed), INITIAL) == pytest.approx(max(alone))
    assert scanned(account_of(both, stressed), INITIAL) == pytest.approx(sum(alone))
