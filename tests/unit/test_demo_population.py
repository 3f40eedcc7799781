"""The demo's accounts: of five kinds, the same for a seed, told apart by name, and all in good health at the opening prices."""

from collections import Counter
from functools import cache

import pytest

from engine.effects import Refused
from engine.inputs import Credit, Frame, FrameKind, Message, Tick, VerifiedAttestation
from engine.monitor import Book
from engine.reasons import Refusal
from engine.transfers import Transfer, decode_transfer
from streams.demo.attestations import QUORUM, Bridge, guardian_set
from streams.demo.definitions import OPTIONS, definitions, instruments, parameters
from streams.demo.facts import SECOND_NS, START_NS, first_price
from streams.demo.population import (
    KINDS,
    SEED,
    SHARES,
    SNAPSHOT_SEQUENCE,
    Opening,
    kind_of,
    messages,
    named,
    option_delta,
    population,
)
from streams.demo.timeline import timeline
from streams.ingest import Record, frame_batch
from streams.messages import SOURCES, encode_source
from streams.verify import verify


@cache
def everybody() -> list[Opening]:
    return population()


def test_two_thousand_accounts_and_twenty_named_ones() -> None:
    openings = everybody()
    assert len(openings) == 2_020
    assert len({opening.account for opening in openings}) == 2_020
    kinds = Counter(opening.kind for opening in openings)
    assert set(kinds) == set(KINDS)
    assert all(kinds[kind] == 2_000 * share + 4 for kind, share in SHARES.items())
    assert all(opening.kind == kind_of(opening.account) for opening in openings)
    assert [opening.account for opening in openings[:20]] == [opening.account for opening in named()]


def test_a_seed_gives_the_same_accounts_and_another_one_others() -> None:
    assert population(SEED, 100) == population(SEED, 100)
    assert population(SEED, 100) != population(SEED + 1, 100)
    assert population(SEED, 100)[:20] == population(SEED + 1, 100)[:20]


def test_each_venue_counts_its_fills_from_one_for_each_account() -> None:
    for opening in everybody():
        by_venue: dict[str, list[int]] = {}
        for fill in opening.fills:
            by_venue.setdefault(fill.venue, []).append(fill.sequence)
            assert (fill.venue, fill.instrument) in instruments()
            assert (fill.kind == "transfer") == (fill.price_ticks == 0)
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in by_venue.values())
        held = len(opening.fills) + len(opening.attested) + sum(len(s.positions) for s in opening.snapshots)
        assert 1 <= held <= 16


def test_some_come_in_by_a_snapshot_and_some_by_attested_transfers() -> None:
    by_snapshot = [opening for opening in everybody() if opening.snapshots]
    assert len(by_snapshot) == 60
    assert all(snapshot.sequence == SNAPSHOT_SEQUENCE for opening in by_snapshot for snapshot in opening.snapshots)
    attested = [opening for opening in everybody() if opening.attested]
    assert {opening.kind for opening in attested} == {"cross_chain_hedger"}
    assert {chain for opening in attested for chain, _, _ in opening.attested} == {"arbitrum", "optimism", "ethereum", "solana"}


def test_loopers_are_four_times_levered_and_option_sellers_neutral_but_short_gamma() -> None:
    for opening in everybody():
        lots = {(fill.venue, fill.instrument): fill.lots for fill in opening.fills}
        for snapshot in opening.snapshots:
            lots |= {(snapshot.venue, position.instrument): position.lots for position in snapshot.positions}
        units = {key: count * instruments()[key].lot_size for key, count in lots.items()}
        if opening.kind == "usde_looper":
            usde = sum(value for (_, name), value in units.items() if name == "USDe")
            debt = -sum(value for (_, name), value in units.items() if name == "USD-LOAN")
            assert 2.9 < usde / (usde - debt) < 4.1
        if opening.kind == "option_seller" and not opening.account.startswith("named"):
            names = {option.name for option in OPTIONS}
            sold = {name: value for (_, name), value in units.items() if name in names}
            assert len(sold) >= 2
            assert all(value < 0 for value in sold.values())
            delta = units["okx", "BTC"] + sum(value * option_delta(name) for name, value in sold.items())
            delta += units.get(("binance", "BTC-PERP"), 0.0) + units.get(("okx", "BTC-USD-SWAP"), 0.0) / first_price("BTC")
            assert abs(delta) < 0.03 * units["okx", "BTC"]  # lots are whole


