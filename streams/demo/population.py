"""Accounts shaped like those of the event: 2,000 drawn from a seed, and 20 named ones small enough to be recomputed by hand.

Each opens in good health at the prices of 20:30. What an account holds comes in as a venue's fills (numbered 1, 2, ... for each account and
venue), as a venue's snapshot, or as attested transfers into a chain's vault.
"""

import math
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from engine.inputs import Fill, InstrumentDefinition, Snapshot, SnapshotPosition
from engine.pricing import black76_delta, black76_price, year_fraction
from streams.demo.definitions import OPTIONS, instruments
from streams.demo.facts import START_NS, first_price, load

SEED = 20251010
ACCOUNTS = 2_000
SHARES = {"usde_looper": 0.30, "altcoin_pledger": 0.25, "market_maker": 0.15, "option_seller": 0.15, "cross_chain_hedger": 0.15}
KINDS = tuple(SHARES)
SNAPSHOT_SEQUENCE = 100  # a venue's counter where the account comes in by a snapshot

Holding = tuple[str, str, float]  # venue, instrument, quantity in units of the instrument's lot_size unit (coins, USD, contracts' coins)


class Opening(NamedTuple):
    """How one account comes in."""

    account: str
    kind: str
    fills: list[Fill]
    snapshots: list[Snapshot]
    attested: list[tuple[str, str, int]]  # (chain, asset, lots), each an attested transfer


def kind_of(account: str) -> str:
    """The kind that an account's name says: `<kind>-<number>` or `named-<number>-<kind>`."""
    parts = account.split("-")
    return parts[2] if parts[0] == "named" else parts[0]


def population(seed: int = SEED, accounts: int = ACCOUNTS) -> list[Opening]:
    """`accounts` drawn ones, in equal shares for each seed, after the 20 named ones."""
    drawn = random.Random(seed)  # noqa: S311 - a population, not a secret
    openings = named()
    for kind, share in SHARES.items():
        for number in range(1, round(accounts * share) + 1):
            account = f"{kind}-{number:04d}"
            holdings = DRAWERS[kind](drawn)
            openings.append(open_account(account, holdings, snapshot_venue="okx" if kind == "option_seller" and number % 5 == 0 else None))
    return openings


def named() -> list[Opening]:
    """Twenty accounts, four of each kind, in round numbers."""
    return [open_account(f"named-{number:02d}-{kind}", holdings) for number, (kind, holdings) in enumerate(_NAMED, 1) if kind in DRAWERS]


def open_account(account: str, holdings: list[Holding], snapshot_venue: str | None = None) -> Opening:
    """Turn holdings into messages: derivatives as trades at the first price, balances and debts as transfers, vaults as credits."""
    known = instruments()
    fills: list[Fill] = []
    attested: list[tuple[str, str, int]] = []
    sequences: dict[str, int] = {}
    held: dict[str, list[SnapshotPosition]] = {}
    for venue, name, quantity in holdings:
        instrument = known[venue, name]
        lots = round(quantity / instrument.lot_size)
        if lots == 0:
            continue
        if venue.startswith("vault-"):
            attested.append((venue.removeprefix("vault-"), instrument.underlying, lots))
            continue
        traded = instrument.contract not in ("spot", "loan")
        price_ticks = max(round(unit_price(instrument) / instrument.tick_size), 1) if traded else 0
        if venue == snapshot_venue:
            cash = _traded_cash(instrument, lots, price_ticks) if traded else 0
            held.setdefault(venue, []).append(SnapshotPosition(name, lots, cash))
            continue
        sequences[venue] = sequences.get(venue, 0) + 1
        fills.append(
            Fill(
                v=1,
                account=account,
                venue=venue,
                instrument=name,
                kind="trade" if traded else "transfer",
                lots=lots,
                price_ticks=price_ticks,
                sequence=sequences[venue],
                time_ns=START_NS,
                fill_id=f"open-{sequences[venue]}",
            )
        )
    snapshots = [
        Snapshot(v=1, account=account, venue=venue, sequence=SNAPSHOT_SEQUENCE, positions=positions, time_ns=START_NS)
        for venue, positions in held.items()
    ]
    return Opening(account, kind_of(account), fills, snapshots, attested)


