"""What the report shows of the risk model: by term, by regime, by fall and by mode, from what was told and what is applied again."""

import io
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
import orjson
import plotly.graph_objects as go
import pytest
from rich.console import Console

from engine.cascade import FALLS
from engine.effects import AssetReport, HaircutReport
from engine.survey import asset_reports
from streams.broker import Cluster
from streams.demo.facts import MINUTES, SECOND_NS, START_NS
from streams.demo.offline import View, added_up
from streams.demo.recorder import OUTPUTS, Recording
from streams.demo.report import page
from streams.demo.risk_plots import TERMS, lost_of, risk_plots
from streams.demo.seen import CALM_S, CRASH_S, GROUPS, MOMENTS_S, NOTHING, CascadeAt, CorrelationPoint, Regimes, Seen
from streams.demo.summary import Fallen, ReplayCheck, Run, efficiency, run_summary, show
from streams.messages import encode_effect
from tests.small_market import new_market
from tests.small_world import T0, Log

CLUSTER = Cluster("127.0.0.1:9092", "local", "4.3.1")
TITLES = (
    "Haircuts by term",
    "Haircut of any collateral",
    "Volatility in force",
    "Volatility of any asset",
    "Stress of risk groups",
    "Correlation regimes",
    "What a further fall would set off",
    "Capital that each mode asks for",
)


def haircut(**changed: Any) -> HaircutReport:
    terms: dict[str, Any] = {"base": 0.04, "security": 0.005, "latency": 0.02, "depeg": 0.1, "size_1m": 0.015, "total_1m": 0.18}
    return HaircutReport(**{"chain": "ethereum", "eligible": True, **terms, **changed})


@cache
def plain() -> AssetReport:
    return asset_reports(new_market())[0]


def report(asset: str, minute: int, haircuts: Sequence[HaircutReport] = (), **changed: Any) -> AssetReport:
    clock_ns = START_NS + minute * 60 * SECOND_NS
    return msgspec.structs.replace(plain(), asset=asset, clock_ns=clock_ns, haircuts=list(haircuts), **changed)


def seen() -> Seen:
    regimes = Regimes(0.5, 0.75, 0.25), Regimes(0.5, 1.0, 0.0)
    pairs = {("BTC", "ETH"): [CorrelationPoint(START_NS + n * 60 * SECOND_NS, regimes) for n in range(3)]}
    curves = [
        CascadeAt(second, "USDe", FALLS, tuple(range(len(FALLS))), tuple(1e6 * n for n in range(len(FALLS))), 4e6) for second in MOMENTS_S
    ]
    return Seen({}, pairs, curves)


def run(scenario: Any = "B", *, full: bool = True) -> Run:
    made = Recording()
    if full:
        for minute in range(3):
            for asset in ("USDe", "DOGE"):
                told = report(asset, minute, [haircut(depeg=0.1 * minute)], stress_maintenance=0.5)
                made.take("risk.marks", 0, asset.encode(), encode_effect(told)[2])
        for second in (0, CALM_S, CRASH_S):
            made.health = {
                "market_maker-1": {"requirement_usd": {"isolated": 100.0, "protocol": 60.0, "portfolio": 10.0}},
                "market_maker-2": {"requirement_usd": None},
            }
            made.note_requirements(second)
    found = seen() if full else NOTHING
    return Run(scenario, made, ReplayCheck(0, []), Fallen(frozenset(), frozenset()), found, 2_020, 123.4, 0, MINUTES * 60)


def figure_of(plots: Sequence[Any], title: str) -> go.Figure:
    [found] = [plot.figure for plot in plots if plot.title.startswith(title)]
    return found


# ---- what is recorded -------------------------------------------------------------------------------------------------------------------


def test_of_an_asset_the_last_word_of_each_minute_is_kept() -> None:
    made = Recording()
    for minute, sigma in ((0, 0.3), (0, 0.4), (1, 0.5)):
        made.take("risk.marks", 0, b"BTC", encode_effect(report("BTC", minute, sigma_initial=sigma))[2])
    assert {key: told.sigma_initial for key, told in made.reports.items()} == {("BTC", 0): 0.4, ("BTC", 1): 0.5}
    assert "risk.marks" in OUTPUTS, "else nobody listens to it"


