"""The demo's venue fills at its mark plus half the spread, once an order, within the limit, and keeps counting where the venue stood."""

from typing import Any

import pytest

from engine.effects import Order
from engine.inputs import Depth, Fill, ImpliedVolatility, OraclePrice, Snapshot
from engine.pricing import black76_price, year_fraction
from streams.demo.definitions import OCT_31_NS, instruments
from streams.demo.facts import SECOND_NS, START_NS
from streams.demo.venue import LATENCY_NS, Venue


def price(asset: str, value: float, source: str = "binance-perp", at: int = START_NS) -> OraclePrice:
    return OraclePrice(v=1, asset=asset, source=source, price=value, publish_time_ns=at)


def depth(asset: str, usd: float = 1e8, spread_bps: float = 20.0) -> Depth:
    return Depth(v=1, asset=asset, depth_usd=usd, spread_bps=spread_bps, time_ns=START_NS)


def order(**changes: Any) -> Order:
    fields: dict[str, Any] = {
        "order_id": "o1",
        "account": "somebody",
        "venue": "binance",
        "chain": "custody",
        "instrument": "BTC-PERP",
        "lots": -10,
        "limit_ticks": 1,
        "epoch": 1,
        "attempt": 1,
        "state": "liquidatable",
        "cause": "price",
        "decided_ns": START_NS,
        "expires_ns": START_NS + 60 * SECOND_NS,
        "parameters": "p",
        "ledger": "0:1:0",
    }
    return Order(**{**fields, **changes})


@pytest.fixture
def venue() -> Venue:
    made = Venue(instruments())
    for message in (price("BTC", 100_000.0), price("BTC", 100_200.0, "okx"), price("BTC", 100_400.0, "gemini"), depth("BTC")):
        made.observe(message)
    return made


def test_a_sale_gets_the_middle_source_less_half_the_spread(venue: Venue) -> None:
    answer = venue.execute(order())
    assert answer is not None
    (fill,) = answer.fills
    assert fill.price_ticks == 100_099  # 100,200 x (1 - 10 bp), a tick is a dollar
    assert fill.lots == -10
    assert fill.sequence == 1
    assert fill.order_id == "o1"
    assert fill.time_ns == START_NS + LATENCY_NS
    notional = 10 * 1e-4 * 100_099  # ten lots of 0.0001 coins
    assert fill.cash == -round(notional * 4e-4 / 1e-6)
    assert answer.report.status == "filled"
    assert answer.report.filled_lots == 10
    assert answer.report.fill_ids == [fill.fill_id]


def test_a_purchase_pays_half_the_spread(venue: Venue) -> None:
    answer = venue.execute(order(lots=10, limit_ticks=10**9))
    assert answer is not None
    assert answer.fills[0].price_ticks == 100_301
    assert answer.fills[0].lots == 10


def test_an_order_is_answered_once_also_by_a_venue_that_was_started_again(venue: Venue) -> None:
    answer = venue.execute(order())
    assert answer is not None
    assert venue.execute(order()) is None
    again = Venue(instruments())
    for message in (price("BTC", 100_000.0), *answer.fills, answer.report):
        again.observe(message)
    assert again.execute(order()) is None
    other = again.execute(order(order_id="o2"))
    assert other is not None
    assert other.fills[0].sequence == 2


def test_an_order_that_comes_too_late_expires(venue: Venue) -> None:
    answer = venue.execute(order(expires_ns=START_NS + LATENCY_NS))
    assert answer is not None
    assert answer.fills == []
    assert answer.report.status == "expired"
    assert venue.advance(START_NS + 90 * SECOND_NS) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"limit_ticks": 100_100}, "limit"), ({"lots": 10, "limit_ticks": 100_300}, "limit"), ({"instrument": "ETH-PERP"}, "no price")],
)
def test_what_cannot_be_filled_rests_until_it_expires(venue: Venue, changes: dict[str, Any], reason: str) -> None:
    answer = venue.execute(order(**changes))
    assert answer is not None
    assert answer.fills == []
    assert answer.report.status == "acknowledged"
    assert reason in answer.report.reason
    assert venue.advance(START_NS + 59 * SECOND_NS) == []
    (gone,) = venue.advance(START_NS + 60 * SECOND_NS)
    assert gone.fills == []
    assert gone.report.status == "expired"
    assert venue.advance(START_NS + 61 * SECOND_NS) == []