def unit_price(instrument: InstrumentDefinition) -> float:
    """The price at 20:30 of one unit in the instrument's quote."""
    spot = first_price(instrument.underlying) if instrument.underlying != "USD" else 1.0
    if instrument.contract != "inverse_option":
        return spot
    sigma = load().volatility[instrument.expiry_ns][0].value
    t_years = year_fraction(START_NS, instrument.expiry_ns)
    return float(black76_price(spot, instrument.strike, sigma, t_years, instrument.is_call, 1.0)) / spot


def option_delta(name: str) -> float:
    """Delta of one coin's worth of an option at 20:30, in coins."""
    option = next(option for option in OPTIONS if option.name == name)
    sigma = load().volatility[option.expiry_ns][0].value
    t_years = year_fraction(START_NS, option.expiry_ns)
    return float(black76_delta(first_price("BTC"), option.strike, sigma, t_years, option.is_call, 1.0))


# ---- the five kinds -------------------------------------------------------------------------------------------------------------------

_LIQUID_ALTS = ("XRP", "DOGE", "ADA", "LINK")  # whose sources stayed together
_OTHER_ALTS = ("AVAX", "PEPE", "BCH", "DOT", "ATOM", "AAVE", "UNI", "XLM", "POL", "ENA", "CRV", "WLD")


def _usde_looper(drawn: random.Random) -> list[Holding]:
    """Bought USDe with dollars borrowed against it, four times over."""
    venue = "aave" if drawn.random() < 0.7 else "morpho"
    own_usd = _size(drawn, 40_000.0, 1.0, 2_000_000.0)
    leverage = drawn.uniform(3.6, 4.0)
    return [(venue, "USDe", own_usd * leverage), (venue, "USD-LOAN", -own_usd * (leverage - 1.0))]


def _altcoin_pledger(drawn: random.Random) -> list[Holding]:
    """Pledges altcoins on one venue for dollars, and loops USDe with them on another; many hold the coin's perpetual as well."""
    alt = drawn.choice(_LIQUID_ALTS if drawn.random() < 0.75 else _OTHER_ALTS)
    pledged_usd = _size(drawn, 60_000.0, 1.0, 2_000_000.0)
    borrowed_usd = pledged_usd * drawn.uniform(0.35, 0.6)
    loops = drawn.uniform(2.0, 3.5)
    longs_usd = pledged_usd * drawn.uniform(0.0, 1.4) if alt in _LIQUID_ALTS else 0.0
    price = first_price(alt)
    return [
        ("binance", alt, pledged_usd / price),
        ("binance", "USD-LOAN", -borrowed_usd),
        ("aave", "USDe", borrowed_usd * loops),
        ("aave", "USD-LOAN", -borrowed_usd * (loops - 1.0)),
        *([("binance", f"{alt}-PERP", longs_usd / price)] if longs_usd > 0.0 else []),
    ]


def _market_maker(drawn: random.Random) -> list[Holding]:
    """Long on one venue what it is short on the other, in one unified account; what is left over leans long."""
    collateral_usd = _size(drawn, 250_000.0, 1.0, 5_000_000.0)
    holdings: list[Holding] = [
        ("binance", "USD", collateral_usd * 0.5),
        ("hyperliquid", "USD", collateral_usd * 0.4),
        ("okx", "BTC", collateral_usd * 0.1 / first_price("BTC")),
    ]
    for asset in drawn.sample(("BTC", "ETH", "SOL", "XRP", "DOGE", "LINK"), drawn.randint(2, 5)):
        leg_usd = collateral_usd * drawn.uniform(1.0, 4.0)
        lean = drawn.uniform(-0.05, 0.45)
        side = drawn.choice((-1.0, 1.0))
        price = first_price(asset)
        bought, sold = ("binance", "hyperliquid") if side > 0 else ("hyperliquid", "binance")
        holdings.append((bought, f"{asset}-PERP", leg_usd * (1.0 + lean) / price))
        holdings.append((sold, f"{asset}-PERP", -leg_usd / price))
    return holdings


