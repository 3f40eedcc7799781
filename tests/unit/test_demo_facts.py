"""The demo's facts are those of the day, and its timeline says of each message whether it is real."""

from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from engine.inputs import Depth, Heartbeat, ImpliedVolatility, OraclePrice
from engine.universe import Universe
from streams.demo import facts
from streams.demo.definitions import SLOW_CHAIN, definitions, instruments, parameters
from streams.demo.extract import asset_of, seconds
from streams.demo.facts import ASSETS, MAJORS, MINUTES, SECOND_NS, START_NS
from streams.demo.provenance import table
from streams.demo.timeline import SLOW_FROM_S, SLOW_UNTIL_S, Event, Scenario, timeline
from streams.messages import SOURCES, encode_source

TIMELINES = {scenario: timeline(scenario) for scenario in ("A", "B")}


def prices(scenario: Scenario, asset: str) -> dict[str, list[OraclePrice]]:
    found: dict[str, list[OraclePrice]] = defaultdict(list)
    for event in TIMELINES[scenario]:
        if isinstance(event.message, OraclePrice) and event.message.asset == asset:
            found[event.message.source].append(event.message)
    return found


def lowest(scenario: Scenario, asset: str, source: str) -> float:
    return min(price.price for price in prices(scenario, asset)[source])


def test_the_lows_of_the_day_are_in_the_facts() -> None:
    # As the sources' own descriptions give them.
    assert lowest("A", "USDe", "binance") == 0.65
    assert lowest("A", "BTC", "binance-perp") == pytest.approx(101_516.5, rel=0.01)
    assert lowest("A", "SOL", "binance-perp") == pytest.approx(141.28, rel=0.02)
    assert lowest("A", "ETH", "uniswap-v3") == pytest.approx(3_308.0, rel=0.01)
    assert max(price.price for price in prices("A", "ETH")["binance"]) == pytest.approx(4_380.0, rel=0.001)
    low = min(prices("A", "USDe")["binance"], key=lambda price: price.price)
    minute = (low.publish_time_ns - START_NS) // SECOND_NS // 60
    assert minute == 84  # 21:54


def test_chainlink_stood_far_above_uniswap() -> None:
    chainlink = {bar.second: bar.value for bar in facts.load().points["chainlink", "ETH"]}
    gaps = [
        max(value for second, value in chainlink.items() if 0 <= point.second - second <= 300) / point.value - 1.0
        for point in facts.load().points["uniswap-v3", "ETH"]
        if any(0 <= point.second - second <= 300 for second in chainlink)
    ]
    assert max(gaps) > 0.10


def test_a_bar_gives_four_observations_in_its_own_order() -> None:
    rising, falling = facts.Bar(0, 10.0, 12.0, 9.0, 11.0), facts.Bar(1, 11.0, 11.5, 8.0, 8.5)
    from streams.demo.timeline import _bar_observations

    first = list(_bar_observations(rising, low_first=True))
    assert [o.price for o in first] == [10.0, 9.0, 12.0, 11.0]
    assert [(o.time_ns - START_NS) / SECOND_NS for o in first] == [0.0, 20.0, 40.0, 59.999]
    assert [o.price for o in _bar_observations(falling, low_first=False)] == [11.0, 11.5, 8.0, 8.5]


@pytest.mark.parametrize("scenario", ["A", "B"])
def test_the_timeline_is_ordered_and_no_source_speaks_twice_at_one_time(scenario: Scenario) -> None:
    events = TIMELINES[scenario]
    assert all(before.time_ns <= after.time_ns for before, after in pairwise(events))
    seen = [(e.message.asset, e.message.source, e.message.publish_time_ns) for e in events if isinstance(e.message, OraclePrice)]
    assert len(seen) == len(set(seen))
    assert events == timeline(scenario)
    assert {event.topic for event in events} <= SOURCES.keys()
    assert all(encode_source(event.message)[0] == event.topic for event in events)
    assert events[0].time_ns >= START_NS
    assert events[-1].time_ns <= START_NS + MINUTES * 60 * SECOND_NS


def test_a_shorter_timeline_is_the_beginning_of_the_whole() -> None:
    short = timeline("A", 3)
    assert short == TIMELINES["A"][: len(short)]
    assert short[-1].time_ns <= START_NS + 180 * SECOND_NS


def test_each_asset_has_as_many_dense_sources_as_the_quorum_asks_for() -> None:
    for name, asset in ASSETS.items():
        if name in facts.REDEMPTION_RATES or name == "USDe":
            assert len(asset.synthetic) == 2, name
            continue
        real = [source for source in asset.sources if source not in asset.synthetic]
        dense = [source for source in real if facts.minutes_covered(source, name) >= facts.DENSE_MINUTES]
        wanted = facts.QUORUM_MAJOR if name in MAJORS else facts.QUORUM
        assert max(1, len(dense)) + len(asset.synthetic) >= wanted, name
        assert bool(asset.synthetic) == (max(1, len(dense)) < wanted), name


