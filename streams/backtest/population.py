"""Accounts drawn from a seed for each episode, of the kinds of the demo where its assets allow, and plain directional ones."""

import math
import random
from collections.abc import Callable
from typing import Final, NamedTuple

from engine.inputs import Fill, InstrumentDefinition
from engine.pricing import black76_delta, black76_price, year_fraction
from streams.backtest.episodes import Episode, asset_class, expiry_ns
from streams.backtest.world import instruments
from streams.demo.definitions import OPTIONS, OptionSeries

SEED: Final = 20251010
ACCOUNTS: Final = 300  # of each episode

Holding = tuple[str, str, float]  # venue, instrument, quantity in coins, dollars, or contracts of one coin
Drawer = Callable[[random.Random, Episode], list[Holding]]


class Opening(NamedTuple):
    """How one account comes in."""

    account: str
    kind: str
    fills: list[Fill]


def population(episode: Episode, accounts: int = ACCOUNTS, seed: int = SEED) -> list[Opening]:
    """About `accounts` accounts, in equal shares of the episode's kinds, at the prices of its first minute."""
    kinds = kinds_of(episode)
    openings = []
    for kind in kinds:
        drawn = random.Random(f"{seed}/{episode.name}/{kind}")  # noqa: S311 - a population, not a secret
        names = [f"{kind}-{number:04d}" for number in range(1, max(accounts // len(kinds), 1) + 1)]
        openings += [open_account(episode, name, kind, DRAWERS[kind](drawn, episode)) for name in names]
    return openings


def kinds_of(episode: Episode) -> list[str]:
    """The kinds for which the episode has assets, and volatilities where they hold options."""
    left_out = set()
    if not _dollars(episode):
        left_out.add("stable_collateral")
    if len(_coins(episode)) < 2:
        left_out.add("spread")
    if not episode.sigmas:
        left_out.add("option_seller")
    return [kind for kind in DRAWERS if kind not in left_out]


def open_account(episode: Episode, account: str, kind: str, holdings: list[Holding]) -> Opening:
    """Derivatives come in as trades at the first price, balances and debts as transfers; each venue numbers its own."""
    known = instruments(episode)
    sequences: dict[str, int] = {}
    fills = []
    for venue, name, quantity in holdings:
        instrument = known[venue, name]
        lots = round(quantity / instrument.lot_size)
        if lots == 0:
            continue
        traded = instrument.contract in ("perpetual", "inverse_option")
        sequences[venue] = sequences.get(venue, 0) + 1
        fills.append(
            Fill(
                v=1,
                account=account,
                venue=venue,
                instrument=name,
                kind="trade" if traded else "transfer",
                lots=lots,
                price_ticks=max(round(_unit_price(episode, instrument) / instrument.tick_size), 1) if traded else 0,
                sequence=sequences[venue],
                time_ns=episode.start_ns,
            )
        )
    return Opening(account, kind, fills)


def _unit_price(episode: Episode, instrument: InstrumentDefinition) -> float:
    """The first price of one unit, in the instrument's quote."""
    spot = episode.first_price(instrument.underlying)
    if instrument.contract != "inverse_option":
        return spot
    sigma, t_years = _volatility(episode, instrument.expiry_ns)
    return float(black76_price(spot, instrument.strike, sigma, t_years, instrument.is_call, 1.0)) / spot


def _volatility(episode: Episode, expiry: int) -> tuple[float, float]:
    """(volatility, years to expiry) of an expiry at the start."""
    series = next(series for series in episode.sigmas if expiry_ns(series) == expiry)
    return float(series.values[0]), year_fraction(episode.start_ns, expiry)


def _option_delta(episode: Episode, option: OptionSeries) -> float:
    sigma, t_years = _volatility(episode, option.expiry_ns)
    return float(black76_delta(episode.first_price("BTC"), option.strike, sigma, t_years, option.is_call, 1.0))


# ---- the kinds ------------------------------------------------------------------------------------------------------------------------

_LEVERAGES = {"major": (2.0, 3.0, 5.0), "alt": (1.5, 2.0, 3.0)}


def _directional(drawn: random.Random, episode: Episode, side: float) -> list[Holding]:
    coin = drawn.choice(_coins(episode))
    own_usd = _size(drawn, 50_000.0)
    notional = own_usd * drawn.choice(_LEVERAGES[asset_class(coin)])
    return [("binance", "USD", own_usd), ("binance", f"{coin}-PERP", side * notional / episode.first_price(coin))]


def _long(drawn: random.Random, episode: Episode) -> list[Holding]:
    """One perpetual, at one of three leverages."""
    return _directional(drawn, episode, 1.0)


def _short(drawn: random.Random, episode: Episode) -> list[Holding]:
    """The other side of it."""
    return _directional(drawn, episode, -1.0)


def _spread(drawn: random.Random, episode: Episode) -> list[Holding]:
    """Long one coin and short another on another venue, for the same money: safe as long as they move together."""
    bought, sold = drawn.sample(_coins(episode), 2)
    own_usd = _size(drawn, 80_000.0)
    leg_usd = own_usd * drawn.uniform(1.5, 3.5)
    return [
        ("binance", "USD", own_usd * 0.5),
        ("hyperliquid", "USD", own_usd * 0.5),
        ("binance", f"{bought}-PERP", leg_usd / episode.first_price(bought)),
        ("hyperliquid", f"{sold}-PERP", -leg_usd / episode.first_price(sold)),
    ]


def _market_maker(drawn: random.Random, episode: Episode) -> list[Holding]:
    """Long on one venue what it is short on the other; what is left over leans."""
    own_usd = _size(drawn, 250_000.0)
    holdings: list[Holding] = [("binance", "USD", own_usd * 0.55), ("hyperliquid", "USD", own_usd * 0.45)]
    coins = _coins(episode)
    for coin in drawn.sample(coins, min(drawn.randint(1, 3), len(coins))):
        leg_usd = own_usd * drawn.uniform(1.0, 4.0)
        lean = drawn.uniform(-0.15, 0.35)
        side = drawn.choice((-1.0, 1.0))
        price = episode.first_price(coin)
        holdings.append(("binance", f"{coin}-PERP", side * leg_usd * (1.0 + lean) / price))
        holdings.append(("hyperliquid", f"{coin}-PERP", -side * leg_usd / price))
    return holdings


def _cross_chain_hedger(drawn: random.Random, episode: Episode) -> list[Holding]:
    """Coins on one chain, bought partly with borrowed dollars, against a short perpetual on another."""
    coin = drawn.choice([coin for coin in _coins(episode) if asset_class(coin) == "major"])
    coins_usd = _size(drawn, 80_000.0)
    price = episode.first_price(coin)
    return [
        ("aave", coin, coins_usd / price),
        ("hyperliquid", "USD", coins_usd * drawn.uniform(0.02, 0.06)),
        ("hyperliquid", f"{coin}-PERP", -coins_usd * drawn.uniform(0.85, 1.0) / price),
        ("aave", "USD-LOAN", -coins_usd * drawn.uniform(0.6, 0.75)),
    ]


def _looper(drawn: random.Random, episode: Episode) -> list[Holding]:
    """Bought with dollars that were borrowed against it: a dollar token several times over where there is one, or a coin."""
    dollars = _dollars(episode)
    own_usd = _size(drawn, 40_000.0)
    if dollars and drawn.random() < 0.7:
        asset, leverage = drawn.choice(dollars), drawn.uniform(3.6, 5.0)
    else:
        asset, leverage = drawn.choice([coin for coin in _coins(episode) if asset_class(coin) == "major"]), drawn.uniform(1.5, 2.8)
    return [("aave", asset, own_usd * leverage / episode.first_price(asset)), ("aave", "USD-LOAN", -own_usd * (leverage - 1.0))]


def _stable_collateral(drawn: random.Random, episode: Episode) -> list[Holding]:
    """A perpetual whose margin is a dollar token: where the token breaks, a hedge does not help."""
    coin, dollar = drawn.choice(_coins(episode)), drawn.choice(_dollars(episode))
    own_usd = _size(drawn, 60_000.0)
    notional = own_usd * drawn.uniform(1.0, 3.0) * drawn.choice((-1.0, 1.0))
    return [
        ("hyperliquid", dollar, own_usd / episode.first_price(dollar)),
        ("hyperliquid", f"{coin}-PERP", notional / episode.first_price(coin)),
    ]


def _option_seller(drawn: random.Random, episode: Episode) -> list[Holding]:
    """Sold calls and puts on BTC held as collateral, hedged to delta zero with a perpetual: what is left is short gamma."""
    coins = _size(drawn, 3.0)
    sold = drawn.uniform(2.0, 7.0) * coins
    holdings: list[Holding] = [("okx", "BTC", coins)]
    delta = coins
    for option in drawn.sample(OPTIONS, drawn.randint(2, 3)):
        contracts = sold * drawn.uniform(0.25, 0.5)
        holdings.append(("okx", option.name, -contracts))
        delta -= contracts * _option_delta(episode, option)
    return [*holdings, ("binance", "BTC-PERP", -delta), ("binance", "USD", coins * episode.first_price("BTC") * drawn.uniform(0.0, 0.1))]


DRAWERS: Final[dict[str, Drawer]] = {
    "long": _long,
    "short": _short,
    "spread": _spread,
    "market_maker": _market_maker,
    "cross_chain_hedger": _cross_chain_hedger,
    "looper": _looper,
    "stable_collateral": _stable_collateral,
    "option_seller": _option_seller,
}


def _coins(episode: Episode) -> list[str]:
    return [asset for asset in episode.assets if asset_class(asset) in ("major", "alt")]


def _dollars(episode: Episode) -> list[str]:
    return [asset for asset in episode.assets if asset_class(asset) in ("stable", "synthetic_dollar")]


def _size(drawn: random.Random, median: float) -> float:
    """A lognormal size between a tenth of the median and thirty times it."""
    return min(max(median * math.exp(drawn.gauss(0.0, 1.0)), median / 10.0), median * 30.0)
