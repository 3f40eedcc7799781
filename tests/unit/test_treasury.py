"""The treasury: grants by interval and depth, draws on the insurance fund, and that a cut keeps all of it."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from engine.effects import Decision, Effects
from engine.inputs import AnyDefinition, AssetDefinition, Frame, FrameKind, Grant, Partial
from engine.monitor import Book
from engine.treasury import Treasury
from tests.small_world import Log, definitions

PARTITIONS = 4
TERMS = {"grant_interval_s": 10.0, "throttle_share": 0.25, "throttle_burst": 4.0, "fund_micro_usd": 1_000}


@pytest.fixture
def log() -> Log:
    log = Log(Treasury(PARTITIONS))
    log.tick()
    log.control(FrameKind.DEFINITIONS, "market.instruments", definitions())
    log.parameters(TERMS)
    return log


def grants(effects: Effects) -> dict[tuple[int, str], Grant]:
    return {(one.partition, one.asset): one for send in effects.sends for one in send.frame.events if isinstance(one, Grant)}


def ask(log: Log, partition: int, requested: int) -> Effects:
    partial = Partial(partition, 1, log.now_ns, {}, requested, [0, 0, 0, 0, 0])
    return log.put(log.frame(FrameKind.PARTIALS, "treasury.partials", [partial]))


def test_grants_are_a_share_of_depth_once_an_interval(log: Log) -> None:
    log.depths({"BTC": 8e6})
    first = grants(log.tick(1))
    assert {asset for _, asset in first} == {"BTC", "ETH", "SOL", "STB"}
    assert {partition for partition, _ in first} == set(range(PARTITIONS))
    assert first[2, "BTC"] == Grant(2, "BTC", 0.25 * 8e6 / 4, 0.25 * 8e6 / 4 * 4.0, 0)
    assert first[0, "ETH"].budget_usd == 0.25 * 100_000.0 / 4  # never a depth: the class's floor
    assert log.tick(8).sends == []
    second = log.tick(1)
    assert len(grants(second)) == len(first)
    (send,) = second.sends
    assert (send.target, send.partition) == ("control", 0)
    assert (send.frame.source, send.frame.covers_from, send.frame.covers_to) == ("treasury", 15, 31)
    assert send.frame.offsets == list(range(16, 32))
    log.tick(291)
    assert grants(log.tick(10))[0, "BTC"].budget_usd == 0.25 * 100_000.0 / 4  # the depth is too old by now


def test_nothing_is_granted_before_there_are_parameters() -> None:
    log = Log(Treasury(PARTITIONS))
    log.tick()
    log.control(FrameKind.DEFINITIONS, "market.instruments", definitions())
    assert log.tick(10).sends == []


def test_the_fund_pays_what_it_has_cumulatively(log: Log) -> None:
    treasury = log.machines[0]
    assert isinstance(treasury, Treasury)
    assert treasury.fund_micro_usd == 1_000
    assert grants(ask(log, 1, 300)) == {(1, ""): Grant(1, "", 0.0, 0.0, 300)}
    assert ask(log, 1, 300).sends == []  # absolute: a repeat asks for nothing
    assert ask(log, 1, 200).sends == []
    assert grants(ask(log, 1, 400)) == {(1, ""): Grant(1, "", 0.0, 0.0, 400)}
    effects = ask(log, 3, 5_000)
    assert grants(effects) == {(3, ""): Grant(3, "", 0.0, 0.0, 600)}
    decision = effects.now[0]
    assert isinstance(decision, Decision)
    assert (decision.outcome, decision.ledger) == ("fund_draw", "treasury.partials:0:4")
    effects = ask(log, 2, 10)
    assert (len(effects.now), effects.sends) == (1, [])  # nothing left, and it says so
    assert treasury.fund_micro_usd == 0


def test_a_partition_that_does_not_exist_is_refused(log: Log) -> None:
    effects = ask(log, PARTITIONS, 10)
    assert [getattr(one, "reason", "") for one in effects.now] == ["out_of_range"]


def test_a_cut_keeps_everything(log: Log) -> None:
    treasury = log.machines[0]
    log.depths({"BTC": 8e6})
    log.tick(1)
    ask(log, 1, 300)
    successor = Treasury(PARTITIONS)
    successor.restore([(key, value) for key, value in treasury.take_cut().rows if value is not None])
    assert (successor.applied, successor.clock_ns) == (treasury.applied, treasury.clock_ns)
    log.machines.append(successor)
    steps: list[Callable[[], Effects]] = [
        lambda: log.tick(5),
        lambda: log.tick(5),
        lambda: ask(log, 1, 900),
        lambda: log.depths({"ETH": 1e6}),
        lambda: log.tick(10),
    ]
    for step in steps:
        step()
        assert treasury.take_cut().rows[-1] == successor.take_cut().rows[-1]


def test_a_treasury_restored_at_any_place_goes_on_the_same() -> None:
    log = Log(Treasury(PARTITIONS))
    told: list[Callable[[], Effects]] = [
        log.tick,
        lambda: log.control(FrameKind.DEFINITIONS, "market.instruments", definitions()),
        lambda: log.parameters(TERMS),
        lambda: log.depths({"BTC": 8e6}),
        lambda: log.tick(1),
        lambda: log.parameters({**TERMS, "depth_age_multiple": 2.0}, version="v2"),
        lambda: log.depths({"ETH": 8e6}),
        lambda: log.tick(10),
    ]
    treasury = log.machines[0]
    rows: dict[bytes, bytes] = {}
    for step in told:
        step()
        cut = treasury.take_cut()
        assert [machine.take_cut().rows[-1] for machine in log.machines[1:]] == [cut.rows[-1]] * (len(log.machines) - 1)
        rows.update({key: value for key, value in cut.rows if value is not None})
        successor = Treasury(PARTITIONS)
        successor.restore(rows.items())
        log.machines.append(successor)


def test_a_books_partials_and_a_treasurys_grants_fit_together() -> None:
    book, treasury = Book(0, 1), Treasury(1)
    log, own = Log(book), Log(treasury)
    log.open(budget_usd=0.0)
    own.tick()
    own.control(FrameKind.DEFINITIONS, "market.instruments", definitions())
    own.parameters({})
    (send,) = own.tick(1).sends
    log.tick(1)
    frame = send.frame._replace(source="treasury.real")
    log.put(log.frame(FrameKind.CONTROL, "control", [frame]))
    btc = book.market.universe.asset_number("BTC")
    assert book.limits.budget_usd[btc] == 0.25 * 100_000.0
    log.deposit("alice", 10_000.0)
    log.trade("alice", "ex", "BTC-PERP", 1_000, 100_000)
    log.prices({"BTC": 80_000.0})
    assert book.limits.budget_usd[btc] < 80.0  # less than a lot is left
    (partial,) = book.take_cut().partials
    assert partial.spent_usd["BTC"] > 24_900.0
    assert own.put(own.frame(FrameKind.PARTIALS, "treasury.partials", [partial])).now == []


def test_overlap_is_skipped(log: Log) -> None:
    ask(log, 1, 300)
    partials = [Partial(1, 1, 0, {}, 300, []), Partial(1, 2, 0, {}, 350, [])]
    effects = log.put(Frame(FrameKind.PARTIALS, "treasury.partials", 0, -1, 1, partials, [0, 1]))
    assert effects.skipped == 1
    assert grants(effects)[1, ""].fund_paid_micro_usd == 350


# ---- global caps ----------------------------------------------------------------------------------------------------------------------


def capped(cap_usd: float) -> list[AnyDefinition]:
    """Definitions again, STB with a cap over all accounts."""
    stable = next(one for one in definitions() if isinstance(one, AssetDefinition) and one.name == "STB")
    return [replace(stable, cap_usd_global=cap_usd)]


def hold(log: Log, partition: int, held_usd: dict[str, float]) -> Effects:
    partial = Partial(partition, 1, log.now_ns, {}, 0, [], held_usd)
    return log.put(log.frame(FrameKind.PARTIALS, "treasury.partials", [partial]))


def test_a_global_cap_leaves_a_share_that_every_partition_is_told(log: Log) -> None:
    log.control(FrameKind.DEFINITIONS, "market.instruments", capped(1_000.0))
    assert grants(log.tick(1))[0, "STB"].recognised == 1.0
    hold(log, 1, {"STB": 900.0})
    assert {one.recognised for one in grants(log.tick(10)).values()} == {1.0}
    hold(log, 3, {"STB": 700.0, "BTC": 1e9})
    told = grants(log.tick(10))
    assert {told[partition, "STB"].recognised for partition in range(PARTITIONS)} == {1_000.0 / 1_600.0}
    assert {told[partition, "BTC"].recognised for partition in range(PARTITIONS)} == {1.0}  # it has no cap
    hold(log, 1, {"STB": 500.0})  # absolute: it replaces what that book said before
    assert grants(log.tick(10))[2, "STB"].recognised == 1_000.0 / 1_200.0
    hold(log, 3, {"STB": 0.0})
    assert grants(log.tick(10))[2, "STB"].recognised == 1.0


def test_a_restored_treasury_knows_what_is_held(log: Log) -> None:
    log.control(FrameKind.DEFINITIONS, "market.instruments", capped(1_000.0))
    hold(log, 1, {"STB": 4_000.0})
    successor = Treasury(PARTITIONS)
    successor.restore([(key, value) for key, value in log.machines[0].take_cut().rows if value is not None])
    log.machines.insert(0, successor)
    assert grants(log.tick(10))[2, "STB"].recognised == 0.25


def test_a_books_partial_says_what_its_accounts_hold_of_what_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Book(0, 1)
    log = Log(book)
    log.open()
    log.credit("alice", "south", "STB", 100_000)
    assert book.take_cut().partials[0].collateral_usd == {}
    log.control(FrameKind.DEFINITIONS, "market.instruments", capped(1_000.0))
    log.trade("bob", "ex", "STB", 30_000, kind="transfer")
    log.trade("carol", "ex", "STB", -50_000, kind="transfer")  # a debt takes nothing off
    log.pending("alice", "vault", {"STB": (0, 0, 10_000)})
    (partial,) = book.take_cut().partials
    assert partial.collateral_usd == {"STB": pytest.approx(1_200.0)}
    assert book.take_cut().partials == []
    log.tick(1)
    log.prices({"STB": 0.9})
    assert book.take_cut().partials[0].collateral_usd == {"STB": pytest.approx(1_080.0)}
    log.tick(120)
    assert book.take_cut().partials[0].collateral_usd == {"STB": 0.0}  # whom its stale mark leaves UNKNOWN is not in the sum
    told: list[tuple[int, float]] = []
    monkeypatch.setattr(book.market, "observe_recognised", lambda asset, share: told.append((asset, share)))
    log.grant({"STB": 1.0, "BTC": 1.0}, recognised=0.5)
    log.grant({"STB": 1.0}, partition=1, recognised=0.1)  # another book's
    numbers = [book.market.universe.asset_number(name) for name in ("STB", "BTC")]
    assert told == [(number, 0.5) for number in numbers]