@pytest.mark.parametrize("minute", [-1, MINUTES + 1])
def test_what_is_told_outside_the_two_hours_is_not_kept(minute: int) -> None:
    """A demo that is served goes on for ever."""
    made = Recording()
    made.take("risk.marks", 0, b"BTC", encode_effect(report("BTC", minute))[2])
    assert made.reports == {}


def test_requirements_are_noted_of_those_that_can_be_valued() -> None:
    one = run()
    assert set(one.recording.requirements) == {0, CALM_S, CRASH_S}
    assert set(one.opening) == {"market_maker-1"}


def test_efficiency_by_hand() -> None:
    required = {
        "market_maker-1": {"isolated": 100.0, "protocol": 60.0, "portfolio": 10.0},
        "named-09-market_maker": {"isolated": 300.0, "protocol": 240.0, "portfolio": 60.0},
        "market_maker-3": {"isolated": 0.0, "protocol": 0.0, "portfolio": 0.0},
        "usde_looper-1": {"isolated": 50.0, "protocol": 50.0, "portfolio": 50.0},
    }
    found = efficiency(required)
    assert list(found) == ["usde_looper", "market_maker"]
    makers = found["market_maker"]
    assert (makers.accounts, makers.isolated_usd, makers.protocol_usd, makers.portfolio_usd) == (2, 400.0, 300.0, 70.0)
    assert makers.protocol_ratio == pytest.approx(0.7)
    assert makers.portfolio_ratio == pytest.approx(0.15)
    assert makers.usd_of("protocol") == 300.0
    assert makers.median_of("portfolio") == pytest.approx(0.15)


# ---- what is applied again --------------------------------------------------------------------------------------------------------------