class Feed:
    """A book fed without a broker: each batch becomes frames as ingest makes them."""

    def __init__(self) -> None:
        self.book = Book(0, 1)
        self.refused: Counter[tuple[str, str]] = Counter()
        self._covered: dict[str, int] = {}
        self._control = -1

    def send(self, batch: list[Message]) -> None:
        by_topic: dict[str, list[Message]] = {}
        for message in batch:
            by_topic.setdefault(encode_source(message)[0], []).append(message)
        for topic, found in by_topic.items():
            covered = self._covered.get(topic, -1)
            records = [Record(covered + n, *encode_source(message)[1:]) for n, message in enumerate(found, 1)]
            made = frame_batch(topic, records, covered, partitions=1)
            assert made.letters == []
            self._covered[topic] = covered + len(found)
            for frame in made.frames:
                if SOURCES[topic].target == "control":
                    self.control(frame)
                else:
                    self.apply(frame)

    def control(self, inner: Frame) -> None:
        before, self._control = self._control, self._control + 1
        self.apply(Frame(FrameKind.CONTROL, "control", 0, before, self._control, [inner], [self._control]))

    def apply(self, frame: Frame) -> None:
        for effect in self.book.apply(self.book.applied + 1, frame).now:
            if isinstance(effect, Refused):
                self.refused[effect.topic, effect.reason] += 1

    def tick(self, time_ns: int) -> None:
        self.control(Frame(FrameKind.TICK, "ticker", 0, self.book.clock_ns, time_ns, [Tick(time_ns)], [time_ns]))


@pytest.mark.parametrize("seed", [SEED, 1])
def test_everybody_opens_healthy(seed: int) -> None:
    openings = everybody() if seed == SEED else population(seed, 500)
    feed = Feed()
    feed.tick(START_NS)
    feed.send([parameters()])
    feed.send(list(definitions()))
    transfers = [Credit(o.account, *attested, 1, b"", START_NS) for o in openings for attested in o.attested]
    feed.apply(Frame(FrameKind.CREDITS, "attestor", 0, -1, len(transfers) - 1, transfers, list(range(len(transfers)))))
    feed.send(list(messages(openings)))
    now_ns = START_NS + SECOND_NS
    feed.send([event.message for event in timeline("A", 1) if event.time_ns <= now_ns and event.topic != "chain.heartbeats"])
    feed.tick(now_ns)
    assert feed.refused == {}
    told = {health.account: health for health in feed.book.take_cut().health}
    assert set(told) == {opening.account for opening in openings}
    assert Counter(health.state for health in told.values()) == {"HEALTHY": len(openings)}
    for health in told.values():
        assert health.requirement_usd is not None
        assert health.requirement_usd["portfolio"] <= health.requirement_usd["isolated"] * (1 + 1e-12)


def test_the_bridge_numbers_and_signs_and_a_forger_does_not_pass() -> None:
    from engine.attestor import Attestor

    bridge = Bridge()
    first = bridge.credit("somebody", "arbitrum", "ETH", 5, START_NS)
    forged = bridge.forged("somebody", "arbitrum", "ETH", 500, START_NS)
    second = bridge.credit("somebody", "arbitrum", "ETH", 7, START_NS)
    payloads = []
    for message in (first, forged, second):
        verified = verify(message)
        assert isinstance(verified, VerifiedAttestation)
        assert len(verified.signers) == QUORUM
        payloads.append((verified.sequence, decode_transfer(verified.payload)))
    assert [sequence for sequence, _ in payloads] == [1, 2, 2]
    assert [transfer.number for _, transfer in payloads if isinstance(transfer, Transfer)] == [1, 2, 2]

    attestor = Attestor(0, 1)
    inner = [
        Frame(FrameKind.TICK, "ticker", 0, 0, START_NS, [Tick(START_NS)], [START_NS]),
        Frame(FrameKind.DEFINITIONS, "market.instruments", 0, -1, 200, list(definitions()), list(range(len(definitions())))),
        Frame(FrameKind.COMMANDS, "operator.commands", 0, -1, 0, [guardian_set()], [0]),
    ]
    for offset, frame in enumerate(inner):
        attestor.apply(offset, Frame(FrameKind.CONTROL, "control", 0, offset - 1, offset, [frame], [offset]))
    signed = [verify(message) for message in (first, forged, first, second)]
    effects = attestor.apply(3, Frame(FrameKind.ATTESTATIONS, "chain.attestations", 0, -1, 3, signed, [0, 1, 2, 3]))
    refused = [effect.reason for effect in effects.now if isinstance(effect, Refused)]
    assert refused == [Refusal.WRONG_SIGNER, Refusal.REPLAYED]
    credited = [event for send in effects.sends for event in send.frame.events]
    assert [event.lots for event in credited if isinstance(event, Credit)] == [5, 7]
