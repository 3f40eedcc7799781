"""A running book's market and accounts by names, as the plain valuation of `streams.shadow` takes them.

What is read is state, and what follows from it and the clock before any table is made: marks, volatilities, depths, shares. The tables that
the engine values accounts with are not read: they are what is to be checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from engine.breakers import CLOSED
from engine.market import Market
from engine.marks import NEVER_NS
from engine.monitor import Book
from engine.reasons import Unknown
from engine.tables import (
    BUY,
    INITIAL_LEVEL,
    INVERSE_FUTURE,
    INVERSE_PERPETUAL,
    LEAVING,
    LOAN,
    MAINTENANCE_LEVEL,
    OPTION,
    PERPETUAL,
    SELL,
    SPOT,
)
from engine.universe import USD
from streams.shadow.correlation import shrunk
from streams.shadow.marks import Mark, Observation, mark_of
from streams.shadow.universe import NANOSECONDS, InstrumentKey, Universe
from streams.shadow.values import Position, Positions
from streams.shadow.view import INITIAL, MAINTENANCE, Parameters, View

NUMBERS: Final = {MAINTENANCE: MAINTENANCE_LEVEL, INITIAL: INITIAL_LEVEL}


class Surroundings(NamedTuple):
    """All that one account's valuation needs to know: at most what 16 positions name."""

    assets: list[int]  # by number, rising
    universe: Universe
    view: View


def positions_of(book: Book, a: int) -> Positions:
    """An account's positions in slot order, with what is pending."""
    columns = book.accounts.columns
    row = int(columns.pending_row[a])
    found: Positions = {}
    for slot in range(int(columns.positions[a])):
        pending = columns.pending[row, slot].tolist() if row >= 0 else [0, 0, 0]
        found[_key(book.market, int(columns.instrument[a, slot]))] = Position(
            int(columns.quantity[a, slot]), int(columns.cash[a, slot]), pending[BUY], pending[SELL], pending[LEAVING]
        )
    return found


def surroundings(market: Market, instruments: list[int], parameters: Parameters) -> Surroundings:
    """What these instruments are, and the market that they are valued in. `parameters` are those in force, as plain values."""
    assets = _assets_named(market, instruments)
    universe = _plain_universe(market, instruments, assets)
    return Surroundings(assets, universe, _plain_view(market, universe, instruments, assets, parameters))


def mark_again(market: Market, asset: int) -> Mark:
    """The mark of an asset once more, from what its sources said."""
    if asset == USD:
        return Mark(1.0)
    definition, seen, p = market.universe.assets[asset], market.observations, market.parameters
    found = mark_of(
        [
            Observation(source, definition.sources[source], float(seen.price[asset, slot]), float(seen.confidence[asset, slot]), published)
            for slot, source in enumerate(market.universe.sources[asset])
            if (published := int(seen.publish_ns[asset, slot])) != NEVER_NS and source in definition.sources
        ],
        market.clock_ns,
        round(p.classes[definition.asset_class].max_age_s * NANOSECONDS),
        p.quorum,
        p.mad_k,
        p.mad_floor_bps,
    )
    if found.price is not None and market.divergence_breakers.state[asset] != CLOSED:
        return Mark(None, "sources_apart")
    return found


def why_unknown(code: int) -> str:
    """A reason as the plain valuation names it, '' for none."""
    return Unknown(code).name.lower() if code else ""


def _key(market: Market, number: int) -> InstrumentKey:
    instrument = market.universe.instruments[number]
    return instrument.venue, instrument.name


def _assets_named(market: Market, instruments: Iterable[int]) -> list[int]:
    terms, into = market.universe.instrument_arrays, market.universe.asset_arrays.redemption_asset
    named = {USD}
    for i in instruments:
        for asset in (int(terms.underlying[i]), int(terms.quote[i])):
            while asset >= 0:
                named.add(asset)
                asset = int(into[asset])
    return sorted(named)