def _option_seller(drawn: random.Random) -> list[Holding]:
    """Sold calls and puts on BTC held as collateral, hedged to delta zero with a perpetual: what is left is short gamma.

    Within the position limits, and small enough beside the depth of BTC that concentration leaves initial margin.
    """
    coins = _size(drawn, 3.0, 0.9, 20.0)
    sold = drawn.uniform(5.0, 10.0) * coins
    holdings: list[Holding] = [("okx", "BTC", coins)]
    delta = coins
    for name in drawn.sample([option.name for option in OPTIONS], drawn.randint(2, 3)):
        contracts = sold * drawn.uniform(0.25, 0.5)
        holdings.append(("okx", name, -contracts))
        delta -= contracts * option_delta(name)
    hedge = ("binance", "BTC-PERP", -delta) if drawn.random() < 0.5 else ("okx", "BTC-USD-SWAP", -delta * first_price("BTC"))
    return [*holdings, hedge, ("binance", "USD", coins * first_price("BTC") * drawn.uniform(0.0, 0.1))]


def _cross_chain_hedger(drawn: random.Random) -> list[Holding]:
    """Coins in a vault on one chain, bought partly with borrowed dollars on a second, against a short perpetual on a third."""
    chain, asset = drawn.choice(
        (("arbitrum", "ETH"), ("arbitrum", "BTC"), ("optimism", "ETH"), ("ethereum", "BTC"), ("ethereum", "ETH"), ("solana", "SOL"))
    )
    coins_usd = _size(drawn, 80_000.0, 1.0, 3_000_000.0)
    price = first_price(asset)
    return [
        (f"vault-{chain}", asset, coins_usd / price),
        ("hyperliquid", f"{asset}-PERP", -coins_usd * drawn.uniform(0.85, 1.0) / price),
        ("hyperliquid", "USD", coins_usd * drawn.uniform(0.02, 0.06)),
        ("aave", "USD-LOAN", -coins_usd * drawn.uniform(0.78, 0.89)),
    ]


DRAWERS: dict[str, Callable[[random.Random], list[Holding]]] = {
    "usde_looper": _usde_looper,
    "altcoin_pledger": _altcoin_pledger,
    "market_maker": _market_maker,
    "option_seller": _option_seller,
    "cross_chain_hedger": _cross_chain_hedger,
}