def ledger(until_s: int) -> Log:
    """An account that a fall of BTC by a tenth would bring below, and one that stands, with a tick every 20 s."""
    log = Log()
    log.open({"classes": {name: {"max_age_s": 600_000.0} for name in ("major", "alt", "stable")}})
    for account in ("deep", "safe"):
        log.deposit(account, 30_000.0)
    log.trade("deep", "ex", "BTC-PERP", 1_000, 100_000)
    log.trade("safe", "ex", "BTC-PERP", 1, 100_000)
    for _ in range(until_s // 20):
        log.tick(20.0)
    return log


def looked_at(log: Log, start_ns: int) -> View:
    view = View(0, 1, start_ns)
    for offset, frame in enumerate(log.frames):
        view.take(offset, frame)
    return view


def test_a_ledger_is_looked_at_by_the_minute_and_at_the_moments_played() -> None:
    view = looked_at(ledger(CALM_S + 40), T0)
    assert not view.is_done
    points = view.correlations["BTC", "ETH"]
    assert len(points) == CALM_S // 60 + 2, "one a minute, the first at the first tick"
    for point in points:
        for regimes in point.levels:
            assert -1.0 <= regimes.low <= regimes.observed <= regimes.high <= 1.0
    assert view.correlations["BTC", "DOGE"] == [], "there is no DOGE here"
    assert [point.price for point in view.marks["BTC"]][-1] == 100_000.0
    assert [(curve.second, curve.group) for curve in view.cascades] == [(CALM_S, name) for name in GROUPS if name in ("BTC", "ETH", "SOL")]
    btc = view.cascades[0]
    assert btc.falls == FALLS
    assert btc.accounts[0] == 0
    assert btc.accounts[-1] == 1, "the one that stands is never among them"
    assert btc.volume_usd[-1] > 0.0
    assert list(btc.volume_usd) == sorted(btc.volume_usd)
    assert btc.depth_usd == 1e7


def test_moments_before_a_run_began_are_not_looked_at() -> None:
    view = looked_at(ledger(60), T0 - (CRASH_S + 60) * SECOND_NS)
    assert view.is_done
    assert view.cascades == []


def test_the_books_curves_are_added_up() -> None:
    one = [CascadeAt(CALM_S, "BTC", (0.0, 0.1), (1, 2), (0.0, 5.0), 7.0)]
    other = [CascadeAt(CALM_S, "BTC", (0.0, 0.1), (0, 4), (1.0, 6.0), 7.0)]
    assert added_up([one, other]) == [CascadeAt(CALM_S, "BTC", (0.0, 0.1), (1, 6), (1.0, 11.0), 7.0)]
    with pytest.raises(ValueError, match="zip"):
        added_up([one, []])


# ---- what is shown ----------------------------------------------------------------------------------------------------------------------


def test_each_part_is_in_the_page_and_says_where_it_comes_from() -> None:
    plots = risk_plots([run("A"), run("B")])
    for title in TITLES:
        found = [plot for plot in plots if plot.title.startswith(title)]
        assert found, title
        assert all(any(source in plot.text for source in ("risk.marks", "account.health", "applied again offline")) for plot in found), (
            "no source is said"
        )
    html = page(CLUSTER, [run("A"), run("B")])
    assert all(title in html for title in TITLES)


def test_a_run_that_told_nothing_has_no_empty_plots() -> None:
    assert risk_plots([run(full=False)]) == []


def test_the_terms_of_a_haircut_add_up_to_it() -> None:
    terms = haircut(suspended=1.0, slow=-0.95, total_1m=0.23)
    assert sum(of(terms) for _, _, of in TERMS) == pytest.approx(terms.total_1m)
    assert sum(of(haircut()) for _, _, of in TERMS) == pytest.approx(haircut().total_1m)
    figure = figure_of(risk_plots([run()]), "Haircut of any collateral")
    areas = [trace for trace in figure.data if trace.stackgroup]
    shown = [trace for trace in areas if trace.visible]
    assert len(areas) == 2 * len(TERMS)
    assert len(shown) == len(TERMS), "one collateral at a time"
    depeg = next(trace for trace in shown if trace.name == "depeg")
    assert depeg.y == pytest.approx((0.0, 0.1, 0.2))


def test_what_is_lost_counts_what_is_not_recognised() -> None:
    assert lost_of(haircut(total_1m=0.2)) == pytest.approx(0.2)
    assert lost_of(haircut(total_1m=0.2, recognised=0.5)) == pytest.approx(0.6)


def test_the_regimes_are_told_apart_and_by_level() -> None:
    figure = figure_of(risk_plots([run()]), "Correlation regimes")
    last = {trace.name: trace.y[-1] for trace in figure.data}
    assert last == {"high": 0.75, "observed": 0.5, "low": 0.25, "high, initial": 1.0, "low, initial": 0.0}


def test_a_cascade_stands_beside_its_depth() -> None:
    figure = figure_of(risk_plots([run()]), "What a further fall")
    lines = {trace.name: trace for trace in figure.data}
    assert set(lines) == {"to be sold at 20:50", "depth at 20:50", "to be sold at 21:20", "depth at 21:20"}
    assert lines["to be sold at 21:20"].y[-1] == 8e6
    assert set(lines["depth at 21:20"].y) == {4_000_000}


def test_each_mode_is_shown_at_each_time_that_was_noted() -> None:
    figure = figure_of(risk_plots([run()]), "Capital that each mode asks for")
    assert len(figure.data) == 3 * 3
    assert {trace.name: trace.x[0] for trace in figure.data} == {"isolated": 100.0, "protocol": 60.0, "portfolio": 10.0}
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert [title.split(":")[0] + ":" + title.split(":")[1] for title in titles] == ["20:30", "20:50", "21:20"]


def test_the_summary_has_the_same_figures() -> None:
    told = orjson.loads(orjson.dumps(run_summary(run())))
    assert [one["time"] for one in told["requirements"]] == ["2025-10-10T20:30:00Z", "2025-10-10T20:50:00Z", "2025-10-10T21:20:00Z"]
    assert told["requirements"][1]["market_maker"]["protocol_usd"] == 60.0
    assert told["capital_efficiency"] == {"market_maker": 0.1}
    assert told["cascades"][1]["time"] == "2025-10-10T21:20:00Z"
    assert told["cascades"][1]["volume_usd"][-1] == 8e6
    shown = io.StringIO()
    show(Console(file=shown, width=80), CLUSTER, [run()])
    assert "0.10" in shown.getvalue()