def _plain_universe(market: Market, instruments: Iterable[int], assets: Iterable[int]) -> Universe:
    """Of names alone, in the order of definition, since groups are in that order."""
    numbered, terms = market.universe, market.universe.instrument_arrays
    listed = sorted(set(instruments))
    plain = Universe()
    for definition in (
        *(numbered.chains[chain] for chain in sorted({int(terms.chain[i]) for i in listed})),
        *(numbered.assets[asset] for asset in assets),
        *(numbered.venues[venue] for venue in sorted({int(terms.venue[i]) for i in listed})),
        *(numbered.instruments[i] for i in listed),
    ):
        plain.define(msgspec.to_builtins(definition))
    return plain


def _plain_view(market: Market, plain: Universe, instruments: list[int], assets: list[int], parameters: Parameters) -> View:
    numbered, inputs, values = market.universe, market.inputs, market.values
    terms = numbered.instrument_arrays
    names = {asset: numbered.assets[asset].name for asset in assets}
    keys = {i: _key(market, i) for i in instruments}
    contracts = {i: int(terms.contract[i]) for i in instruments}
    perpetuals = [i for i in keys if contracts[i] in (PERPETUAL, INVERSE_PERPETUAL)]
    futures = [i for i in keys if PERPETUAL <= contracts[i] <= INVERSE_FUTURE]
    spots = [i for i in keys if contracts[i] == SPOT]
    chains = {int(terms.chain[i]): numbered.chains[int(terms.chain[i])].name for i in instruments}

    def by_level(of: Any, named: dict[int, Any]) -> dict[str, dict[Any, float]]:
        return {level: {name: float(of[number, at]) for at, name in named.items()} for level, number in NUMBERS.items()}

    return View(
        parameters=parameters,
        clock_ns=market.clock_ns,
        marks={name: market.mark(asset) for asset, name in names.items()},
        reasons={name: why_unknown(int(market.marks.status[asset])) for asset, name in names.items()},
        stable={name: stable for asset, name in names.items() if not math.isnan(stable := float(market.stable[asset]))},
        indexes={keys[i]: float(values.debt_index[i]) for i in keys if contracts[i] == LOAN},
        basis={keys[i]: float(values.basis[i]) for i in futures},
        funding={keys[i]: float(values.funding[i]) for i in perpetuals},
        settlements={key: settled for i, key in keys.items() if not math.isnan(settled := float(values.settled[i]))},
        sigmas=by_level(inputs.sigma, names),
        correlations=_correlations(market, plain),
        stress=by_level(inputs.stress, _groups(market, assets)),
        implied={
            (names[int(terms.underlying[i])], int(terms.expiry_ns[i])): None if math.isnan(sigma) else sigma
            for i in keys
            if contracts[i] >= OPTION
            for sigma in (float(inputs.option_sigma[i]),)
        },
        depths_usd={name: market.depth_usd(asset) for asset, name in names.items()},
        spreads_bps={name: market.spread_bps(asset) for asset, name in names.items()},
        flats=by_level(inputs.flat, {i: keys[i] for i in spots}),
        latencies=by_level(inputs.latency, {i: keys[i] for i in spots}),
        thins=by_level(inputs.thin, names),
        over=by_level(inputs.over, names),
        paused={name: float(inputs.paused[chain]) for chain, name in chains.items()},
        slips={name: float(inputs.slip[chain]) for chain, name in chains.items()},
    )


def _groups(market: Market, assets: Iterable[int]) -> dict[int, str]:
    """Names of the groups of these assets, by the groups' numbers."""
    group_of, numbered = market.universe.asset_arrays.group, market.universe
    groups = {int(group_of[asset]) for asset in assets} - {-1}
    return {group: numbered.assets[numbered.group_assets[group]].name for group in sorted(groups)}


def _correlations(market: Market, plain: Universe) -> dict[tuple[str, str], float]:
    """Of all pairs of groups, from their covariances."""
    covariance, p = market.covariances.covariance, market.parameters
    numbers = {name: int(market.universe.asset_arrays.group[market.universe.asset_number(name) or 0]) for name in plain.groups()}
    return {
        (g, h): 1.0
        if g == h
        else shrunk(
            float(covariance[i, j]),
            float(covariance[i, i]),
            float(covariance[j, j]),
            plain.prior_correlation(g, h, p.prior_correlation),
            p.correlation_shrink,
        )
        for g, i in numbers.items()
        for h, j in numbers.items()
    }
