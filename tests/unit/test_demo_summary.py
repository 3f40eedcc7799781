"""What a run says of itself: nothing is cut in a terminal of 80 columns, synthetic sources are called so, broken promises are named."""

import io
from typing import Any

import orjson
import pytest
from rich.console import Console

from engine.inputs import OraclePrice
from engine.reasons import Cause
from streams.broker import Cluster
from streams.demo.attestations import DEPOSIT_AT_S, HELD, RELEASED_BY_S, REPLAYED_AT_S
from streams.demo.definitions import VENUES
from streams.demo.facts import MINUTES, SECOND_NS, START_NS
from streams.demo.population import KINDS
from streams.demo.promises import broken_promises
from streams.demo.recorder import BreakerChange, Recording
from streams.demo.report import page
from streams.demo.run import playing
from streams.demo.seen import NOTHING
from streams.demo.summary import Fallen, ReplayCheck, Run, run_summary, show, sources
from streams.demo.timeline import Scenario

CLUSTER = Cluster("127.0.0.1:9092", "local", "4.3.1")
COLUMNS = 80


def recording(scenario: Scenario) -> Recording:
    """A run with figures as wide as they come."""
    made = Recording()
    for asset, source, synthetic in (("USDe", "binance", False), ("USDe", "synthetic-1", True), ("BTC", "okx", False)):
        made.note_sent("oracle.prices", OraclePrice(v=1, asset=asset, source=source, price=1.0, publish_time_ns=1, synthetic=synthetic))
    made.events_in["venue.fills"] = 1_234_567
    made.frames, made.cuts = 123_456, 12_345
    kinds = [kind for kind in KINDS if scenario == "B" or kind != "usde_looper"]
    for number, (venue, cause) in enumerate((venue, cause) for venue in VENUES for cause in Cause):
        account = f"{kinds[number % len(kinds)]}-{number}"
        for copy in range(40):
            order = {"account": account, "venue": venue, "cause": cause.name.lower(), "state": "LIQUIDATABLE", "decided_ns": START_NS}
            made.orders[f"{number}-{copy}"] = orjson.dumps(order)
    made.orders_published = len(made.orders) + 1
    made.letters = {"chain.attestations/0/1": "wrong_signer", "chain.attestations/0/2": "replayed"}
    made.held, made.released = {HELD}, {HELD}
    for step in range(9):
        made.states.append((START_NS + step * 900 * SECOND_NS, [2_020, 1_999, 1_234, 1_234, 1_999]))
    for trigger in ("asset_move", "attestation_lag", "source_divergence"):
        for number in range(1_000):
            made.breakers[trigger, "BTC", "tripped", number] = BreakerChange(number, trigger, "BTC", "tripped", 1.0, 0.5)
    for number, kind in enumerate(KINDS):
        by_mode = {"portfolio": 999_888_777.0, "protocol": 5e9, "isolated": 9_999_888_777.0}
        made.requirements.setdefault(0, {})[f"{kind}-{number}"] = by_mode
    return made


def run(scenario: Scenario = "A", begin_s: int = 0, end_s: int = MINUTES * 60, **changed: Any) -> Run:
    fallen = Fallen(frozenset(), frozenset(f"usde_looper-{number}" for number in range(1_234)))
    made = Run(scenario, recording(scenario), ReplayCheck(0, []), fallen, NOTHING, 2_020, 123.4, begin_s, end_s)
    return made._replace(**changed)


# ---- in a terminal --------------------------------------------------------------------------------------------------------------------


def shown(runs: list[Run]) -> str:
    told = io.StringIO()
    show(Console(file=told, width=COLUMNS), CLUSTER, runs)
    return told.getvalue()


def test_nothing_is_cut_at_80_columns() -> None:
    text = shown([run("A"), run("B")])
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= COLUMNS
    for figure in ("1,234,570", "2,520", "1999", "LIQUIDATABLE", "source_divergence", "vault-optimism", "$9,999,888,777", "$999,888,777"):
        assert figure in text