def test_an_order_that_rests_is_filled_when_the_price_comes_back(venue: Venue) -> None:
    venue.execute(order(limit_ticks=100_300))
    for source in ("binance-perp", "okx", "gemini"):
        venue.observe(price("BTC", 101_000.0, source, at=START_NS + 10 * SECOND_NS))
    (answer,) = venue.advance(START_NS + 10 * SECOND_NS)
    assert answer.fills[0].price_ticks == 100_899
    assert answer.report.status == "filled"
    assert venue.advance(START_NS + 60 * SECOND_NS) == []


def test_late_news_of_prices_makes_an_order_late(venue: Venue) -> None:
    venue.observe(price("BTC", 90_000.0, at=START_NS + 61 * SECOND_NS))
    answer = venue.execute(order())
    assert answer is not None
    assert answer.report.status == "expired"


def test_a_thin_book_fills_in_part(venue: Venue) -> None:
    venue.observe(depth("BTC", usd=100.0))
    answer = venue.execute(order())
    assert answer is not None
    assert answer.fills[0].lots == -4  # half of $100 at $10.02 a lot
    assert answer.report.status == "partly_filled"
    assert answer.report.filled_lots == 4
    (second,) = venue.advance(START_NS + 5 * SECOND_NS)
    assert (second.fills[0].lots, second.fills[0].sequence, second.report.filled_lots) == (-4, 2, 8)
    venue.observe(depth("BTC", usd=0.0))
    assert venue.advance(START_NS + 10 * SECOND_NS) == []
    venue.observe(depth("BTC"))
    (last,) = venue.advance(START_NS + 15 * SECOND_NS)
    assert last.fills[0].lots == -2
    assert (last.report.status, last.report.filled_lots, len(last.report.fill_ids)) == ("filled", 10, 3)


def test_stale_sources_do_not_count(venue: Venue) -> None:
    venue.observe(price("BTC", 90_000.0, "gemini", at=START_NS + 100 * SECOND_NS))
    answer = venue.execute(order(decided_ns=START_NS + 100 * SECOND_NS, expires_ns=START_NS + 200 * SECOND_NS))
    assert answer is not None
    assert answer.fills[0].price_ticks == 89_910


def test_sequences_go_on_from_fills_and_snapshots(venue: Venue) -> None:
    venue.observe(Snapshot(v=1, account="somebody", venue="binance", sequence=100, positions=[], time_ns=START_NS))
    answer = venue.execute(order())
    assert answer is not None
    assert answer.fills[0].sequence == 101
    venue.observe(
        Fill(
            v=1,
            account="other",
            venue="binance",
            instrument="BTC-PERP",
            kind="trade",
            lots=1,
            price_ticks=1,
            sequence=7,
            time_ns=START_NS,
        )
    )
    other = venue.execute(order(order_id="o2", account="other"))
    assert other is not None
    assert other.fills[0].sequence == 8


def test_an_option_is_priced_in_coins(venue: Venue) -> None:
    sold = order(venue="okx", instrument="BTC-251031-135000-C", lots=5, limit_ticks=10**6)
    resting = venue.execute(sold)
    assert resting is not None
    assert resting.report.reason == "the venue has no price"
    venue.observe(ImpliedVolatility(v=1, underlying="BTC", expiry_ns=OCT_31_NS, sigma=0.6, time_ns=START_NS))
    answer = venue.execute(order(order_id="o2", venue="okx", instrument="BTC-251031-135000-C", lots=5, limit_ticks=10**6))
    assert answer is not None
    usd = black76_price(100_200.0, 135_000.0, 0.6, year_fraction(START_NS + LATENCY_NS, OCT_31_NS), True, 1.0)
    coins = usd / 100_200.0 * 1.001
    assert (answer.fills[0].price_ticks - 1) * 1e-4 < coins <= answer.fills[0].price_ticks * 1e-4


def test_the_fee_of_an_inverse_contract_is_in_coins(venue: Venue) -> None:
    answer = venue.execute(order(venue="okx", instrument="BTC-USD-SWAP", lots=-10))
    assert answer is not None
    (fill,) = answer.fills
    assert fill.price_ticks == 1_000_998  # 100,200 x (1 - 10 bp), a tick is ten cents
    assert fill.cash == -round(10 * 100.0 / 100_099.8 * 4e-4 / 1e-9)
