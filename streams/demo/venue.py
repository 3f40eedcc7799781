"""A venue that fills orders at its own mark plus half the spread, late, in part where the book is thin, and each order at most once.

What cannot be filled rests until it can be or expires: a venue that refused at once would be asked again at once, without end.
"""

import math
from statistics import median
from typing import Literal, NamedTuple

from engine.effects import Order
from engine.inputs import Depth, Fill, ImpliedVolatility, InstrumentDefinition, Message, OraclePrice, OrderReport, Snapshot
from engine.pricing import black76_price, year_fraction
from streams.demo.definitions import VENUES
from streams.demo.facts import SECOND_NS

LATENCY_NS = 2 * SECOND_NS  # event time from decision to fill
PRICE_AGE_NS = 60 * SECOND_NS
DEPTH_SHARE = 0.5  # an order takes at most this share of the depth within 2 % at once
SPREAD_BPS = 10.0  # where no spread was ever told
_USD_LOTS = ("inverse_perpetual", "inverse_future")  # contracts whose lots are dollars


class Answer(NamedTuple):
    """What became of an order: at most one fill, and a report."""

    fills: list[Fill]
    report: OrderReport


class _Resting:
    """An order in the venue's book."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.filled_lots = 0
        self.fill_ids: list[str] = []

    @property
    def left_lots(self) -> int:
        return abs(self.order.lots) - self.filled_lots


class Venue:
    """All venues of the demo in one. Its answers depend on the messages given to it and on their order alone.

    Grows by one entry an order and one a (account, venue): bounded by the length of the replay.
    """

    def __init__(self, instruments: dict[tuple[str, str], InstrumentDefinition]) -> None:
        self._instruments = instruments
        self._prices: dict[str, dict[str, tuple[int, float]]] = {}
        self._depths: dict[str, Depth] = {}
        self._volatilities: dict[tuple[str, int], float] = {}
        self._sequences: dict[tuple[str, str], int] = {}
        self._answered: set[str] = set()
        self._resting: dict[str, _Resting] = {}  # by order id, in order of arrival
        self._clock_ns = 0

    def observe(self, message: Message) -> None:
        """Takes in market data, and positions that came in from elsewhere; other messages don't concern a venue."""
        match message:
            case OraclePrice():
                self._prices.setdefault(message.asset, {})[message.source] = (message.publish_time_ns, message.price)
                self._clock_ns = max(self._clock_ns, message.publish_time_ns)
            case Depth():
                self._depths[message.asset] = message
            case ImpliedVolatility():
                self._volatilities[message.underlying, message.expiry_ns] = message.sigma
            case Fill():
                key = message.account, message.venue
                self._sequences[key] = max(self._sequences.get(key, 0), message.sequence)
                if message.order_id:
                    self._answered.add(message.order_id)
            case Snapshot():
                key = message.account, message.venue
                self._sequences[key] = max(self._sequences.get(key, 0), message.sequence)
            case OrderReport():
                self._answered.add(message.order_id)
            case _:
                pass

    def execute(self, order: Order) -> Answer | None:
        """Fill an order, in part where the book is thin, or let it rest; None where this very order was answered before."""
        if order.order_id in self._answered:
            return None
        self._answered.add(order.order_id)
        at = max(order.decided_ns, self._clock_ns) + LATENCY_NS
        if at >= order.expires_ns:
            return self._report(_Resting(order), [], at, "arrived too late")
        return self._try(_Resting(order), at)

    def advance(self, now_ns: int) -> list[Answer]:
        """Look at the orders that rest, oldest first: fill what can be filled now, give up what has expired."""
        self._clock_ns = max(self._clock_ns, now_ns)
        answers = []
        for resting in list(self._resting.values()):
            if now_ns >= resting.order.expires_ns:
                answers.append(self._report(resting, [], now_ns, "nobody took it in time"))
            else:
                before = resting.filled_lots
                answer = self._try(resting, now_ns)
                if resting.filled_lots > before:
                    answers.append(answer)
        return answers

    def _try(self, resting: "_Resting", at: int) -> Answer:
        order = resting.order
        instrument = self._instruments[order.venue, order.instrument]
        mark = self._mark(instrument, at)
        if mark is None:
            return self._report(resting, [], at, "the venue has no price")
        price_ticks = self._price_ticks(instrument, mark, buys=order.lots > 0)
        if price_ticks > order.limit_ticks if order.lots > 0 else price_ticks < order.limit_ticks:
            return self._report(resting, [], at, "the limit is beyond the venue's price")
        lots = self._lots_on_offer(instrument, resting.left_lots, mark)
        if lots == 0:
            return self._report(resting, [], at, "no depth")
        return self._fill(resting, instrument, lots, price_ticks, at)

    def _fill(self, resting: "_Resting", instrument: InstrumentDefinition, lots: int, price_ticks: int, at: int) -> Answer:
        order = resting.order
        key = order.account, order.venue
        sequence = self._sequences[key] = self._sequences.get(key, 0) + 1
        fill = Fill(
            v=1,
            account=order.account,
            venue=order.venue,
            instrument=order.instrument,
            kind="trade",
            lots=lots if order.lots > 0 else -lots,
            price_ticks=price_ticks,
            cash=-_fee(instrument, lots, price_ticks),
            sequence=sequence,
            time_ns=at,
            fill_id=f"{order.venue}-{sequence}",
            order_id=order.order_id,
        )
        resting.filled_lots += lots
        resting.fill_ids.append(fill.fill_id)
        return self._report(resting, [fill], at, "" if resting.left_lots == 0 else "no more depth for now")

    def _report(self, resting: "_Resting", fills: list[Fill], at: int, reason: str) -> Answer:
        """What became of the order so far; what is neither filled nor expired rests."""
        order = resting.order
        status: Literal["acknowledged", "partly_filled", "filled", "expired"]
        if resting.left_lots == 0:
            status = "filled"
        elif at >= order.expires_ns:
            status = "expired"
        else:
            status = "partly_filled" if resting.filled_lots else "acknowledged"
        if status in ("filled", "expired"):
            self._resting.pop(order.order_id, None)
        else:
            self._resting[order.order_id] = resting
        report = OrderReport(
            v=1,
            account=order.account,
            order_id=order.order_id,
            status=status,
            filled_lots=resting.filled_lots,
            fill_ids=list(resting.fill_ids),
            reason=reason,
            time_ns=at,
        )
        return Answer(fills, report)

    def _mark(self, instrument: InstrumentDefinition, now_ns: int) -> float | None:
        """The middle of the fresh sources, in the instrument's quote; options by Black-76. The newest of all where none is fresh."""
        prices = self._prices.get(instrument.underlying)
        if not prices:
            return None
        fresh = [price for time_ns, price in prices.values() if time_ns >= now_ns - PRICE_AGE_NS]
        spot = median(fresh) if fresh else max(prices.values())[1]
        if instrument.contract not in ("option", "inverse_option"):
            return spot
        sigma = self._volatilities.get((instrument.underlying, instrument.expiry_ns))
        if sigma is None:
            return None
        t_years = year_fraction(now_ns, instrument.expiry_ns)
        usd = float(black76_price(spot, instrument.strike, sigma, t_years, instrument.is_call, 1.0))
        return usd / spot if instrument.contract == "inverse_option" else usd

    def _price_ticks(self, instrument: InstrumentDefinition, mark: float, *, buys: bool) -> int:
        depth = self._depths.get(instrument.underlying)
        half = (depth.spread_bps if depth else SPREAD_BPS) / 2.0 * 1e-4
        if buys:
            return max(math.ceil(mark * (1.0 + half) / instrument.tick_size), 1)
        return max(math.floor(mark * (1.0 - half) / instrument.tick_size), 1)

    def _lots_on_offer(self, instrument: InstrumentDefinition, lots: int, mark: float) -> int:
        depth = self._depths.get(instrument.underlying)
        if depth is None:
            return lots
        lot_usd = instrument.lot_size
        if instrument.contract == "inverse_option":
            lot_usd *= mark * self._spot(instrument.underlying)
        elif instrument.contract not in _USD_LOTS:
            lot_usd *= mark
        return min(lots, int(DEPTH_SHARE * depth.depth_usd / max(lot_usd, 1e-9)))

    def _spot(self, asset: str) -> float:
        return median(price for _, price in self._prices[asset].values())


def _fee(instrument: InstrumentDefinition, lots: int, price_ticks: int) -> int:
    """The venue's fee in cash units of the instrument's quote."""
    share = VENUES[instrument.venue][1] * 1e-4
    unit = 1e-6 if instrument.quote == "USD" else 1e-9
    price = price_ticks * instrument.tick_size
    traded = lots * instrument.lot_size / price if instrument.contract in _USD_LOTS else lots * instrument.lot_size * price
    return round(traded * share / unit)
