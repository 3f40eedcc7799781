"""The treasury: throttle budgets given ahead to each ledger partition, and the insurance fund (docs/model.md, section 9)."""

from collections.abc import Iterable
from typing import Any, Final

from engine.collateral import NO_CAP_USD
from engine.effects import Decision, Effects, Send
from engine.inputs import Depth, Frame, FrameKind, Grant, Partial, RiskParameters, Tick
from engine.machine import CUT_KEY, Cut
from engine.market import Market
from engine.market_pieces import PREFIX as MARKET_PREFIX
from engine.reasons import Outcome, Refusal
from engine.rows import PIECE_PREFIX, RowLedger, decode_piece, encode_piece
from engine.sources import Sources, first_new, gap_decision, refused
from engine.universe import CASH_CLASS

NAME: Final = "treasury"
_HEARD: Final = frozenset({FrameKind.DEFINITIONS, FrameKind.DEPTHS, FrameKind.PARAMETERS})  # of control, besides ticks
GRANTS_PER_FRAME_MAX: Final = 4_096
NS_PER_S: Final = 1_000_000_000
_STATE_PIECE: Final = PIECE_PREFIX + b"treasury:state"


class Treasury:
    """A machine (engine.machine.Machine) that grants to the books of `ledger_partitions` partitions through control.

    Holds a market for definitions, parameters, depths and the clock; prices pass it by.
    """

    def __init__(self, ledger_partitions: int) -> None:
        assert ledger_partitions > 0
        self._partitions = ledger_partitions
        self._market = Market()
        self._sources = Sources()
        self._rows = RowLedger()
        self._applied = -1
        self._granted_interval = -1  # number of the last grant interval
        self._sent = -1  # counter of what was sent to control
        self._requested_micro_usd = [0] * ledger_partitions  # cumulative, as the partials say
        self._paid_micro_usd = [0] * ledger_partitions  # cumulative
        self._collateral_usd: list[dict[str, float]] = [{} for _ in range(ledger_partitions)]  # by asset with a global cap, as last said

    # ---- Machine ----

    @property
    def applied(self) -> int:
        """Offset of the last applied frame, -1 before the first."""
        return self._applied

    @property
    def clock_ns(self) -> int:
        """Event time of the last tick."""
        return self._market.clock_ns

    @property
    def fund_micro_usd(self) -> int:
        """What is left in the insurance fund."""
        return max(self._market.parameters.fund_micro_usd - sum(self._paid_micro_usd), 0)

    def source_applied(self, source: str, partition: int) -> int:
        """Highest offset applied of one source, -1 if none."""
        return self._sources.applied(source, partition)

    def apply(self, offset: int, frame: Frame) -> Effects:
        """Takes one frame of the log."""
        assert offset == self._applied + 1, f"frame {offset} after {self._applied}: the shell must seek to {self._applied + 1}"
        self._applied = offset
        effects = Effects(now=[], sends=[])
        if not self._joins(frame, effects):
            return effects
        after = self._sources.applied(frame.source, frame.source_partition)
        if frame.kind is FrameKind.CONTROL:
            inner = frame.events[0]
            assert isinstance(inner, Frame)
            if frame.covers_to <= after:
                effects.skipped += len(inner.events)
            else:
                self._apply_control(inner, effects)
        else:
            first = first_new(frame.offsets, after)
            effects.skipped += first
            for event_offset, event in zip(frame.offsets[first:], frame.events[first:], strict=True):
                assert isinstance(event, Partial), f"a {frame.kind.name} frame has no place in the treasury's log"
                fault = self._pay(event, f"{frame.source}:{frame.source_partition}:{event_offset}", effects)
                if fault is not None:
                    effects.now.append(refused(frame, event_offset, fault[0], fault[1], event))
        self._sources.take(frame)
        return effects

    def take_cut(self, sealed: bool = False) -> Cut:
        """What changed since the last cut, and the cut record."""
        pieces = self._market.pieces(changed_only=True)
        collateral = [sorted(held.items()) for held in self._collateral_usd]
        state = (self._granted_interval, self._sent, self._requested_micro_usd, self._paid_micro_usd, collateral)
        pieces[_STATE_PIECE] = encode_piece(state)
        rows: list[tuple[bytes, bytes | None]] = [(key, pieces[key]) for key in sorted(pieces) if self._rows.put(key, pieces[key])]
        record = self._rows.record(
            applied=self._applied,
            clock_ns=self.clock_ns,
            parameters_version=self._market.parameters_version,
            sealed=sealed,
            sources=self._sources,
        )
        return Cut(applied=self._applied, rows=[*rows, (CUT_KEY, record)], health=[], breakers=[], partials=[])

    def restore(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes over committed rows. Raises DigestMismatch or EngineVersionMismatch."""
        record, pieces = self._rows.verify(rows)
        if record is None:
            return
        self._applied = record.applied
        self._sources.restore(record.sources)
        self._market.restore({key: value for key, value in pieces.items() if key.startswith(MARKET_PREFIX)})
        self._granted_interval, self._sent, self._requested_micro_usd, self._paid_micro_usd, *said = decode_piece(pieces[_STATE_PIECE])
        for collateral in said:
            self._collateral_usd = [dict(held) for held in collateral]

    # ---- frames ----

    def _joins(self, frame: Frame, effects: Effects) -> bool:
        gap, after = self._sources.look_at(frame)
        if gap:
            effects.gap = True
            effects.now.append(gap_decision(frame, after, self.clock_ns, NAME, 0))
        return not gap

    def _apply_control(self, inner: Frame, effects: Effects) -> None:
        """What a treasury needs of control; faults in it the books tell."""
        if inner.kind is FrameKind.TICK:
            for tick in inner.events:
                assert isinstance(tick, Tick)
                self._market.tick(tick.time_ns)
            self._market.revalue()
            self._grant(effects)
            return
        if not self._joins(inner, effects):
            return
        if inner.kind not in _HEARD:
            self._sources.take(inner)
            return
        after = self._sources.applied(inner.source, inner.source_partition)
        for offset, event in zip(inner.offsets, inner.events, strict=True):
            if offset <= after:
                effects.skipped += 1
            elif inner.kind is FrameKind.DEFINITIONS:
                self._market.define(event)
            elif isinstance(event, Depth):
                self._market.observe_depth(event)
            elif isinstance(event, RiskParameters):
                self._market.set_parameters(event)
        self._market.revalue()  # now, not at the next tick: whoever is restored in between has derived it all as well
        self._sources.take(inner)

    def _grant(self, effects: Effects) -> None:
        """At the first tick of each interval: a share of every asset's depth to every partition."""
        market = self._market
        if not market.live:
            return
        parameters = market.parameters
        interval = market.clock_ns // max(int(parameters.grant_interval_s * NS_PER_S), 1)
        if interval == self._granted_interval:
            return
        self._granted_interval = interval
        universe = market.universe
        grants = []
        for asset in range(universe.asset_count):
            if universe.asset_arrays.asset_class[asset] == CASH_CLASS:
                continue  # cash is what orders are paid in
            budget = parameters.throttle_share * market.depth_usd(asset) / self._partitions
            cap = budget * parameters.throttle_burst
            name = universe.assets[asset].name
            recognised = self._recognised(name, universe.assets[asset].cap_usd_global)
            grants += [
                Grant(partition, name, budget, cap, self._paid_micro_usd[partition], recognised) for partition in range(self._partitions)
            ]
        self._send(grants, effects)

    def _recognised(self, asset: str, cap_usd: float) -> float:
        """The share of all accounts' balances of an asset that its global cap leaves; 1 without a cap."""
        held = sum(collateral.get(asset, 0.0) for collateral in self._collateral_usd)
        return 1.0 if cap_usd >= NO_CAP_USD or held <= cap_usd else cap_usd / held

    def _pay(self, partial: Partial, at: str, effects: Effects) -> tuple[Refusal, str] | None:
        """Pays what a partition newly asks of the insurance fund, as far as it goes; the answer is cumulative."""
        partition = partial.partition
        if not 0 <= partition < self._partitions:
            return Refusal.OUT_OF_RANGE, f"there is no ledger partition {partition}"
        self._collateral_usd[partition] = partial.collateral_usd
        asked = partial.fund_requested_micro_usd - self._requested_micro_usd[partition]
        if asked <= 0:
            return None
        self._requested_micro_usd[partition] = partial.fund_requested_micro_usd
        paid = min(self.fund_micro_usd, asked)
        self._paid_micro_usd[partition] += paid
        note = f"partition {partition}: asked {asked}, paid {paid}, left {self.fund_micro_usd} micro-USD"
        effects.now.append(
            Decision(
                outcome=Outcome.FUND_DRAW.value,
                account="",
                note=note,
                decided_ns=self.clock_ns,
                parameters=self._market.parameters_version,
                ledger=at,
            )
        )
        if paid > 0:
            self._send([Grant(partition, "", 0.0, 0.0, self._paid_micro_usd[partition])], effects)
        return None

    def _send(self, events: list[Any], effects: Effects) -> None:
        for start in range(0, len(events), GRANTS_PER_FRAME_MAX):
            part = events[start : start + GRANTS_PER_FRAME_MAX]
            before, self._sent = self._sent, self._sent + len(part)
            offsets = list(range(before + 1, self._sent + 1))
            frame = Frame(FrameKind.GRANTS, NAME, 0, before, self._sent, part, offsets)
            effects.sends.append(Send(target="control", partition=0, frame=frame))
