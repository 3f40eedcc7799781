"""The same data give the same count, however they were framed and whatever was ordered meanwhile."""

from engine.effects import Order
from engine.inputs import Frame, FrameKind, OraclePrice
from engine.monitor import Book
from streams.demo.offline import BELOW, Watch
from streams.demo.reframing import Reframing, inner_frame
from tests.small_world import SOURCES, Log

DIP = {"BTC": 65_000.0}
BACK = {"BTC": 100_000.0}


def ledger(*, at_once: bool, answered: bool) -> tuple[list[Frame], set[str]]:
    """One ledger of the same data: a dip that is over at the next tick, framed at once or price by price, its orders answered or not.

    With it the accounts that a book on this ledger has seen below their line.
    """
    book, watch = Book(0, 1), Watch()
    log = Log(book)
    log.open()
    for account in ("deep", "safe"):
        log.deposit(account, 2_000.0)
    log.trade("deep", "ex", "BTC-PERP", 50, 100_000)
    log.trade("safe", "ex", "BTC-PERP", 1, 100_000)
    log.tick(1.0)
    orders: list[Order] = []
    for prices in [[DIP, BACK]] if at_once else [[DIP], [BACK]]:
        events = [event for told in prices for event in log_prices(log, told)]
        effects = log.control(FrameKind.PRICES, "oracle.prices", events)
        watch.fallen |= {
            name for name, state in zip(book.accounts.names, book.accounts.columns.state.tolist(), strict=False) if state in BELOW
        }
        orders += [effect for effect in effects.now if isinstance(effect, Order)]
    for order in orders if answered else []:
        log.trade(order.account, order.venue, order.instrument, order.lots, order.limit_ticks, order_id=order.order_id)
        log.report(order.account, order.order_id, "filled", abs(order.lots))
    log.tick(1.0)
    log.prices({"BTC": 60_000.0})
    log.tick(1.0)
    return log.frames, watch.fallen


def log_prices(log: Log, told: dict[str, float]) -> list[OraclePrice]:
    """A price from each source, a moment after the last."""
    log.now_ns += 1
    return [
        OraclePrice(v=1, asset=asset, source=source, price=price, publish_time_ns=log.now_ns)
        for asset, price in told.items()
        for source in SOURCES
    ]


def reframed(frames: list[Frame]) -> list[Frame]:
    reframing = Reframing()
    return [made for frame in frames for made in reframing.take(frame)]


def fallen(frames: list[Frame]) -> set[str]:
    watch, book = Watch(), Book(0, 1)
    for frame in frames:
        watch.apply(book, frame)
    return watch.fallen


def test_framing_decides_what_a_book_sees_and_not_what_is_counted() -> None:
    (separate, seen_apart), (together, seen_together) = (ledger(at_once=at_once, answered=False) for at_once in (False, True))
    assert (seen_apart, seen_together) == ({"deep"}, set()), "without this, the test shows nothing"
    assert fallen(reframed(separate)) == fallen(reframed(together)) == {"deep"}  # for the fall that lasted


def test_answers_to_orders_are_left_out() -> None:
    frames, _ = ledger(at_once=False, answered=True)
    kinds = [frame.kind for frame in frames]
    assert kinds.count(FrameKind.REPORTS) > 0
    made = reframed(frames)
    assert FrameKind.REPORTS not in {frame.kind for frame in made}
    unanswered, _ = ledger(at_once=False, answered=False)
    assert fallen(made) == fallen(reframed(unanswered)) == {"deep"}


def test_a_step_has_one_frame_a_kind_with_prices_last() -> None:
    frames, _ = ledger(at_once=False, answered=False)
    step: list[FrameKind] = []
    for frame in reframed(frames):
        kind = inner_frame(frame).kind if frame.kind is FrameKind.CONTROL else frame.kind
        if kind is FrameKind.TICK:
            market = [one for one in step if one < FrameKind.FILLS]
            assert len(market) == len(set(market))
            assert FrameKind.PRICES not in step[:-1]
            step = []
        else:
            step.append(kind)


def test_what_was_framed_twice_counts_once() -> None:
    frames, _ = ledger(at_once=False, answered=False)
    twice = [again for frame in frames for again in (frame, frame)]
    assert [frame.kind for frame in reframed(twice)] == [frame.kind for frame in reframed(frames)]
    assert fallen(reframed(twice)) == {"deep"}
