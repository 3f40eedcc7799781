"""Leverage that hides: the cascade against the plain twin, sums against accounts, and what must hold whatever is held."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.cascade import FALLS, MovedMarket, Walk, cascade
from engine.claims import (
    GROSS,
    HELD,
    LOOPED,
    OWED,
    PASSED_ON,
    add_up,
    look_through,
    new_claims,
    present_marks,
    prices_at,
    set_off_receipts,
    terms_of,
    trace,
)
from engine.encumbrance import LeverageWatch, encumbrance
from engine.inputs import Depth, FrameKind, Funding, ImpliedVolatility, Snapshot, SnapshotPosition, Tick
from engine.leverage import LOOPS_SHOWN_MAX, AccountLeverage, account_leverage, seed_loop, turns_of_loop
from engine.margin import CLOSE_COST, EQUITY, MAINTENANCE, OUT, UNHAIRCUT, evaluate
from engine.monitor import Book
from engine.reasons import State
from engine.tables import GROUP, QUOTE_GROUP
from streams.shadow.values import Valuer
from tests.property.test_twin import EXPIRIES, INSTRUMENTS, KEYS, PRICES, SECOND, SOURCES, T0, cash_usd_of, notional_usd, price, start
from tests.twin.cascade import curve
from tests.twin.claims import leverage
from tests.two_books import TwoBooks

Held = dict[tuple[str, str], tuple[float, float]]  # USD of lots and of cash

held = st.dictionaries(
    st.sampled_from(KEYS),
    st.tuples(st.floats(-200_000.0, 200_000.0), st.floats(-100_000.0, 100_000.0)),
    min_size=1,
    max_size=8,
)
runs = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=(Phase.explicit, Phase.reuse, Phase.generate)
)


def a_market(changes: dict[str, Any], depth_usd: float = 1e7) -> TwoBooks:
    books = TwoBooks()
    start(books, {"breakers_enabled": False, "future_skew_s": 60.0, **changes})
    books.feed(FrameKind.TICK, [Tick(T0)])
    books.feed(FrameKind.PRICES, [price(name, source, usd, T0) for name, usd in PRICES.items() for source in SOURCES])
    quotes = [ImpliedVolatility(v=1, underlying=name, expiry_ns=at, sigma=0.7, time_ns=T0) for name in ("BTC", "ETH") for at in EXPIRIES]
    books.feed(FrameKind.VOLATILITIES, quotes)
    books.feed(FrameKind.DEPTHS, [Depth(v=1, asset=name, depth_usd=depth_usd, spread_bps=4.0, time_ns=T0) for name in PRICES])
    index = Funding(v=1, venue="v2", instrument="ETH-LOAN", measure="interest_index", value=1.07, time_ns=T0)
    books.feed(FrameKind.FUNDINGS, [index])
    return books


def open_account(books: TwoBooks, name: str, positions: Held) -> None:
    for venue in sorted({venue for venue, _ in positions}):
        said = [
            SnapshotPosition(key[1], round(usd / notional_usd(key)), round(cash / cash_usd_of(key)))
            for key, (usd, cash) in positions.items()
            if key[0] == venue
        ]
        books.feed(FrameKind.SNAPSHOTS, [Snapshot(v=1, account=name, venue=venue, sequence=1, positions=said, time_ns=T0)])
    books.book.take_cut()  # from then on it has a row, and is looked at


def columns_of(book: Book, a: int) -> tuple[Any, Any, Any]:
    c = book.accounts.columns
    slots = slice(0, int(c.positions[a]))
    return c.instrument[a, slots].copy(), c.quantity[a, slots].copy(), c.cash[a, slots].copy()


def random_positions(dice: random.Random) -> Held:
    """Leveraged ones, so that falls matter: dollars, collateral, and a few positions of either sign."""
    found: Held = {("v1", "USD"): (0.0, dice.uniform(20_000.0, 150_000.0))}
    for key in dice.sample(KEYS, 4):
        size = dice.uniform(10_000.0, 150_000.0) * dice.choice((1, 1, -1))
        if INSTRUMENTS[key].contract in ("option", "inverse_option"):
            found[key] = (size, 0.0)
        elif INSTRUMENTS[key].contract == "loan":
            found[key] = (-abs(size) / 3, 0.0)
        else:
            found[key] = (size, -size * dice.uniform(0.95, 1.05) if dice.random() < 0.7 else 0.0)
    return found


# ---- the cascade ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 3, 5])
def test_the_curve_is_that_of_accounts_valued_one_by_one(seed: int) -> None:
    dice = random.Random(seed)
    books = a_market(
        {"decision_mode": dice.choice(("portfolio", "protocol", "isolated")), "impact_coefficient": dice.choice((0.7, 1.0))},
        depth_usd=dice.choice((3e6, 1e7)),
    )
    for number in range(16):
        open_account(books, f"account-{number}", random_positions(dice))
    twin, book = books.twin, books.book
    assert books.differences() == []
    valued = [account.positions for account in twin.accounts.values() if account.state != "UNKNOWN"]
    universe = book.market.universe
    fell = second = 0
    for group, asset in enumerate(universe.group_assets):
        found = cascade(book.accounts, book.market, group, feedback=True)
        expected = curve(twin.market.universe, twin.view, valued, universe.assets[asset].name, FALLS)
        assert found.accounts.tolist() == [point.accounts for point in expected]
        for k, point in enumerate(expected):
            for number, one in enumerate(universe.assets):
                assert found.volume_usd[k, number] == pytest.approx(point.volume.get(one.name, 0.0), rel=1e-6, abs=1e-3)
                assert found.second_usd[k, number] == pytest.approx(point.second.get(one.name, 0.0), rel=1e-6, abs=1e-3)
        assert (np.diff(found.volume_usd, axis=0) >= 0.0).all()
        alone = cascade(book.accounts, book.market, group)  # passes by more accounts, those that 30% cannot reach
        assert alone.accounts.tolist() == found.accounts.tolist()
        assert alone.volume_usd == pytest.approx(found.volume_usd)
        fell += int(found.accounts[-1] - found.accounts[0])
        second += int((found.second_usd > 0.0).any())
    assert fell > 0, "nobody fell: the books say nothing about it"
    assert second > 0


@pytest.mark.parametrize("seed", range(4))
def test_nobody_who_falls_is_passed_by(seed: int) -> None:
    """Every account at every fall, and nothing left out."""
    dice = random.Random(200 + seed)
    books = a_market({"decision_mode": dice.choice(("portfolio", "protocol", "isolated")), "extreme_multiple": dice.choice((1.0, 3.0))})
    for number in range(60):
        open_account(books, f"account-{number}", random_positions(dice))
    book = books.book
    c, market = book.accounts.columns, book.market
    moved, out = MovedMarket(market), np.zeros(OUT)
    fell = 0
    for group in range(market.universe.group_count):
        members = market.universe.asset_arrays.group == group
        below: set[int] = set()
        counts = []
        for fall in FALLS:
            tables = moved.tables(np.where(members, 1.0 - fall, 1.0))
            for a in range(len(book.accounts)):
                held = [*c.instrument[a, : c.positions[a]]]
                ints = tables.instrument_int
                lots, units = c.quantity[a], c.cash[a]
                mine = any(
                    (lots[k] and ints[i, GROUP] == group) or (units[k] and ints[i, QUOTE_GROUP] == group) for k, i in enumerate(held)
                )
                code = evaluate(len(held), c.instrument[a], lots, units, False, tables.no_pending, tables, out)
                if mine and code == 0 and (out[EQUITY] < out[MAINTENANCE] or out[UNHAIRCUT] < out[CLOSE_COST]):
                    below.add(a)
            counts.append(len(below))
        assert cascade(book.accounts, market, group).accounts.tolist() == counts
        fell += counts[-1] - counts[0]
    assert fell > 0


@pytest.mark.parametrize("seed", range(3))
def test_a_walk_in_small_steps_comes_to_the_same(seed: int) -> None:
    dice = random.Random(100 + seed)
    books = a_market({})
    for number in range(12):
        open_account(books, f"account-{number}", random_positions(dice))
    book = books.book
    for group in range(book.market.universe.group_count):
        whole = cascade(book.accounts, book.market, group)
        walk = Walk(MovedMarket(book.market), book.accounts, book.market, group, FALLS, feedback=False)
        calls = 0
        while not walk.is_done:
            walk.go_on(1)
            calls += 1
        assert calls >= len(FALLS) * 12
        assert walk.curve.accounts.tolist() == whole.accounts.tolist()
        assert walk.curve.volume_usd == pytest.approx(whole.volume_usd)
        assert not whole.second_usd.any()


def test_a_watch_in_small_steps_comes_to_the_same_and_rests() -> None:
    dice = random.Random(7)
    books = a_market({})
    for number in range(12):
        open_account(books, f"account-{number}", random_positions(dice))
    book = books.book
    watch = LeverageWatch()
    calls = 0
    while watch.last is None:
        watch.go_on(book.accounts, book.market, work=20)
        calls += 1
    assert calls > 100
    expected = encumbrance(book.accounts, book.market)
    for name, sums in expected._asdict().items():
        assert getattr(watch.last.sums, name) == pytest.approx(sums), name
    for group, one in enumerate(watch.last.curves):
        assert one.volume_usd == pytest.approx(cascade(book.accounts, book.market, group).volume_usd)
    reports = watch.take_fresh(book.market, 3)
    assert {report.partition for report in reports} == {3}
    assert [report.asset for report in reports] == [asset.name for asset in book.market.universe.assets if asset.name != "USD"]
    assert watch.take_fresh(book.market, 3) == []
    last = watch.last
    for _ in range(20):
        watch.go_on(book.accounts, book.market)
    assert watch.last is last, "the next look is due a minute after the beginning of the last"
    books.feed(FrameKind.TICK, [Tick(T0 + 61 * SECOND)])
    watch.go_on(book.accounts, book.market)
    assert watch.last is not last


# ---- accounts ---------------------------------------------------------------------------------------------------------------------------


@runs
@given(st.lists(held, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_what_must_hold_of_any_account(accounts: list[Held], dice: random.Random) -> None:
    books = a_market({})
    for number, positions in enumerate(accounts):
        open_account(books, f"account-{number}", positions)
    book, market = books.book, books.book.market
    sums = np.zeros(4)
    for a in range(len(book.accounts)):
        slots = columns_of(book, a)
        found = account_leverage(market, *slots, lent=0.8)
        assert -1e-6 <= found.looped_usd <= found.owed_usd * (1 + 1e-9) + 1e-6
        assert found.looped_usd <= found.collateral_usd + 1e-6
        assert found.net_usd <= found.gross_usd + 1e-6
        if found.equity_usd > 0 and found.gross_usd >= found.equity_usd:
            assert found.leverage is not None
            assert found.leverage >= 1.0
        assert_as_by_the_twin(found, books, book.accounts.names[a])
        order = list(range(len(slots[0])))
        dice.shuffle(order)
        again = account_leverage(market, *(column[order] for column in slots), lent=0.8)
        assert_alike(again, found)
        sums += raw_sums(book, a)
    # A book's sums are those of its accounts, and there are never more coins than claims on them.
    total = encumbrance(book.accounts, market)
    looped, pledged, claimed, owed = sums
    assert total.looped.sum() == pytest.approx(looped, abs=1e-3)
    assert total.held.sum() == pytest.approx(claimed, abs=1e-3)
    assert total.pledged.sum() == pytest.approx(pledged, abs=1e-3)
    ends = [asset for asset in range(market.universe.asset_count) if market.universe.asset_arrays.redemption_asset[asset] < 0]
    assert total.claims[ends].sum() == pytest.approx(claimed, abs=1e-3)
    assert total.owed[ends].sum() == pytest.approx(owed, abs=1e-3)
    assert (total.claims - total.owed <= total.claims + 1e-6).all()
    assert (total.pledged <= total.held + 1e-6).all()
    assert (total.looped <= total.pledged + 1e-6).all()


def raw_sums(book: Book, a: int) -> Any:
    """(looped, pledged, held, owed) of one account before receipts are set off, but for what is looped."""
    market = book.market
    instrument, quantity, cash = columns_of(book, a)
    claims, prices, terms = new_claims(), prices_at(market, present_marks(market)), terms_of(market)
    assert book.accounts.columns.state[a] != State.UNKNOWN
    entries = look_through(len(instrument), instrument, quantity, cash, market.clock_ns, prices, terms, claims)
    holding, owing = float(claims.held[:entries].sum()), float(claims.owed[:entries].sum())
    owes = owing > 0.0 or claims.delta[:entries].any()
    set_off_receipts(entries, terms.assets, claims)
    trace(entries, terms.assets, prices, claims)
    add_up(entries, terms.assets, prices, claims)
    amounts = claims.amounts
    assert amounts[HELD] == pytest.approx(holding - amounts[PASSED_ON], abs=1e-3)
    assert amounts[OWED] == pytest.approx(owing - amounts[PASSED_ON], abs=1e-3)
    assert amounts[GROSS] >= 0.0
    return np.array([float(amounts[LOOPED]), holding if owes else 0.0, holding, owing])


def assert_as_by_the_twin(found: AccountLeverage, books: TwoBooks, name: str) -> None:
    expected = leverage(Valuer(books.twin.market.universe, books.twin.view), books.twin.accounts[name].positions)
    for said, by_twin in (
        (found.gross_usd, expected.gross),
        (found.net_usd, expected.net),
        (found.collateral_usd, expected.collateral),
        (found.owed_usd, expected.owed),
        (found.passed_on_usd, expected.passed_on),
        (found.looped_usd, expected.looped),
    ):
        assert said == pytest.approx(by_twin, rel=1e-6, abs=1e-3)
    if len(found.loops) < LOOPS_SHOWN_MAX:
        ways = {((way.venue, way.owed), (way.collateral_venue, way.collateral)): way.usd for way in found.loops}
        for way in ways.keys() | expected.ways.keys():
            assert ways.get(way, 0.0) == pytest.approx(expected.ways.get(way, 0.0), rel=1e-6, abs=1e-3), way
    if found.fall_taking_all is not None and found.fall_taking_all > 1e-6:
        assert found.fall_taking_all == pytest.approx(found.equity_usd / expected.long, rel=1e-6)


def assert_alike(one: AccountLeverage, other: AccountLeverage) -> None:
    """But for rounding: what is divided by next to nothing is not compared, nor are loops of next to nothing."""
    for name in one.__struct_fields__:
        mine, theirs = getattr(one, name), getattr(other, name)
        if name.endswith("_usd"):
            assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-3), name
        elif name not in ("loops", "passive") and min(abs(other.equity_usd), other.collateral_usd - other.looped_usd) > 1.0:
            assert mine == (None if theirs is None else pytest.approx(theirs, rel=1e-3)), name
    assert sum(way.usd for way in one.loops) == pytest.approx(sum(way.usd for way in other.loops), rel=1e-6, abs=1e-3)


@runs
@given(st.floats(1_000.0, 1e9), st.floats(0.05, 0.95), st.integers(1, 20))
def test_turns_of_what_was_looped(initial: float, lent: float, turns: int) -> None:
    loop = seed_loop(initial, lent, turns)
    found = turns_of_loop(loop.position_usd, loop.capital_usd, lent)
    assert lent ** (turns + 1) < 1e-6 or found == pytest.approx(turns, abs=1e-3)
