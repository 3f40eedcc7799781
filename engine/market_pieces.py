"""The market's state in keyed pieces: what a cut writes and a restore reads back, exact to the bit, each piece bounded in size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.breakers import Breakers
from engine.inputs import AnyDefinition, AssetDefinition, ChainDefinition, InstrumentDefinition, VenueDefinition
from engine.marks import NEVER_NS
from engine.parameters import Parameters
from engine.universe import USD

if TYPE_CHECKING:
    from engine.market import Market

PREFIX: Final = b"p:market:"
SINGLE: Final = -1  # number of a part that exists once
# In the order in which they are restored. The largest: 16 sources of a mark, 64 expiries, 64 samples, 512 correlations of a group.
PARTS: Final = (
    "parameters",
    "clock",
    "layer",
    "chain",
    "asset",
    "venue",
    "instrument",
    "mark",
    "moves",
    "implied",
    "funding",
    "settled",
    "slow",
    "lag",
    "system",
    "correlation",
)
SLOW_BLOCK: Final = 64  # instruments whose slow terms make one piece

_encoder = msgspec.msgpack.Encoder()


class Pieces:
    """Which pieces of one market changed, and how each is written and read."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._changed: set[tuple[str, int]] = {("clock", SINGLE), ("system", SINGLE), ("asset", USD), ("mark", USD)}  # there from the start

    def changed(self, part: str, number: int = SINGLE) -> None:
        self._changed.add((part, number))

    def definition_changed(self, definition: AnyDefinition) -> None:
        universe = self._market.universe
        if isinstance(definition, AssetDefinition):
            self._add("asset", universe.asset_number(definition.name))
        elif isinstance(definition, ChainDefinition):
            number = universe.chain_number(definition.name)
            assert number is not None
            self.changed("chain", number)
            self.changed("lag", number)
            self.changed("layer", int(universe.chain_arrays.layer[number]))
        elif isinstance(definition, VenueDefinition):
            self._add("venue", universe.venue_number(definition.name))
        else:
            self._add("instrument", universe.instrument_number(definition.venue, definition.name))

    def take(self, changed_only: bool) -> dict[bytes, bytes]:
        """Changed pieces, forgetting that they changed; or all there are. In the order of PARTS, then of numbers."""
        if changed_only:
            wanted = sorted(self._changed, key=_order)
            self._changed.clear()
        else:
            wanted = [(part, number) for part in PARTS for number in self._numbers(part)]
        writers = self._writers()
        return {_key(part, number): _encoder.encode(writers[part](number)) for part, number in wanted}

    def put(self, pieces: dict[bytes, bytes]) -> None:
        """Restore them all; a key that is none of ours is a fault of the caller."""
        parsed: dict[str, list[tuple[int, bytes]]] = {part: [] for part in PARTS}
        for key, value in pieces.items():
            assert key.startswith(PREFIX), f"{key!r} is no piece of a market"
            part, _, number = key[len(PREFIX) :].decode().partition(":")
            parsed[part].append((int(number) if number else SINGLE, value))
        readers = self._readers()
        for part in PARTS:
            for index, content in sorted(parsed[part]):
                readers[part](index, content)
                self._changed.discard((part, index))

    def _add(self, part: str, number: int | None) -> None:
        if number is not None:
            self.changed(part, number)

    def _numbers(self, part: str) -> list[int]:
        m, u = self._market, self._market.universe
        if part == "parameters":
            return [SINGLE] if m.parameters_version else []
        if part in ("clock", "system"):
            return [SINGLE]
        if part == "moves":
            return [a for a in range(u.asset_count) if m.move_samples.kept[a] > 0]
        if part == "implied":
            return [a for a in range(u.asset_count) if m.implied.quotes[a] > 0]
        if part == "funding":
            f = m.fundings
            told = np.stack([f.rate_ns, f.basis_ns, f.interest_index_ns, f.interest_rate_ns])[:, : u.instrument_count]
            return [int(i) for i in np.flatnonzero((told != NEVER_NS).any(axis=0))]
        if part == "settled":
            return [int(i) for i in np.flatnonzero(~np.isnan(m.settled[: u.instrument_count]))]
        if part == "slow":
            return [int(block) for block in np.unique(np.flatnonzero(~np.isnan(m.slow.flat[: u.instrument_count])) // SLOW_BLOCK)]
        counts = {
            "layer": u.layer_count,
            "chain": u.chain_count,
            "lag": u.chain_count,
            "asset": u.asset_count,
            "venue": u.venue_count,
            "instrument": u.instrument_count,
            "mark": u.asset_count,
            "correlation": u.group_count,
        }
        return list(range(counts[part]))

    # ---- writing ----------------------------------------------------------------------------------------------------------------

    def _writers(self) -> dict[str, Callable[[int], Any]]:
        m, u = self._market, self._market.universe
        return {
            "parameters": lambda _: (m.parameters_version, m.parameters.model_dump()),
            "clock": lambda _: (m.clock_ns, m.advanced_ns, m.grid_minute, m.stressed_ns),
            "layer": lambda n: (u.layers[n], _breaker(m.layer_breakers, n)),
            "chain": lambda j: u.chains[j],
            "asset": lambda a: (u.assets[a], u.sources[a]),
            "venue": lambda v: u.venues[v],
            "instrument": lambda i: u.instruments[i],
            "mark": self._mark,
            "moves": self._moves,
            "implied": self._implied,
            "funding": lambda i: [column[i].item() for column in m.fundings],
            "settled": lambda i: float(m.settled[i]),
            "slow": lambda block: [column[_block(block)].tolist() for column in (m.slow.flat, m.slow.latency)],
            "lag": self._chain,
            "system": lambda _: _breaker(m.system_breakers, 0),
            "correlation": lambda g: (
                float(m.covariances.grid_mark[g]),
                m.covariances.covariance[g, : g + 1].tolist(),
                m.slow.stress[:, g].tolist(),
            ),
        }

    def _mark(self, a: int) -> Any:
        m = self._market
        sources = len(m.universe.sources[a])
        o, d = m.observations, m.depths
        return (
            [o.price[a, :sources].tolist(), o.confidence[a, :sources].tolist(), o.publish_ns[a, :sources].tolist()],
            [column[a].item() for column in m.volatilities],
            [d.depth_usd[a].item(), d.spread_bps[a].item(), d.time_ns[a].item()],
            [_breaker(breakers, a) for breakers in self._asset_breakers()],
            [column[a].item() for column in self._asset_columns()],
        )

    def _asset_breakers(self) -> tuple[Breakers, ...]:
        m = self._market
        return m.move_breakers, m.jump_breakers, m.divergence_breakers, m.eligibility_breakers

    def _asset_columns(self) -> tuple[NDArray[np.float64], ...]:
        m = self._market
        return m.stable, m.uptime, m.slow.thin, m.slow.over, m.recognised, m.recognised_in_force

    def _chain(self, j: int) -> Any:
        m = self._market
        return (
            (int(m.lags.p95_ns[j]), int(m.lags.heartbeat_ns[j])),
            (_breaker(m.lag_breakers, j), _breaker(m.quarantine_breakers, j), bool(m.quarantined[j])),
            (float(m.slow.paused[j]), float(m.slips.slip[j]), int(m.slips.time_ns[j]), float(m.slips.in_force[j])),
        )

    def _moves(self, a: int) -> Any:
        s = self._market.move_samples
        return s.kept[a].item(), s.head[a].item(), s.time_ns[a].tolist(), s.mark[a].tolist()

    def _implied(self, a: int) -> Any:
        v = self._market.implied
        count = int(v.quotes[a])
        return v.expiry_ns[a, :count].tolist(), v.sigma[a, :count].tolist(), v.time_ns[a, :count].tolist()

    # ---- reading ----------------------------------------------------------------------------------------------------------------

    def _readers(self) -> dict[str, Callable[[int, bytes], None]]:
        return {
            "parameters": self._read_parameters,
            "clock": self._read_clock,
            "layer": self._read_layer,
            "chain": lambda _, value: self._define(msgspec.msgpack.decode(value, type=ChainDefinition)),
            "asset": self._read_asset,
            "venue": lambda _, value: self._define(msgspec.msgpack.decode(value, type=VenueDefinition)),
            "instrument": lambda _, value: self._define(msgspec.msgpack.decode(value, type=InstrumentDefinition)),
            "mark": self._read_mark,
            "moves": self._read_moves,
            "implied": self._read_implied,
            "funding": self._read_funding,
            "settled": self._read_settled,
            "slow": self._read_slow,
            "lag": self._read_chain,
            "system": lambda _, value: _put_breaker(self._market.system_breakers, 0, msgspec.msgpack.decode(value)),
            "correlation": self._read_correlation,
        }

    def _define(self, definition: AnyDefinition) -> None:
        fault = self._market.universe.define(definition)
        assert fault is None, f"a definition that was taken before is refused now: {fault}"

    def _read_parameters(self, _: int, value: bytes) -> None:
        version, dump = msgspec.msgpack.decode(value)
        self._market.restore_parameters(version, Parameters.model_validate(dump))

    def _read_clock(self, _: int, value: bytes) -> None:
        m = self._market
        m.clock_ns, m.advanced_ns, m.grid_minute, m.stressed_ns = msgspec.msgpack.decode(value)

    def _read_layer(self, number: int, value: bytes) -> None:
        name, breaker = msgspec.msgpack.decode(value)
        self._market.universe.restore_layer(number, name)
        _put_breaker(self._market.layer_breakers, number, breaker)

    def _read_asset(self, number: int, value: bytes) -> None:
        definition, sources = msgspec.msgpack.decode(value, type=tuple[AssetDefinition, list[str]])
        self._market.universe.restore_asset(number, definition, sources)

    def _read_mark(self, a: int, value: bytes) -> None:
        m = self._market
        observed, volatilities, depth, breakers, columns = msgspec.msgpack.decode(value)
        for column, values in zip(m.observations, observed, strict=True):
            column[a, : len(values)] = values
        for column, one in zip(m.volatilities, volatilities, strict=True):
            column[a] = one
        for column, one in zip(m.depths, depth, strict=True):
            column[a] = one
        for of_a_trigger, values in zip(self._asset_breakers(), breakers, strict=True):
            _put_breaker(of_a_trigger, a, values)
        for column, one in zip(self._asset_columns(), columns, strict=True):
            column[a] = one

    def _read_moves(self, a: int, value: bytes) -> None:
        for column, one in zip(self._market.move_samples, msgspec.msgpack.decode(value), strict=True):
            column[a] = one

    def _read_implied(self, a: int, value: bytes) -> None:
        v = self._market.implied
        columns = msgspec.msgpack.decode(value)
        count = len(columns[0])
        v.quotes[a] = count
        for column, values in zip((v.expiry_ns, v.sigma, v.time_ns), columns, strict=True):
            column[a, :count] = values

    def _read_funding(self, i: int, value: bytes) -> None:
        for column, one in zip(self._market.fundings, msgspec.msgpack.decode(value), strict=True):
            column[i] = one

    def _read_settled(self, i: int, value: bytes) -> None:
        self._market.settled[i] = msgspec.msgpack.decode(value)

    def _read_slow(self, block: int, value: bytes) -> None:
        m = self._market
        m.slow.flat[_block(block)], m.slow.latency[_block(block)] = msgspec.msgpack.decode(value)

    def _read_chain(self, j: int, value: bytes) -> None:
        m = self._market
        lag, (lag_breaker, quarantine, m.quarantined[j]), slow = msgspec.msgpack.decode(value)
        m.lags.p95_ns[j], m.lags.heartbeat_ns[j] = lag
        m.slow.paused[j], m.slips.slip[j], m.slips.time_ns[j], m.slips.in_force[j] = slow
        _put_breaker(m.lag_breakers, j, lag_breaker)
        _put_breaker(m.quarantine_breakers, j, quarantine)

    def _read_correlation(self, g: int, value: bytes) -> None:
        c = self._market.covariances
        c.grid_mark[g], row, self._market.slow.stress[:, g] = msgspec.msgpack.decode(value)
        c.covariance[g, : g + 1] = row
        c.covariance[: g + 1, g] = row


def _order(piece: tuple[str, int]) -> tuple[int, int]:
    return PARTS.index(piece[0]), piece[1]


def _key(part: str, number: int) -> bytes:
    return PREFIX + (part.encode() if number == SINGLE else b"%s:%04d" % (part.encode(), number))


def _block(block: int) -> slice:
    return slice(block * SLOW_BLOCK, (block + 1) * SLOW_BLOCK)


def _breaker(breakers: Breakers, index: int) -> tuple[int, int, int, float]:
    return (
        int(breakers.state[index]),
        int(breakers.since_ns[index]),
        int(breakers.calm_ns[index]),
        float(breakers.value[index]),
    )


def _put_breaker(breakers: Breakers, index: int, values: list[Any]) -> None:
    breakers.state[index], breakers.since_ns[index], breakers.calm_ns[index], breakers.value[index] = values
