"""One portfolio as a JSON file: what exists, what it is worth, and what one account holds; as `plimsoll margin` reads it (docs/margin.md).

What exists is said as on the bus (engine.inputs), with defaults for what a single calculation need not say.
"""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from engine.inputs import (
    AssetDefinition,
    ChainDefinition,
    InstrumentDefinition,
    Int64,
    Name,
    NonNegative,
    Positive,
    Price,
    TimeNs,
    VenueDefinition,
    VenueRule,
    Version,
)
from engine.tables import POSITIONS_MAX
from streams.json_faults import faults_of

PORTFOLIO_BYTES_MAX: Final = 4 * 1024 * 1024
LOT_SIZE: Final = 0.0001  # units, where an instrument does not say; a dollar for inverse perpetuals and futures
TICK_SIZE: Final = 0.01
_DIGITS_OF_TIME: Final = 19  # of nanoseconds since 1970, at most
WHOLE_TOLERANCE: Final = 1e-9  # a quantity is a product of decimals written as doubles
_LOTS_OF_USD: Final = ("inverse_perpetual", "inverse_future")

Moment = Annotated[str | int, Meta(description="ISO 8601 with its zone (2025-10-10T21:20:00Z), or nanoseconds since 1970.")]
Sigma = Annotated[float, Meta(gt=0.0, le=20.0, description="Implied volatility, an annualised decimal: 0.8 is 80 %.")]
Seconds = Annotated[float, Meta(ge=0.0, le=31_536_000.0)]


class PortfolioFault(ValueError):
    """A file that is no portfolio; the text names every fault with its path."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n  ".join(["the portfolio is not in order:", *faults]))
        self.faults = faults


# ---- what exists ----------------------------------------------------------------------------------------------------------------------


class Asset(AssetDefinition, frozen=True, kw_only=True, tag="asset"):
    """An asset, as `market.instruments` has it. Sources need not be named: they are those of its mark."""

    v: Version = 1
    time_ns: TimeNs = 0
    asset_class: Literal["cash", "major", "alt", "stable", "synthetic_dollar", "liquid_staking", "real_world", "governance"] = "major"


class Chain(ChainDefinition, frozen=True, kw_only=True, tag="chain"):
    """A chain, as `market.instruments` has it; at once final and heard of where it does not say otherwise."""

    v: Version = 1
    time_ns: TimeNs = 0
    finality_s: NonNegative = 0.0
    messaging_delay_s: NonNegative = 0.0


class Venue(VenueDefinition, frozen=True, kw_only=True, tag="venue"):
    """A venue, as `market.instruments` has it."""

    v: Version = 1
    time_ns: TimeNs = 0


class Instrument(InstrumentDefinition, frozen=True, kw_only=True, tag="instrument"):
    """An instrument, as `market.instruments` has it, or with `expiry` as a time. `quote`: USD, of inverse contracts the underlying."""

    v: Version = 1
    time_ns: TimeNs = 0
    contract: Literal["spot", "loan", "perpetual", "inverse_perpetual", "future", "inverse_future", "option", "inverse_option"] = "spot"
    quote: Name | None = None  # type: ignore[assignment]
    lot_size: Positive | None = None  # type: ignore[assignment]
    tick_size: Positive = TICK_SIZE
    expiry: Moment | None = None


# ---- what is observed, and what is held -----------------------------------------------------------------------------------------------


class DepthAndSpread(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """USD on the bid side within 2 % of the mark, and the spread; without it, the parameters' floor."""

    depth_usd: NonNegative
    spread_bps: NonNegative | None = None