# Of each kind some fall in the crash and some don't: one holds coins of which sources stand apart (8), one is hedged to nothing (11), one's
# calls are covered (16). Fills come in this order, and no account is short in between.
_NAMED: list[tuple[str, list[Holding]]] = [
    ("usde_looper", [("aave", "USDe", 40_000.0), ("aave", "USD-LOAN", -30_000.0)]),
    ("usde_looper", [("aave", "USDe", 400_000.0), ("aave", "USD-LOAN", -300_000.0)]),
    ("usde_looper", [("morpho", "USDe", 80_000.0), ("morpho", "USD-LOAN", -60_000.0)]),
    ("usde_looper", [("aave", "USDe", 30_000.0), ("morpho", "USD-LOAN", -20_000.0)]),
    ("altcoin_pledger", [("binance", "DOGE", 400_000.0), ("binance", "USD-LOAN", -50_000.0), ("binance", "DOGE-PERP", 100_000.0)]),
    (
        "altcoin_pledger",
        [
            ("binance", "XRP", 40_000.0),
            ("binance", "USD-LOAN", -50_000.0),
            ("binance", "XRP-PERP", 40_000.0),
            ("aave", "USDe", 150_000.0),
            ("aave", "USD-LOAN", -100_000.0),
        ],
    ),
    (
        "altcoin_pledger",
        [("binance", "LINK", 5_000.0), ("binance", "USD-LOAN", -50_000.0), ("aave", "USDe", 250_000.0), ("aave", "USD-LOAN", -200_000.0)],
    ),
    ("altcoin_pledger", [("binance", "AVAX", 4_000.0), ("binance", "USD-LOAN", -40_000.0), ("aave", "USDe", 40_000.0)]),
    ("market_maker", [("binance", "USD", 100_000.0), ("hyperliquid", "BTC-PERP", -5.0), ("binance", "BTC-PERP", 9.0)]),
    (
        "market_maker",
        [
            ("binance", "USD", 50_000.0),
            ("hyperliquid", "USD", 50_000.0),
            ("binance", "ETH-PERP", -50.0),
            ("hyperliquid", "ETH-PERP", 100.0),
            ("binance", "SOL-PERP", 1_000.0),
        ],
    ),
    ("market_maker", [("binance", "USD", 60_000.0), ("binance", "SOL-PERP", 1_000.0), ("hyperliquid", "SOL-PERP", -1_000.0)]),
    ("market_maker", [("okx", "BTC", 1.0), ("okx", "BTC-USD-SWAP", -50_000.0), ("binance", "XRP-PERP", 100_000.0)]),
    ("option_seller", [("okx", "BTC", 10.0), ("okx", "BTC-251031-135000-C", -50.0), ("binance", "BTC-PERP", -5.0)]),
    (
        "option_seller",
        [
            ("okx", "BTC", 5.0),
            ("okx", "BTC-251128-102000-C", -20.0),
            ("okx", "BTC-USD-SWAP", 2_000_000.0),
            ("okx", "BTC-251128-102000-C", -25.0),
            ("okx", "BTC-USD-SWAP", 2_000_000.0),
        ],
    ),
    (
        "option_seller",
        [
            ("okx", "BTC", 4.0),
            ("okx", "BTC-251031-80000-P", -30.0),
            ("okx", "BTC-251031-80000-C", -25.0),
            ("binance", "BTC-PERP", 20.0),
            ("binance", "USD", 50_000.0),
        ],
    ),
    ("option_seller", [("okx", "BTC", 6.0), ("okx", "BTC-251128-102000-C", -6.0), ("binance", "USD", 60_000.0)]),
    ("cross_chain_hedger", [("vault-arbitrum", "ETH", 100.0), ("hyperliquid", "ETH-PERP", -100.0), ("aave", "USD-LOAN", -330_000.0)]),
    ("cross_chain_hedger", [("vault-ethereum", "BTC", 3.0), ("hyperliquid", "BTC-PERP", -3.0), ("aave", "USD-LOAN", -290_000.0)]),
    ("cross_chain_hedger", [("vault-solana", "SOL", 1_000.0), ("hyperliquid", "SOL-PERP", -900.0), ("aave", "USD-LOAN", -160_000.0)]),
    (
        "cross_chain_hedger",
        [("vault-optimism", "ETH", 50.0), ("okx", "ETH", 10.0), ("hyperliquid", "ETH-PERP", -40.0), ("morpho", "USD-LOAN", -205_000.0)],
    ),
]


def _size(drawn: random.Random, median: float, spread: float, largest: float) -> float:
    """A lognormal size between a tenth of the median and `largest`."""
    return min(max(median * math.exp(drawn.gauss(0.0, spread)), median / 10.0), largest)


def _traded_cash(instrument: InstrumentDefinition, lots: int, price_ticks: int) -> int:
    """Cash units that buying `lots` at `price_ticks` leaves behind (docs/model.md, section 1)."""
    if instrument.contract in ("inverse_perpetual", "inverse_future"):
        return round(lots * instrument.lot_size / (price_ticks * instrument.tick_size) / 1e-9)
    unit = 1e-6 if instrument.quote == "USD" else 1e-9
    return -lots * price_ticks * round(instrument.lot_size * instrument.tick_size / unit)


def messages(openings: list[Opening]) -> Iterator[Any]:
    """The fills and snapshots of all accounts, account by account."""
    for opening in openings:
        yield from opening.snapshots
        yield from opening.fills
