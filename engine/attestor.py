"""The attestor: from signed messages and heartbeats to numbered credits and observed lags, for one partition of emitters."""

from collections.abc import Iterable
from typing import Any

import msgspec

from engine import guardians
from engine.effects import Decision, Effects, Send
from engine.inputs import (
    ChainDefinition,
    Credit,
    Frame,
    FrameKind,
    GuardianSet,
    Heartbeat,
    LagObservation,
    RiskParameters,
    SetQuarantine,
    Tick,
    VerifiedAttestation,
)
from engine.machine import CUT_KEY, Cut
from engine.market_arrays import nanoseconds
from engine.murmur2 import partition_of
from engine.parameters import Parameters
from engine.reasons import Outcome, Refusal
from engine.rows import PIECE_PREFIX, RowLedger, decode_piece, encode_piece
from engine.sources import Sources, first_new, gap_decision, refused
from engine.terms import Terms
from engine.transfers import TransferFault, decode_transfer

NAME = "attestor"
_HEARD = frozenset({FrameKind.TICK, FrameKind.PARAMETERS, FrameKind.COMMANDS, FrameKind.DEFINITIONS})  # of control
LAGS_KEPT = 64  # heartbeats by chain
LAG_TOLD_STEP_NS = 5_000_000_000
NS_PER_S = 1_000_000_000

_STATE_PIECE = PIECE_PREFIX + b"attestor:state"
_SETS_PIECE = PIECE_PREFIX + b"attestor:guardian_sets"
_CHAINS_PIECE = PIECE_PREFIX + b"attestor:chains"
_WINDOW_PREFIX = PIECE_PREFIX + b"attestor:window:"
_LAGS_PREFIX = PIECE_PREFIX + b"attestor:lags:"


class ChainLag(msgspec.Struct, array_like=True):
    """What was heard of one chain: its last observed lags in order of arrival, and what control was told."""

    lags_ns: list[int]
    newest_heartbeat_ns: int
    told_p95_ns: int
    told_heartbeat_ns: int