def test_every_message_of_a_synthetic_source_says_so_and_none_of_a_real_one() -> None:
    for name in ASSETS:
        for source, messages in prices("A", name).items():
            assert source in ASSETS[name].sources
            if name in facts.REDEMPTION_RATES and source == "binance":
                real = {(m.publish_time_ns - START_NS) // SECOND_NS // 60 for m in messages if not m.synthetic}
                assert real == {wick.minute for wick in facts.load().wicks[name]}
            else:
                assert {message.synthetic for message in messages} == {source.startswith("synthetic")}, (name, source)


def test_in_a_the_other_sources_of_usde_hold_and_in_b_they_fall() -> None:
    for source in ("synthetic-1", "synthetic-2"):
        held = [price.price for price in prices("A", "USDe")[source]]
        assert 0.994 <= min(held) < max(held) <= 1.0
        assert lowest("B", "USDe", source) < 0.66
    assert prices("A", "USDe")["binance"] == prices("B", "USDe")["binance"]
    rest = {s: [e for e in events if getattr(e.message, "asset", "") != "USDe"] for s, events in TIMELINES.items()}
    assert rest["A"] == rest["B"]


def test_bids_are_withdrawn_in_the_crash() -> None:
    def depths(asset: str, begin: int, end: int) -> list[float]:
        return [
            event.message.depth_usd
            for event in TIMELINES["A"]
            if isinstance(event.message, Depth) and event.message.asset == asset and begin * 60 <= second(event) < end * 60
        ]

    for asset in ASSETS:
        calm, crash = depths(asset, 0, 20), depths(asset, 45, 60)
        assert min(crash) < 0.35 * min(calm), asset


def second(event: Event) -> float:
    return (event.time_ns - START_NS) / SECOND_NS


def test_the_slow_chain_lags_and_comes_back() -> None:
    lags = {
        (event.message.chain, (event.message.observed_time_ns - START_NS) // SECOND_NS): (
            event.message.observed_time_ns - event.message.block_time_ns
        )
        / SECOND_NS
        for event in TIMELINES["A"]
        if isinstance(event.message, Heartbeat)
    }
    assert lags[SLOW_CHAIN, SLOW_FROM_S] == lags[SLOW_CHAIN, 0] == lags[SLOW_CHAIN, SLOW_UNTIL_S] == 860.0
    assert lags[SLOW_CHAIN, SLOW_UNTIL_S - 10] == pytest.approx(860.0 + SLOW_UNTIL_S - SLOW_FROM_S - 10)
    assert {lag for (chain, _), lag in lags.items() if chain == "ethereum"} == {800.0}
    heights = [e.message.height for e in TIMELINES["A"] if isinstance(e.message, Heartbeat) and e.message.chain == SLOW_CHAIN]
    assert heights == sorted(heights)


def test_volatility_rises_for_both_expiries() -> None:
    by_expiry = defaultdict(list)
    for event in TIMELINES["A"]:
        if isinstance(event.message, ImpliedVolatility):
            by_expiry[event.message.expiry_ns].append(event.message.sigma)
    assert len(by_expiry) == 2
    for sigmas in by_expiry.values():
        assert len(sigmas) == MINUTES + 1
        assert max(sigmas) > 1.05 * sigmas[0]


def test_everything_that_the_timeline_speaks_of_is_defined() -> None:
    universe = Universe()
    for definition in definitions():
        assert universe.define(definition) is None
    from engine.parameters import parse_parameters

    assert not isinstance(parse_parameters(parameters().parameters), list)
    for event in TIMELINES["B"]:
        message = event.message
        if isinstance(message, OraclePrice):
            asset = universe.asset_number(message.asset)
            assert asset is not None
            assert message.source in universe.assets[asset].sources
        if hasattr(message, "instrument"):
            assert (message.venue, message.instrument) in instruments()  # type: ignore[attr-defined]  # a Funding has both


def test_the_table_of_what_is_real_is_current() -> None:
    page = (Path(__file__).parents[2] / "docs" / "demo.md").read_text()
    assert f"\n\n{table()}\n<!-- /assets -->" in page, "run python -m streams.demo.provenance and put its table into docs/demo.md"


@pytest.mark.parametrize(("symbol", "asset"), [("AAVEUSD_PERP", "AAVE"), ("AAVE-USD", "AAVE"), ("TRXUSDT", "TRX"), ("BTCUSD", "BTC")])
def test_symbols_name_their_asset(symbol: str, asset: str) -> None:
    assert asset_of(symbol) == asset


def test_timestamps_of_the_reference_files() -> None:
    assert seconds("2025-10-10T21:14:11Z") == seconds("2025-10-10 21:14:11+00:00") == seconds("2025-10-10 21:14:11") == 2651.0
    with pytest.raises(ValueError, match="add its ending"):
        asset_of("BTCEUR")
