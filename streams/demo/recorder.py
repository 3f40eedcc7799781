"""Listens to what a run puts out, and keeps what its summary needs."""

import asyncio
import logging
from collections import Counter
from typing import Any, NamedTuple

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from engine.effects import AssetReport
from engine.inputs import FrameKind, Message, OraclePrice
from engine.machine import CUT_KEY, CutRecord
from engine.reasons import Outcome, State
from streams.clients import Clients
from streams.demo.facts import MINUTES, SECOND_NS, START_NS
from streams.frames import decode_frame
from streams.messages import CONTROL, PARTIALS, SOURCES, dlq_topic, orders_topic

log = logging.getLogger(__name__)

LEDGERS = ("ledger", "attest.ledger", "treasury.ledger")
ROWS = ("ledger.rows", "attest.rows", "treasury.rows")
KIND_AT = 5  # of a frame's bytes: what tells a copied frame apart without decoding it
OUTPUTS = ("margin.calls", "account.health", "risk.breakers", "risk.marks", "audit.decisions", PARTIALS)


_ASSET = msgspec.json.Decoder(AssetReport)


class BreakerChange(NamedTuple):
    """One change of a breaker's state, as the first partition that told it saw it."""

    since_ns: int
    trigger: str
    name: str
    state: str
    value: float
    limit: float