class Held(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One position, short or owed below 0: `lots`, or `quantity` in units of the underlying; of inverse perpetuals and futures in USD.

    An instrument that is not defined and has the name of an asset is spot of it. `entry_price`: what was paid for all of it, in cash of the
    quote; `cash` comes on top (premiums, realised profits, funding), in units of the quote.
    """

    venue: Name
    instrument: Name
    lots: Int64 | None = None
    quantity: Annotated[float, Meta(ge=-1e18, le=1e18)] | None = None
    cash: Annotated[float, Meta(ge=-1e12, le=1e12)] = 0.0
    entry_price: Price | None = None


class Portfolio(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole file. Observations are of `clock` and fresh. Marks in USD: one number, or one for each source."""

    clock: Moment
    account: Name = "portfolio"
    assets: list[Asset] = []
    chains: list[Chain]
    venues: list[Venue]
    instruments: list[Instrument] = []
    marks: dict[Name, Price | dict[Name, Price]] = {}
    depths: dict[Name, NonNegative | DepthAndSpread] = {}
    implied_volatilities: dict[Name, dict[str, Sigma]] = {}  # underlying -> expiry -> sigma
    lags: dict[Name, Seconds] = {}  # chain -> how long its word takes, 95 times of 100
    interest_indexes: dict[str, Positive] = {}  # "venue/instrument" of a loan -> debt = lots x index
    positions: Annotated[list[Held], Meta(min_length=1, max_length=POSITIONS_MAX)]
    rules: dict[Name, VenueRule] = {}  # by venue, where the venue itself says none


def portfolio_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the file."""
    schema: dict[str, Any] = msgspec.json.schema(Portfolio)
    for definition in schema["$defs"].values():
        if "required" in definition:  # the word for what a definition is, which messages need, follows from its place
            definition["required"] = [name for name in definition["required"] if name != "kind"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "portfolio", **schema}


# ---- reading --------------------------------------------------------------------------------------------------------------------------


def read_portfolio(path: Path) -> Portfolio:
    """The portfolio in a file. Raises PortfolioFault with every fault at once, and OSError."""
    with path.open("rb") as file:
        content = file.read(PORTFOLIO_BYTES_MAX + 1)
    if len(content) > PORTFOLIO_BYTES_MAX:
        raise PortfolioFault([f"the document: it has more than {PORTFOLIO_BYTES_MAX:,} bytes"])
    return parse_portfolio(content)


def parse_portfolio(content: bytes) -> Portfolio:
    """The same of bytes. What only the engine can refuse (names that nothing has, terms that do not fit) is not looked at here."""
    try:
        raw = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise PortfolioFault([f"the document: {error}"]) from None
    except RecursionError:
        raise PortfolioFault(["the document: it is nested too deeply to be a portfolio"]) from None
    faults = faults_of(raw, Portfolio)
    if faults:
        raise PortfolioFault(faults)
    portfolio = msgspec.convert(raw, Portfolio)
    faults = [*_moment_faults(portfolio), *_rule_faults(portfolio), *_position_faults(portfolio)]
    if faults:
        raise PortfolioFault(faults)
    return portfolio


def rule_of(portfolio: Portfolio, venue: str) -> tuple[str, VenueRule] | None:
    """By which rule a venue goes, and where the file says it."""
    for k, one in enumerate(portfolio.venues):
        if one.name == venue and one.rule is not None:
            return f"venues[{k}].rule", one.rule
    said = portfolio.rules.get(venue)
    return None if said is None else (f"rules.{venue}", said)


def moment_ns(moment: str | int) -> int:
    """Nanoseconds since 1970. Raises ValueError in words for what is no time, or has no zone."""
    if isinstance(moment, str) and moment.isascii() and moment.isdigit() and len(moment) <= _DIGITS_OF_TIME:
        moment = int(moment)
    if isinstance(moment, int):
        if not 0 < moment <= 2**62:
            raise ValueError(f"{moment} is not a time in nanoseconds since 1970")
        return moment
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        raise ValueError(f"{moment!r} is no time; write 2025-10-10T21:20:00Z, or nanoseconds since 1970") from None
    if parsed.tzinfo is None:
        raise ValueError(f"{moment!r} has no zone; end it with Z for UTC")
    whole_s = parsed.replace(microsecond=0).timestamp()
    if not 0 < whole_s < 2**62 / 1e9:
        raise ValueError(f"{moment!r} is before 1970 or after 2116")
    return int(whole_s) * 1_000_000_000 + parsed.microsecond * 1_000


def _moment_faults(portfolio: Portfolio) -> list[str]:
    told = [("clock", portfolio.clock)]
    told += [(f"instruments[{k}].expiry", one.expiry) for k, one in enumerate(portfolio.instruments) if one.expiry is not None]
    told += [(f"implied_volatilities.{asset}.{at}", at) for asset, quotes in portfolio.implied_volatilities.items() for at in quotes]
    found = []
    for path, moment in told:
        try:
            moment_ns(moment)
        except ValueError as error:
            found.append(f"{path}: {error}")
    return found


def _rule_faults(portfolio: Portfolio) -> list[str]:
    return [
        f"rules.{one.name}: venues[{k}].rule says by which rule {one.name} goes too; say it once"
        for k, one in enumerate(portfolio.venues)
        if one.rule is not None and one.name in portfolio.rules
    ]


def _position_faults(portfolio: Portfolio) -> list[str]:
    found: list[str] = []
    places: dict[tuple[str, str], int] = {}
    timeless = [msgspec.structs.replace(one, expiry=None) for one in portfolio.instruments]  # a wrong time is told elsewhere
    terms = instruments_of(msgspec.structs.replace(portfolio, instruments=timeless))
    for k, held in enumerate(portfolio.positions):
        path, key = f"positions[{k}]", (held.venue, held.instrument)
        if key in places:
            found.append(f"{path}: positions[{places[key]}] is of {held.venue} {held.instrument} too")
        places.setdefault(key, k)
        if held.lots is not None and held.quantity is not None:
            found.append(f"{path}: say lots or quantity, not both")
        if key not in terms:
            found.append(f"{path}.instrument: {held.venue} has no instrument {held.instrument}, and no asset is called so")
            continue
        try:
            lots = lots_of(held, terms[key])
        except ValueError as error:
            found.append(f"{path}.quantity: {error}")
            continue
        if lots > 0 and terms[key].contract == "loan":
            found.append(f"{path}: {held.instrument} is a loan: what is owed is below 0")
        try:
            cash_quote_of(held, terms[key])
        except ValueError as error:
            found.append(f"{path}.entry_price: {error}")
    return found


def instruments_of(portfolio: Portfolio) -> dict[tuple[str, str], InstrumentDefinition]:
    """Every instrument by (venue, name), defaults filled in, in the order of definition; then the spots that only positions name."""
    found = {(one.venue, one.name): _defined(one) for one in portfolio.instruments}
    assets = {"USD", *(asset.name for asset in portfolio.assets)}
    for held in portfolio.positions:
        if (held.venue, held.instrument) not in found and held.instrument in assets:
            spot = Instrument(venue=held.venue, name=held.instrument, underlying=held.instrument)
            found[held.venue, held.instrument] = _defined(spot)
    return found


def _defined(one: Instrument) -> InstrumentDefinition:
    inverse = one.contract.startswith("inverse")
    default_lot = 1.0 if one.contract in _LOTS_OF_USD else LOT_SIZE
    return InstrumentDefinition(
        v=1,
        time_ns=0,
        venue=one.venue,
        name=one.name,
        contract=one.contract,
        underlying=one.underlying,
        quote=one.quote or (one.underlying if inverse else "USD"),
        lot_size=one.lot_size or default_lot,
        tick_size=one.tick_size,
        strike=one.strike,
        expiry_ns=one.expiry_ns if one.expiry is None else moment_ns(one.expiry),
        is_call=one.is_call,
        tradable=one.tradable,
    )


def lots_of(held: Held, instrument: InstrumentDefinition) -> int:
    """Whole lots of a position. Raises ValueError in words where its quantity is not a whole number of them, or far too many."""
    if held.quantity is None:
        return held.lots or 0
    lots = held.quantity / instrument.lot_size
    if not abs(lots) <= 2**62:
        raise ValueError(f"{held.quantity:g} is more lots of {instrument.lot_size:g} than can be held")
    whole = round(lots)
    if abs(lots - whole) > WHOLE_TOLERANCE * max(1.0, abs(lots)):
        raise ValueError(f"{held.quantity:g} is not a whole number of lots of {instrument.lot_size:g}")
    return whole


def cash_quote_of(held: Held, instrument: InstrumentDefinition) -> float:
    """Cash of a position in units of its quote: what was paid at the entry price, and what is told besides.

    Raises ValueError in words where that is more than there can be.
    """
    if held.entry_price is None:
        return held.cash
    units = lots_of(held, instrument) * instrument.lot_size
    paid = -units / held.entry_price if instrument.contract in _LOTS_OF_USD else units * held.entry_price
    if not math.isfinite(paid):
        raise ValueError(f"{units:g} at {held.entry_price:g} is more cash than can be held")
    return held.cash - paid
