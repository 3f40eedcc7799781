"""Gauges of risk: one series for what exists, none for what is not known, none left of a book that was lost."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from engine.cascade import FALLS
from engine.encumbrance import leverage_reports
from engine.inputs import FrameKind
from engine.reasons import State
from engine.survey import Flights
from engine.venue_legs import LEG_VERDICTS
from streams.risk_metrics import RiskMetrics
from tests.random_ledger import RandomLedger

OF_A_LOOK = {
    "plimsoll_asset_claims_usd",
    "plimsoll_asset_encumbrance_multiple",
    "plimsoll_asset_looped_share",
    "plimsoll_asset_pledged_share",
    "plimsoll_cascade_volume_usd",
}


@pytest.fixture
def ledger() -> RandomLedger:
    ledger = RandomLedger(3, accounts=12)
    ledger.steps(120)
    ledger.book.take_cut()
    return ledger


def told(registry: CollectorRegistry) -> set[str]:
    """Families that have a sample and are not counters."""
    return {family.name for family in registry.collect() for _ in family.samples if family.type == "gauge"}


def tell(risk: RiskMetrics, ledger: RandomLedger, partition: int) -> None:
    ledger.book.partition = partition
    risk.survey(ledger.book)


def test_a_book_and_the_market_are_told_and_forgotten(ledger: RandomLedger) -> None:
    registry = CollectorRegistry()
    risk = RiskMetrics(registry)
    tell(risk, ledger, 0)
    tell(risk, ledger, 1)
    of_a_book = {name for name in told(registry) if registry_has(registry, name, "partition")}
    of_the_market = told(registry) - of_a_book
    assert {"plimsoll_accounts", "plimsoll_exposure_usd", "plimsoll_orders_unreported", "plimsoll_frozen"} | OF_A_LOOK <= of_a_book
    assert {"plimsoll_mark_known", "plimsoll_source_counts", "plimsoll_depth_usd"} <= of_the_market
    accounts = [registry.get_sample_value("plimsoll_accounts", labels) for labels in cells("0")]
    assert sum(filter(None, accounts)) == len(ledger.book.accounts)
    expired = registry.get_sample_value("plimsoll_orders_expired_unreported_total", {"venue": "ex"})
    assert expired is not None
    risk.tell_flights(1, Flights({}, {}, 0), ["ex", "sx"], {"ex": 2})
    assert registry.get_sample_value("plimsoll_orders_expired_unreported_total", {"venue": "ex"}) == expired + 2
    risk.forget_book(1)
    assert told(registry) == of_a_book | of_the_market
    risk.forget_book(0)
    assert told(registry) == set()
    tell(risk, ledger, 1)
    assert told(registry) == of_a_book, "what was forgotten is told again"
    risk.forget_book(1)
    risk.forget_book(0)


def test_a_mark_that_is_unknown_has_no_value(ledger: RandomLedger) -> None:
    registry = CollectorRegistry()
    risk = RiskMetrics(registry)
    tell(risk, ledger, 0)
    ledger.log.tick(5.0)
    assert registry.get_sample_value("plimsoll_mark_usd", {"asset": "BTC"}) == ledger.book.market.mark(1)
    ledger.log.tick(120.0)
    tell(risk, ledger, 0)
    assert registry.get_sample_value("plimsoll_mark_known", {"asset": "BTC"}) == 0
    assert registry.get_sample_value("plimsoll_mark_usd", {"asset": "BTC"}) is None
    assert registry.get_sample_value("plimsoll_source_counts", {"asset": "BTC", "source": "one"}) == 0
    assert registry.get_sample_value("plimsoll_source_age_seconds", {"asset": "BTC", "source": "one"}) > 60  # type: ignore[operator]
    assert sum(filter(None, (registry.get_sample_value("plimsoll_accounts", one) for one in cells("0", State.UNKNOWN)))) > 0


def registry_has(registry: CollectorRegistry, name: str, label: str) -> bool:
    return any(label in sample.labels for family in registry.collect() if family.name == name for sample in family.samples)


def cells(partition: str, *states: State) -> list[dict[str, str]]:
    causes = ("none", "price", "fill", "funding", "haircut", "regime", "credit")
    return [{"partition": partition, "state": state.name, "cause": cause} for state in states or tuple(State) for cause in causes]


def test_leverage_is_told_by_asset_and_fall_and_what_is_not_known_is_not(ledger: RandomLedger) -> None:
    registry = CollectorRegistry()
    risk = RiskMetrics(registry)
    tell(risk, ledger, 2)
    last = ledger.book.leverage.last
    assert last is not None, "one look is enough for so few accounts"
    reports = {one.asset: one for one in leverage_reports(last, ledger.book.market, 2)}

    def told_of(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"plimsoll_{name}", {"partition": "2", "asset": "STB", **labels})

    stb = reports["STB"]
    assert stb.held_usd > 0.0
    assert told_of("asset_claims_usd", kind="held") == stb.held_usd
    assert told_of("asset_claims_usd", kind="claims") == stb.claims_usd
    assert told_of("asset_encumbrance_multiple") == stb.encumbrance_multiple
    assert told_of("asset_pledged_share") == stb.pledged_share
    assert [told_of("cascade_volume_usd", fall=fall) for fall in ("0", "0.01", "0.3")] == [
        stb.cascade[k].volume_usd for k in (0, 1, len(FALLS) - 1)
    ]
    risk.tell_leverage([msgspec.structs.replace(stb, pledged_share=None, encumbrance_multiple=None)])
    assert told_of("asset_pledged_share") is None
    assert told_of("asset_encumbrance_multiple") is None
    assert told_of("asset_claims_usd", kind="held") == stb.held_usd


def test_legs_are_told_by_venue_and_a_venue_without_a_rule_has_no_series(ledger: RandomLedger) -> None:
    registry = CollectorRegistry()
    risk = RiskMetrics(registry)
    tell(risk, ledger, 2)
    book = ledger.book
    ex, sx = (book.market.universe.venue_number(name) for name in ("ex", "sx"))
    assert ex is not None
    assert sx is not None

    def told_of(venue: str) -> list[list[float | None]]:
        labels = {"partition": "2", "venue": venue}
        return [
            [
                registry.get_sample_value("plimsoll_venue_legs", {**labels, "portfolio": whole, "verdict": verdict})
                for verdict in LEG_VERDICTS
            ]
            for whole in ("other", "healthy")
        ]

    assert told_of("ex") == book.legs.counted(ex).tolist()
    assert told_of("sx") == book.legs.counted(sx).tolist()
    assert book.legs.counted(ex).sum() > 0
    venue = msgspec.structs.replace(book.market.universe.venues[sx], rule=None)
    ledger.log.control(FrameKind.DEFINITIONS, "market.instruments", [venue])
    tell(risk, ledger, 2)
    assert told_of("sx") == [[None] * len(LEG_VERDICTS)] * 2
    assert told_of("ex") == book.legs.counted(ex).tolist()


def test_failures_of_rules_are_counted_by_venue_and_logged_once(
    ledger: RandomLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    risk = RiskMetrics(registry)
    market, legs = ledger.book.market, ledger.book.legs
    ex = market.universe.venue_number("ex")
    assert ex is not None
    monkeypatch.setattr(legs, "failures", legs.failures.copy())
    monkeypatch.setattr(legs, "faults", {})

    def failures() -> float | None:
        return registry.get_sample_value("plimsoll_venue_rule_failures", {"partition": "2", "venue": "ex"})

    tell(risk, ledger, 2)
    assert failures() == 0
    legs.failures[ex], legs.faults[ex] = 3, "ValueError: one"
    tell(risk, ledger, 2)
    tell(risk, ledger, 2)
    legs.faults[ex] = "ValueError: another"
    tell(risk, ledger, 2)
    assert failures() == 3
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["one", "another"]
    risk.forget_book(2)
    assert failures() is None
    tell(risk, ledger, 2)
    assert len(caplog.records) == 3
    venue = msgspec.structs.replace(market.universe.venues[ex], rule=None)
    ledger.log.control(FrameKind.DEFINITIONS, "market.instruments", [venue])
    tell(risk, ledger, 2)
    assert failures() is None
