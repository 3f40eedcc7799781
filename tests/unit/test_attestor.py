"""The attestor: what it believes, what it refuses and why, what it sends where, and that a cut keeps all of it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from engine.attestor import Attestor, percentile_95
from engine.effects import Decision, Effects, Refused, Send
from engine.inputs import (
    Attestation,
    ChainDefinition,
    Credit,
    Frame,
    FrameKind,
    GuardianSet,
    Heartbeat,
    LagObservation,
    RiskParameters,
    VerifiedAttestation,
)
from engine.machine import CUT_KEY, CutRecord
from engine.monitor import Book
from engine.murmur2 import partition_of
from engine.parameters import Parameters
from engine.terms import Terms
from engine.transfers import Direction, Transfer, encode_transfer
from streams.verify import encode_body, guardian_address, sign_vaa, synthetic_keys, verify
from tests.small_world import PARAMETERS, SECOND, T0, Log, definitions

PARTITIONS = 4
KEYS = synthetic_keys("attestor", 4)
NORTH, SOUTH = (2, bytes.fromhex("01" * 32)), (3, bytes.fromhex("02" * 32))


def signed(
    sequence: int = 1,
    *,
    account: str = "alice",
    chain: str = "south",
    lots: int = 100,
    direction: Direction = Direction.CREDIT,
    emitter: tuple[int, bytes] = SOUTH,
    signers: tuple[int, ...] = (0, 1, 2),
    keys: dict[int, bytes] = KEYS,
    set_index: int = 0,
    timestamp_s: int = T0 // SECOND,
) -> VerifiedAttestation:
    """A message as ingest hands it on, signed by the guardians named."""
    payload = encode_transfer(Transfer(account, chain, "STB", lots, direction, sequence))
    body = encode_body(timestamp_s=timestamp_s, emitter_chain=emitter[0], emitter_address=emitter[1], sequence=sequence, payload=payload)
    vaa = sign_vaa({index: keys[index] for index in signers}, set_index, body)
    verified = verify(Attestation(v=1, vaa=vaa.hex(), observed_time_ns=T0))
    assert isinstance(verified, VerifiedAttestation), verified
    return verified


def announce(index: int, keys: dict[int, bytes]) -> GuardianSet:
    return GuardianSet(v=1, by="test", time_ns=T0, index=index, addresses=[guardian_address(key).hex() for key in keys.values()])


@pytest.fixture
def log() -> Log:
    log = Log(Attestor(0, PARTITIONS))
    log.tick()
    log.control(FrameKind.DEFINITIONS, "market.instruments", definitions())
    log.control(FrameKind.COMMANDS, "operator.commands", [announce(0, KEYS)])
    return log


def attest(log: Log, *attestations: VerifiedAttestation) -> Effects:
    return log.put(log.frame(FrameKind.ATTESTATIONS, "chain.attestations", list(attestations)))


def beat(log: Log, chain: str, lag_s: float) -> Effects:
    heartbeat = Heartbeat(v=1, chain=chain, height=1, block_time_ns=log.now_ns - int(lag_s * SECOND), observed_time_ns=log.now_ns)
    return log.put(log.frame(FrameKind.HEARTBEATS, "chain.heartbeats", [heartbeat]))


def reasons(effects: Effects) -> list[str]:
    return [effect.reason for effect in effects.now if isinstance(effect, Refused)]


def credits_of(sends: list[Send]) -> list[Credit]:
    return [event for send in sends for event in send.frame.events if isinstance(event, Credit)]


def test_a_believed_message_becomes_a_numbered_credit_for_its_partition(log: Log) -> None:
    effects = attest(log, signed(1), signed(2, account="bob"), signed(3, direction=Direction.DEBIT, lots=40))
    assert effects.now == []
    by_partition = {send.partition: send.frame for send in effects.sends}
    assert {send.target for send in effects.sends} == {"ledger"}
    for account in ("alice", "bob"):
        assert partition_of(account.encode(), PARTITIONS) in by_partition
    lots = {(credit.account, credit.number): credit.lots for credit in credits_of(effects.sends)}
    assert lots == {("alice", 1): 100, ("bob", 2): 100, ("alice", 3): -40}
    for frame in by_partition.values():
        assert (frame.source, frame.source_partition, frame.covers_from) == ("attestor", 0, -1)
        assert frame.offsets == list(range(len(frame.events)))
    again = attest(log, signed(4))
    (send,) = again.sends
    assert send.frame.covers_from == by_partition[send.partition].covers_to
    assert send.frame.covers_to == send.frame.covers_from + 1


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"signers": (0, 1)}, "no_quorum"),
        ({"keys": synthetic_keys("somebody else", 4)}, "wrong_signer"),
        ({"set_index": 7}, "unknown_guardian_set"),
        ({"emitter": (3, bytes.fromhex("09" * 32))}, "unknown_emitter"),
        ({"chain": "north"}, "bad_payload"),
        ({"timestamp_s": T0 // SECOND + 3_600}, "future_time"),
    ],
)
def test_a_forged_message_is_refused_with_its_reason(log: Log, message: dict[str, Any], reason: str) -> None:
    effects = attest(log, signed(1, **message))
    assert reasons(effects) == [reason]
    assert effects.sends == []
    refused = effects.now[0]
    assert isinstance(refused, Refused)
    assert (refused.topic, refused.partition, refused.offset) == ("chain.attestations", 0, 0)
    assert reasons(attest(log, signed(1))) == []  # a forgery does not use up the genuine message's number


def test_replays_and_equivocations_are_refused(log: Log) -> None:
    attest(log, signed(1))
    assert reasons(attest(log, signed(1))) == ["replayed"]
    assert reasons(attest(log, signed(1, signers=(1, 2, 3)))) == ["replayed"]  # other signatures, the same message
    contradiction = attest(log, signed(1, lots=101))
    assert reasons(contradiction) == ["equivocation"]
    assert lags_of(contradiction) == [LagObservation("south", 0, 0, True)]  # nothing is known of its lag
    assert credits_of(attest(log, signed(1, emitter=NORTH, chain="north")).sends)  # it is the chain's quarantine


def lags_of(effects: Effects) -> list[LagObservation]:
    return [event for send in effects.sends for event in send.frame.events if isinstance(event, LagObservation)]


def test_a_chain_in_quarantine_is_not_believed_until_an_operator_says_so(log: Log) -> None:
    beat(log, "south", 3.0)
    attest(log, signed(1))
    effects = attest(log, signed(1, lots=101), signed(2))
    assert reasons(effects) == ["equivocation", "quarantined"]
    assert lags_of(effects) == [LagObservation("south", 3 * SECOND, T0, True)]
    log.tick(10)
    assert [lag.quarantined for lag in lags_of(beat(log, "south", 5.0))] == [True]  # and says so with each lag
    assert reasons(attest(log, signed(3))) == ["quarantined"]
    log.quarantine("south", on=False)
    assert reasons(attest(log, signed(2))) == []  # its number stayed free
    log.tick(10)
    assert [lag.quarantined for lag in lags_of(beat(log, "south", 9.0))] == [False]
    assert reasons(attest(log, signed(1, lots=102))) == ["equivocation"]
    assert reasons(attest(log, signed(4))) == ["quarantined"]


def test_an_operator_may_begin_a_quarantine(log: Log) -> None:
    log.quarantine("north", on=True)
    log.quarantine("nowhere", on=True)  # the books refuse it
    assert reasons(attest(log, signed(1), signed(1, emitter=NORTH, chain="north"))) == ["quarantined"]
    log.quarantine("south", on=False)
    assert reasons(attest(log, signed(2, emitter=NORTH, chain="north"))) == ["quarantined"]
    log.quarantine("north", on=False)
    assert reasons(attest(log, signed(2, emitter=NORTH, chain="north"))) == []


def test_a_forgery_begins_no_quarantine(log: Log) -> None:
    attest(log, signed(1))
    assert reasons(attest(log, signed(1, lots=101, signers=(0, 1)))) == ["no_quorum"]
    assert reasons(attest(log, signed(1, lots=101, emitter=NORTH))) == ["bad_payload"]
    assert reasons(attest(log, signed(2))) == []


def test_a_replaced_guardian_set_counts_for_a_day(log: Log) -> None:
    newer = synthetic_keys("newer", 4)
    log.control(FrameKind.COMMANDS, "operator.commands", [announce(1, newer)])
    assert reasons(attest(log, signed(1))) == []
    assert reasons(attest(log, signed(2, keys=newer, set_index=1))) == []
    wide = RiskParameters(v=1, version="wide", parameters={**PARAMETERS, "clock_step_max_s": 86_400.0}, time_ns=log.now_ns)
    log.control(FrameKind.PARAMETERS, "risk.parameters", [wide])
    log.tick(86_400)
    assert reasons(attest(log, signed(3))) == []
    log.tick(1)
    assert reasons(attest(log, signed(4))) == ["expired_guardian_set"]
    assert reasons(attest(log, signed(5, keys=newer, set_index=1))) == []


def test_an_announcement_that_contradicts_is_refused(log: Log) -> None:
    effects = log.control(FrameKind.COMMANDS, "operator.commands", [announce(0, synthetic_keys("newer", 4))])
    assert reasons(effects) == ["conflicting_definition"]


def test_a_chain_keeps_its_emitter(log: Log) -> None:
    chains = [one for one in definitions() if getattr(one, "name", "") == "south"]
    moved = msgspec.structs.replace(chains[0], emitter_address="09" * 32)
    log.control(FrameKind.DEFINITIONS, "market.instruments", [moved])
    assert reasons(attest(log, signed(1))) == []


def test_heartbeats_tell_control_when_the_lag_changes_or_time_passes(log: Log) -> None:
    (send,) = beat(log, "south", 10.0).sends
    assert (send.target, send.partition, send.frame.source, send.frame.kind, send.frame.events) == (
        "control",
        0,
        "attestor.control",
        FrameKind.LAGS,
        [LagObservation("south", 10 * SECOND, log.now_ns)],
    )
    log.tick(1)
    assert beat(log, "south", 10.0).sends == []
    log.tick(4)
    assert len(beat(log, "south", 10.0).sends) == 1
    log.tick(1)
    (send,) = beat(log, "south", 90.0).sends
    assert list(send.frame.events) == [LagObservation("south", 90 * SECOND, log.now_ns)]
    assert reasons(beat(log, "nowhere", 1.0)) == ["unknown_chain"]


def test_the_percentile_is_the_one_of_the_specification() -> None:
    assert percentile_95([7]) == 7
    assert percentile_95(list(range(1, 21))) == 19  # index ceil(0.95 * 20) - 1 = 18
    assert percentile_95(list(range(1, 65))) == 61  # ceil(60.8) - 1 = 60


def test_the_clock_never_goes_back_nor_jumps() -> None:
    terms = Terms()
    terms.restore_parameters("v1", Parameters(clock_step_max_s=60.0))
    told = []
    for time_ns in (T0, T0 - 1, T0 + 90 * SECOND):
        terms.tick(time_ns)
        told.append(terms.clock_ns)
    assert told == [T0, T0, T0 + 60 * SECOND]


def test_an_attestor_refuses_what_a_book_refuses(log: Log) -> None:
    """Also what it does not tell of: else they would go by other chains and parameters, and a credit would fit neither."""
    attestor, book = log.machines[0], Book(0, 1)
    for offset, frame in enumerate(log.frames):
        book.apply(offset, frame)
    log.machines.append(book)
    later = log.now_ns + 60 * SECOND
    west = ChainDefinition(
        v=1, name="west", finality_s=1.0, messaging_delay_s=1.0, emitter_chain=7, emitter_address="07" * 32, time_ns=later
    )
    wide = RiskParameters(v=1, version="later", parameters={**PARAMETERS, "future_skew_s": 3_600.0}, time_ns=later)
    log.control(FrameKind.DEFINITIONS, "market.instruments", [west])
    log.control(FrameKind.PARAMETERS, "risk.parameters", [wide])
    log.machines.remove(book)
    assert book.market.universe.chain_number("west") is None
    versions = [msgspec.msgpack.decode(dict(one.take_cut().rows)[CUT_KEY] or b"", type=CutRecord) for one in (book, attestor)]
    assert [record.parameters_version for record in versions] == ["", ""]
    message = signed(1, chain="west", emitter=(7, bytes.fromhex("07" * 32)))
    assert reasons(beat(log, "west", 1.0)) == ["unknown_chain"]
    assert reasons(attest(log, message)) == ["unknown_emitter"]
    assert reasons(attest(log, signed(2, timestamp_s=later // SECOND))) == ["future_time"]
    log.control(FrameKind.DEFINITIONS, "market.instruments", [msgspec.structs.replace(west, time_ns=log.now_ns)])
    assert reasons(attest(log, message)) == []


def test_a_guardian_set_that_was_taken_is_audited_once() -> None:
    first, second = Log(Attestor(0, PARTITIONS)), Log(Attestor(1, PARTITIONS))
    told = []
    for log in (first, second):
        log.tick()
        effects = log.control(FrameKind.COMMANDS, "operator.commands", [announce(3, KEYS)])
        told += [(one.outcome, one.note, one.ledger) for one in effects.now if isinstance(one, Decision)]
        effects = log.control(FrameKind.COMMANDS, "operator.commands", [announce(2, KEYS)])
        assert [one for one in effects.now if isinstance(one, Decision)] == []
    assert told == [("guardian_set", "set 3, 4 guardians, by test: ", "control:0:1")]


def test_a_cut_keeps_everything(log: Log) -> None:
    attest(log, signed(1), signed(5))
    attest(log, signed(1, emitter=NORTH, chain="north"), signed(1, emitter=NORTH, chain="north", lots=3))  # now in quarantine
    beat(log, "south", 10.0)
    attestor = log.machines[0]
    rows = [(key, value) for key, value in attestor.take_cut().rows if value is not None]
    successor = Attestor(0, PARTITIONS)
    successor.restore(rows)
    assert (successor.applied, successor.clock_ns) == (attestor.applied, attestor.clock_ns)
    log.machines.append(successor)
    steps: list[Callable[[], Effects]] = [
        lambda: attest(log, signed(1), signed(2), signed(5, lots=3)),
        lambda: beat(log, "south", 30.0),
        lambda: attest(log, signed(6), signed(9, emitter=NORTH, chain="north")),
        lambda: log.put(log.frames[-2]),
        lambda: log.quarantine("south", on=False),
        lambda: attest(log, signed(7)),
    ]
    for step in steps:
        step()
        assert attestor.take_cut().rows[-1] == successor.take_cut().rows[-1]
    assert reasons(attest(log, signed(10, emitter=NORTH, chain="north"))) == ["quarantined"]
    third = Attestor(0, PARTITIONS)
    third.restore(rows)
    for offset in range(third.applied + 1, len(log.frames)):
        third.apply(offset, log.frames[offset])
    assert third.source_applied("chain.attestations", 0) == successor.source_applied("chain.attestations", 0)
    assert dict(third.take_cut().rows)[CUT_KEY] == dict(successor.take_cut().rows)[CUT_KEY]


def test_a_book_takes_credits_and_lags_of_one_attestor() -> None:
    book = Book(0, 1)
    attestor, log = Log(Attestor(0, 1)), Log(book)
    log.open()
    attestor.tick()
    attestor.control(FrameKind.DEFINITIONS, "market.instruments", definitions())
    attestor.control(FrameKind.COMMANDS, "operator.commands", [announce(0, KEYS)])
    for sequence in (1, 2, 3):
        for effects in (attest(attestor, signed(sequence)), beat(attestor, "south", 10.0 * sequence)):
            for send in effects.sends:
                own = send.frame
                if send.target == "control":
                    own = log.frame(FrameKind.CONTROL, "control", [send.frame])
                taken = log.put(own)
                assert (taken.gap, taken.skipped) == (False, 0)
    south = book.market.universe.chain_number("south")
    assert book.market.lags.p95_ns[south] == 30 * SECOND
    assert book.source_applied("attestor", 0) == 2
    assert book.source_applied("attestor.control", 0) == 2
    a = book.accounts.numbers["alice"]
    assert book.accounts.columns.quantity[a, 0] == 300


def test_a_books_quarantine_begins_with_any_attestors_word_and_ends_with_the_operators() -> None:
    book = Book(0, 1)
    log = Log(book)
    log.open()
    log.lag("south", 3.0)
    south = book.market.universe.chain_number("south")
    assert south is not None
    log.control(FrameKind.LAGS, "attestor.other", [LagObservation("south", 0, 0, True)])  # of one that hears no heartbeats of it
    assert (book.market.lags.p95_ns[south], book.market.lags.heartbeat_ns[south]) == (3 * SECOND, T0)
    log.credit("alice", "south", "STB", 100)
    assert book.credits_held == 1
    log.tick(1)
    log.lag("south", 4.0)  # not in quarantine, says the one that hears them: it does not know
    log.tick(1)
    assert book.credits_held == 1
    assert [(one.trigger, one.name, one.state) for one in book.take_cut().breakers] == [("quarantine", "south", "tripped")]
    log.quarantine("south", on=False)
    log.tick(1)
    assert book.credits_held == 0
    assert [(one.trigger, one.name, one.state) for one in book.take_cut().breakers] == [("quarantine", "south", "closed")]


def test_overlap_is_skipped_and_gaps_are_not_jumped(log: Log) -> None:
    attest(log, signed(1), signed(2))
    overlapping = Frame(FrameKind.ATTESTATIONS, "chain.attestations", 0, -1, 2, [signed(1), signed(2), signed(3)], [0, 1, 2])
    effects = log.put(overlapping)
    assert (effects.skipped, len(credits_of(effects.sends))) == (2, 1)
    effects = log.put(Frame(FrameKind.ATTESTATIONS, "chain.attestations", 0, 5, 6, [signed(9)], [6]))
    assert effects.gap
    assert effects.sends == []