class Recording:
    """What came out of a run. Bounded by the run's length: of an account the last health is kept, and what was required of it at the times
    that were noted; of an asset the last report of each of the two hours' minutes."""

    def __init__(self) -> None:
        self.events_in: Counter[str] = Counter()
        self.told_prices: set[tuple[str, str, bool]] = set()  # (asset, source, synthetic) of the prices that went in
        self.frames = 0
        self.cuts = 0
        self.orders: dict[str, bytes] = {}
        self.orders_published = 0
        self.conflicting: set[str] = set()
        self.letters: dict[str, str] = {}  # origin -> reason
        self.health: dict[str, dict[str, Any]] = {}
        self.requirements: dict[int, dict[str, dict[str, float]]] = {}  # USD by mode of each account, at seconds after 20:30 (few)
        self.reports: dict[tuple[str, int], AssetReport] = {}  # (asset, minute after 20:30) -> the last of that minute
        self.margin_calls: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.held: set[str] = set()  # accounts of which a credit was held back
        self.released: set[str] = set()  # ... and let go later
        self.breakers: dict[tuple[str, str, str, int], BreakerChange] = {}
        self.breaker_states: dict[str, dict[int, str]] = {}
        self.partials: dict[int, list[int]] = {}  # accounts by state, by partition
        self.clocks: dict[tuple[str, int], int] = {}  # (rows topic, partition) -> clock of its last cut
        self.states: list[tuple[int, list[int]]] = []  # (clock, accounts by state) at each pause of the replay
        self.covered: dict[tuple[str, int], int] = {}  # (source topic, partition) -> offset up to which it stands in a log
        self.credits = 0

    def take(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        """One record of any topic listened to; `topic` is without the prefix."""
        if topic in ROWS:
            if key == CUT_KEY and value is not None:
                self._take_cut(topic, partition, value)
        elif topic in LEDGERS or topic == CONTROL:
            self.frames += 1
            self._take_frame(value or b"")
        elif value is None:
            return
        elif topic.startswith("orders."):
            self._take_order(value)
        elif topic.endswith(".dlq"):
            self.letters[(key or b"").decode()] = orjson.loads(value)["reason"]
        elif topic == PARTIALS:
            partial = orjson.loads(value)["partial"]
            self.partials[partial[0]] = partial[5]
        elif topic == "account.health":
            self._take_health(orjson.loads(value))
        elif topic == "risk.marks":
            self._take_report(_ASSET.decode(value))
        elif topic == "risk.breakers":
            self._take_breaker(orjson.loads(value))
        elif topic == "margin.calls":
            self.margin_calls[orjson.loads(value)["cause"]] += 1
        elif topic == "audit.decisions":
            self._take_decision(orjson.loads(value))

    def note_sent(self, topic: str, message: Message) -> None:
        """A message that went in; of a price, who said it and whether that is synthetic."""
        self.events_in[topic] += 1
        if isinstance(message, OraclePrice):
            self.told_prices.add((message.asset, message.source, message.synthetic))

    def clock_ns(self, machines: int) -> int:
        """The time up to which every one of so many machines has decided and cut; 0 while one has said nothing."""
        return min(self.clocks.values()) if len(self.clocks) >= machines else 0

    def note_states(self, clock_ns: int) -> list[int]:
        """Keep how many accounts are in each state now, over all partitions."""
        totals = [0] * len(State)
        for partial in self.partials.values():
            for state, count in enumerate(partial):
                totals[state] += count
        self.states.append((clock_ns, totals))
        return totals

    def note_requirements(self, second: int) -> None:
        """Keep what is required of every account that can be valued, by mode, under that second after 20:30."""
        told = ((account, health["requirement_usd"]) for account, health in self.health.items())
        self.requirements[second] = {account: by_mode for account, by_mode in told if by_mode is not None}

    def _take_cut(self, topic: str, partition: int, value: bytes) -> None:
        self.cuts += 1
        self.clocks[topic, partition] = msgspec.msgpack.decode(value, type=CutRecord).clock_ns

    def _take_frame(self, value: bytes) -> None:
        if value[KIND_AT] == FrameKind.CONTROL:
            return  # a copy of what was looked at in control itself
        frame = decode_frame(value)
        source = (frame.source, frame.source_partition)
        self.covered[source] = max(self.covered.get(source, -1), frame.covers_to)
        if frame.kind is FrameKind.CREDITS:
            self.credits += len(frame.offsets)

    def _take_order(self, value: bytes) -> None:
        self.orders_published += 1
        order_id = orjson.loads(value)["order_id"]
        if self.orders.setdefault(order_id, value) != value:
            self.conflicting.add(order_id)

    def _take_health(self, health: dict[str, Any]) -> None:
        self.health[health["account"]] = health

    def _take_report(self, report: AssetReport) -> None:
        minute = (report.clock_ns - START_NS) // (60 * SECOND_NS)
        if 0 <= minute <= MINUTES:
            self.reports[report.asset, minute] = report

    def _take_decision(self, decision: dict[str, Any]) -> None:
        outcome = decision["outcome"]
        self.outcomes[outcome] += 1
        if outcome in (Outcome.HELD, Outcome.RELEASED):
            (self.held if outcome == Outcome.HELD else self.released).add(decision["account"])

    def _take_breaker(self, breaker: dict[str, Any]) -> None:
        key = (breaker["trigger"], breaker["name"], breaker["state"], breaker["since_ns"])
        change = BreakerChange(
            breaker["since_ns"], breaker["trigger"], breaker["name"], breaker["state"], breaker["value"], breaker["limit"]
        )
        self.breakers.setdefault(key, change)
        self.breaker_states.setdefault(f"{breaker['trigger']}/{breaker['name']}", {})[breaker["partition"]] = breaker["state"]


def topics_listened_to(venues: list[str]) -> list[str]:
    return [*LEDGERS, CONTROL, *ROWS, *OUTPUTS, *map(orders_topic, venues), *map(dlq_topic, SOURCES)]


async def stopped(client: Any) -> None:
    """Stop an aiokafka client. One that is just waiting to ask again passes on the cancellation of its own inner task: not ours."""
    try:
        await client.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise


class Recorder:
    """Feeds a recording from the topics, from their beginning, in a task of its own."""

    def __init__(self, clients: Clients, partitions: dict[str, int]) -> None:
        self.recording = Recording()
        self._clients = clients
        self._topics = {clients.partition(topic, p): topic for topic, count in partitions.items() for p in range(count)}
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        self._consumer = self._clients.consumer()
        await self._consumer.start()
        self._consumer.assign(list(self._topics))
        await self._consumer.seek_to_beginning(*self._topics)
        self._task = asyncio.create_task(self._listen(self._consumer), name="recorder")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._consumer is not None:
            await stopped(self._consumer)

    async def catch_up(self) -> None:
        """Wait until everything that was on the topics at the call has been taken in."""
        assert self._consumer is not None
        ends = await self._consumer.end_offsets(list(self._topics))
        while any([await self._consumer.position(partition) < end for partition, end in ends.items()]):
            await self.changed(0.2)

    async def changed(self, timeout_s: float) -> None:
        """Return when something more was taken in, or after `timeout_s`; raises what ended the listening."""
        assert self._task is not None
        if self._task.done():
            self._task.result()
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return

    async def _listen(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            batches: dict[TopicPartition, list[Any]] = await consumer.getmany(timeout_ms=100)
            for partition, records in batches.items():
                topic = self._topics[partition]
                for record in records:
                    self.recording.take(topic, record.partition, record.key, record.value)
            if batches:
                self._changed.set()
            await asyncio.sleep(0)  # a getmany that has records at hand does not give way