class Attestor:
    """A machine (engine.machine.Machine). `partition` of the attest ledger, `ledger_partitions` of the ledger that credits go to."""

    def __init__(self, partition: int, ledger_partitions: int) -> None:
        self._partition = partition
        self._ledger_partitions = ledger_partitions
        self._applied = -1
        self._terms = Terms()  # of definitions it takes chains alone, which name nothing else
        self._sources = Sources()
        self._rows = RowLedger()
        self._sets = guardians.GuardianSets()
        self._emitters = guardians.Emitters()
        self._sequences = guardians.SequenceLedger()
        self._lags: dict[str, ChainLag] = {}
        self._quarantined: set[str] = set()  # chains whose messages contradicted each other, or that an operator named: defined ones
        self._sent: dict[tuple[str, int], int] = {}  # (target, partition) -> this machine's counter
        self._windows_changed: set[tuple[int, bytes]] = set()

    # ---- Machine ----

    @property
    def applied(self) -> int:
        """Offset of the last applied frame, -1 before the first."""
        return self._applied

    @property
    def clock_ns(self) -> int:
        """Event time of the last tick."""
        return self._terms.clock_ns

    def source_applied(self, source: str, partition: int) -> int:
        """Highest offset applied of one source, -1 if none."""
        return self._sources.applied(source, partition)

    def apply(self, offset: int, frame: Frame) -> Effects:
        """Takes one frame of the log. Refused inputs are among the effects."""
        assert offset == self._applied + 1, f"frame {offset} after {self._applied}: the shell must seek to {self._applied + 1}"
        self._applied = offset
        effects = Effects(now=[], sends=[])
        if frame.kind is FrameKind.CONTROL:
            inner = frame.events[0]
            assert isinstance(inner, Frame)
            if self._joins(frame, effects):
                if frame.covers_to <= self._sources.applied(frame.source, frame.source_partition):
                    effects.skipped += len(inner.events)
                else:
                    self._apply_control(inner, f"{frame.source}:{frame.source_partition}:{frame.covers_to}", effects)
                    self._sources.take(frame)
        elif self._joins(frame, effects):
            first = first_new(frame.offsets, self._sources.applied(frame.source, frame.source_partition))
            effects.skipped += first
            self._apply_chain_frame(frame, first, effects)
            self._sources.take(frame)
        return effects

    def take_cut(self, sealed: bool = False) -> Cut:
        """What changed since the last cut, and the cut record."""
        rows: list[tuple[bytes, bytes | None]] = []
        for key, value in self._pieces().items():
            if self._rows.put(key, value):
                rows.append((key, value))
        self._windows_changed.clear()
        record = self._rows.record(
            applied=self._applied,
            clock_ns=self.clock_ns,
            parameters_version=self._terms.parameters_version,
            sealed=sealed,
            sources=self._sources,
        )
        return Cut(applied=self._applied, rows=[*rows, (CUT_KEY, record)], health=[], breakers=[], partials=[])

    def restore(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes over committed rows. Raises DigestMismatch or EngineVersionMismatch."""
        record, pieces = self._rows.verify(rows)
        if record is None:
            return
        self._applied, self._terms.clock_ns = record.applied, record.clock_ns
        self._sources.restore(record.sources)
        for key in sorted(pieces):
            content = decode_piece(pieces[key])
            if key == _STATE_PIECE:
                version, raw, sent, *quarantined = content
                self._terms.restore_parameters(version, Parameters.model_validate_json(raw))
                self._sent = {(target, partition): counter for target, partition, counter in sent}
                self._quarantined = {chain for chains in quarantined for chain in chains}
            elif key == _SETS_PIECE:
                self._sets = guardians.GuardianSets.from_data(content)
            elif key == _CHAINS_PIECE:
                for chain in msgspec.convert(content, list[ChainDefinition]):
                    fault = self._terms.universe.define(chain)
                    assert fault is None, f"a chain that was taken before is refused now: {fault}"
                    self._emitters.define(chain)
            elif key.startswith(_WINDOW_PREFIX):
                chain, address, window = content
                self._sequences.restore_window(chain, address, window)
            else:
                name, lag = content
                self._lags[name] = ChainLag(*lag)

    # ---- frames ----

    def _joins(self, frame: Frame, effects: Effects) -> bool:
        gap, after = self._sources.look_at(frame)
        if gap:
            effects.gap = True
            effects.now.append(gap_decision(frame, after, self.clock_ns, NAME, self._partition))
        return not gap

    def _apply_control(self, inner: Frame, at: str, effects: Effects) -> None:
        counted = inner.kind is not FrameKind.TICK
        if counted and not self._joins(inner, effects):
            return
        if inner.kind not in _HEARD:
            self._sources.take(inner)
            return
        after = self._sources.applied(inner.source, inner.source_partition) if counted else -1
        for offset, event in zip(inner.offsets, inner.events, strict=True):
            if offset <= after:
                effects.skipped += 1
                continue
            fault = self._observe(event)
            if self._partition != 0 or not isinstance(event, GuardianSet):
                continue  # every attestor does the same, and one of them says so; of the rest of control the books do
            if fault is not None:
                effects.now.append(refused(inner, offset, fault[0], fault[1], event))
            else:
                effects.now.append(self._taken(event, at))
        if counted:
            self._sources.take(inner)

    def _observe(self, event: Any) -> tuple[Refusal, str] | None:
        """Takes what concerns an attestor; the rest of control passes by."""
        match event:
            case Tick():
                self._terms.tick(event.time_ns)
            case RiskParameters():
                return self._terms.set_parameters(event)
            case GuardianSet():
                announced = self._sets.announce(event, self.clock_ns)
                return None if announced is None else (announced.refusal, announced.meaning)
            case SetQuarantine():  # of a chain that is not defined the books refuse it
                if event.on and self._terms.universe.chain_number(event.chain) is not None:
                    self._quarantined.add(event.chain)
                elif not event.on:
                    self._quarantined.discard(event.chain)
            case ChainDefinition():
                fault = self._terms.define(event)
                if fault is None:
                    self._emitters.define(event)
                return fault
        return None

    def _taken(self, announced: GuardianSet, at: str) -> Decision:
        note = f"set {announced.index}, {len(announced.addresses)} guardians, by {announced.by}: {announced.note}"
        return Decision(
            outcome=Outcome.GUARDIAN_SET.value,
            account="",
            note=note,
            decided_ns=self.clock_ns,
            parameters=self._terms.parameters_version,
            ledger=at,
        )

    def _apply_chain_frame(self, frame: Frame, first: int, effects: Effects) -> None:
        credits_by_partition: dict[int, list[Credit]] = {}
        lags: dict[str, LagObservation] = {}
        for offset, event in zip(frame.offsets[first:], frame.events[first:], strict=True):
            outcome: tuple[Refusal, str] | None
            if isinstance(event, Heartbeat):
                outcome = self._hear(event, lags)
            else:
                outcome = self._judge(event, credits_by_partition, lags)
            if outcome is not None:
                effects.now.append(refused(frame, offset, outcome[0], outcome[1], event))
        for partition in sorted(credits_by_partition):
            effects.sends.append(self._send("ledger", partition, FrameKind.CREDITS, credits_by_partition[partition]))
        if lags:
            effects.sends.append(self._send("control", 0, FrameKind.LAGS, list(lags.values())))

    def _judge(
        self, attestation: VerifiedAttestation, out: dict[int, list[Credit]], lags: dict[str, LagObservation]
    ) -> tuple[Refusal, str] | None:
        skew_ns = nanoseconds(self._terms.parameters.future_skew_s)
        doubt = guardians.check(attestation, self._sets, self.clock_ns, max_skew_ns=skew_ns)
        if doubt is not None:
            return doubt.refusal, doubt.meaning
        transfer = decode_transfer(attestation.payload)
        if isinstance(transfer, TransferFault):
            return transfer.refusal, transfer.meaning
        if transfer.chain in self._quarantined:  # its number stays free: sent again after the quarantine, it counts
            return Refusal.QUARANTINED, f"chain {transfer.chain} is in quarantine until an operator ends it"
        doubt = guardians.admit(attestation, transfer, self._sets, self._emitters, self._sequences, self.clock_ns, max_skew_ns=skew_ns)
        if doubt is not None:
            if doubt.refusal is Refusal.EQUIVOCATION:
                self._quarantined.add(transfer.chain)
                lags[transfer.chain] = self._lag_of(transfer.chain)
            return doubt.refusal, doubt.meaning
        self._windows_changed.add((attestation.emitter_chain, attestation.emitter_address))
        credit = Credit(
            account=transfer.account,
            chain=transfer.chain,
            asset=transfer.asset,
            lots=transfer.delta_lots,
            number=transfer.number,
            digest=attestation.digest,
            time_ns=attestation.timestamp_s * NS_PER_S,
        )
        out.setdefault(partition_of(transfer.account.encode(), self._ledger_partitions), []).append(credit)
        return None

    def _hear(self, heartbeat: Heartbeat, lags: dict[str, LagObservation]) -> tuple[Refusal, str] | None:
        if self._terms.universe.chain_number(heartbeat.chain) is None:
            return Refusal.UNKNOWN_CHAIN, f"chain {heartbeat.chain} is not defined"
        if heartbeat.observed_time_ns > self.clock_ns + nanoseconds(self._terms.parameters.future_skew_s):
            return Refusal.FUTURE_TIME, f"observed at {heartbeat.observed_time_ns}, and the clock is at {self.clock_ns}"
        known = self._lags.get(heartbeat.chain)
        if known is None:
            known = self._lags[heartbeat.chain] = ChainLag([], 0, -1, 0)
        known.lags_ns.append(max(heartbeat.observed_time_ns - heartbeat.block_time_ns, 0))
        del known.lags_ns[:-LAGS_KEPT]
        known.newest_heartbeat_ns = max(known.newest_heartbeat_ns, heartbeat.observed_time_ns)
        p95 = percentile_95(known.lags_ns)
        if p95 != known.told_p95_ns or known.newest_heartbeat_ns - known.told_heartbeat_ns >= LAG_TOLD_STEP_NS:
            known.told_p95_ns, known.told_heartbeat_ns = p95, known.newest_heartbeat_ns
            lags[heartbeat.chain] = self._lag_of(heartbeat.chain)
        return None

    def _lag_of(self, chain: str) -> LagObservation:
        """What is known of a chain; a newest heartbeat of 0: nothing of its lag, since another attestor may hear its heartbeats."""
        known = self._lags.get(chain)
        quarantined = chain in self._quarantined
        return (
            LagObservation(chain, 0, 0, quarantined)
            if known is None
            else LagObservation(chain, known.told_p95_ns, known.told_heartbeat_ns, quarantined)
        )

    def _send(self, target: str, partition: int, kind: FrameKind, events: list[Any]) -> Send:
        before = self._sent.get((target, partition), -1)
        after = before + len(events)
        self._sent[target, partition] = after
        offsets = list(range(before + 1, after + 1))
        # A book hears of this machine by both targets, each with a counter of its own: so each has a source of its own.
        source = NAME if target == "ledger" else f"{NAME}.{target}"
        return Send(target=target, partition=partition, frame=Frame(kind, source, self._partition, before, after, events, offsets))

    def _pieces(self) -> dict[bytes, bytes]:
        sent = [(target, partition, counter) for (target, partition), counter in sorted(self._sent.items())]
        state = (self._terms.parameters_version, self._terms.parameters.model_dump_json(), sent, sorted(self._quarantined))
        pieces = {
            _STATE_PIECE: encode_piece(state),
            _SETS_PIECE: encode_piece(self._sets.to_data()),
            _CHAINS_PIECE: encode_piece(self._terms.universe.chains),
        }
        for chain, address in sorted(self._windows_changed):
            key = _WINDOW_PREFIX + f"{chain}:".encode() + address.hex().encode()
            pieces[key] = encode_piece((chain, address, self._sequences.window(chain, address).to_data()))
        for name, lag in self._lags.items():
            pieces[_LAGS_PREFIX + name.encode()] = encode_piece((name, lag))
        return pieces


def percentile_95(values: list[int]) -> int:
    """The value at index ceil(0.95 n) - 1 of the sorted `values` (n >= 1)."""
    return sorted(values)[(95 * len(values) + 99) // 100 - 1]