def test_the_line_of_progress_is_not_cut_either() -> None:
    told = io.StringIO()
    console = Console(file=told, width=COLUMNS, force_terminal=True, color_system=None)
    with playing(console, "A", MINUTES) as advance:
        advance(4_500, [2_020, 1_999, 1_234, 1_234, 1_999], 123_456)
    text = told.getvalue()
    assert "…" not in text
    for figure in ("healthy 2,020", "liquidatable 1,234", "bankrupt 1,234", "unknown 1,999", "orders 123,456", "21:45:00"):
        assert figure in text


# ---- what is synthetic ------------------------------------------------------------------------------------------------------------------


def test_sources_made_from_others_are_named_in_every_output() -> None:
    one = run()
    assert sources(one.recording) == {"USDe": (["binance"], ["synthetic-1"])}
    assert run_summary(one)["sources"] == {"USDe": {"real": ["binance"], "synthetic": ["synthetic-1"]}}
    text = " ".join(shown([one]).split())
    assert "synthetic price sources: USDe 1 of 2" in text
    assert "its other two sources, both synthetic, hold" in text
    html = page(CLUSTER, [one])
    assert "its other two sources, both synthetic, hold" in html
    assert "USDe 1 of 2" in html


def test_a_source_that_is_in_part_synthetic_stands_in_both_lists() -> None:
    made = Recording()
    for synthetic in (True, False):
        made.note_sent(
            "oracle.prices", OraclePrice(v=1, asset="WBETH", source="binance", price=1.0, publish_time_ns=1, synthetic=synthetic)
        )
    assert sources(made) == {"WBETH": (["binance"], ["binance"])}


# ---- promises ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", ["A", "B"])
def test_a_run_that_kept_its_word(scenario: Scenario) -> None:
    assert broken_promises(run(scenario)) == []


def test_differences_and_conflicts() -> None:
    broken = run(replay=ReplayCheck(1, ["order x was never published"]))
    broken.recording.conflicting.add("x")
    assert len(broken_promises(broken)) == 2


def test_loopers() -> None:
    a, b = run("A"), run("B")
    assert broken_promises(a._replace(recording=b.recording)) == [
        f"{len(b.liquidated('usde_looper'))} loopers were liquidated on one venue's price"
    ]
    [line] = broken_promises(b._replace(recording=a.recording))
    assert "no looper was liquidated" in line


def test_a_slice_is_held_to_what_it_played() -> None:
    """Before 21:10 nothing special has happened; neither loopers nor attestations can be asked for."""
    quiet = run("B", end_s=30 * 60, recording=recording("A"))
    quiet.recording.letters.clear()
    quiet.recording.held.clear()
    quiet.recording.released.clear()
    assert broken_promises(quiet) == []
    assert len(broken_promises(quiet._replace(end_s=MINUTES * 60))) == 4


@pytest.mark.parametrize("origin", ["chain.attestations/0/1", "chain.attestations/0/2"])
def test_a_bad_attestation_that_was_taken(origin: str) -> None:
    taken = run()
    del taken.recording.letters[origin]
    [line] = broken_promises(taken)
    assert line.startswith("attestations were refused as")


def test_a_good_attestation_that_was_refused() -> None:
    refused = run()
    refused.recording.letters["chain.attestations/0/3"] = "no_quorum"
    assert len(broken_promises(refused)) == 1
    refused.recording.letters["venue.fills/0/3"] = refused.recording.letters.pop("chain.attestations/0/3")
    assert broken_promises(refused) == []


def test_a_replay_whose_first_was_not_played_is_no_replay() -> None:
    later = run(begin_s=REPLAYED_AT_S - 60)
    later.recording.letters.clear()
    assert broken_promises(later) == []


def test_the_deposit() -> None:
    for forgotten, expected in (("held", "was not held"), ("released", "was never let go")):
        one = run()
        getattr(one.recording, forgotten).clear()
        [line] = broken_promises(one)
        assert expected in line
    early = run(end_s=DEPOSIT_AT_S + 60)
    early.recording.released.clear()
    assert broken_promises(early) == []
    assert len(broken_promises(early._replace(end_s=RELEASED_BY_S))) == 1
