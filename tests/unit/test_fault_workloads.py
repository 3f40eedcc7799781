"""What the fault scenario goes by: which seeds run the real machines, and that its sums of fills are what a book holds."""

import msgspec
import pytest

from engine.effects import Order
from engine.machine import CutRecord
from engine.monitor import Book
from tests.fault.run import workload_of
from tests.fault.workloads import BookWorkload, amounts
from tests.small_world import Log


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 20, 50])
def test_the_real_machines_run_at_least_as_often_as_toys(first: int, count: int) -> None:
    names = [workload_of("both", seed).name for seed in range(first, first + count)]
    assert names.count("books") >= names.count("toys")


def filled(*, cheaper_ticks: int) -> tuple[dict[str, int], dict[str, int]]:
    """What a book holds after a workload's first fills, the last of them at another price, and what the workload says it must hold."""
    workload, book = BookWorkload(7), Book(0, 1)
    log = Log(book)
    log.open()
    drawn = [workload._fills.next(f"account-{number % 5}") for number in range(40)]
    drawn.append(workload._fills.next("account-0", instrument="USD", kind="funding", price_ticks=0, cash=5_000_000_000))
    drawn[-2] = msgspec.structs.replace(drawn[-2], price_ticks=drawn[-2].price_ticks - cheaper_ticks)
    for fill in drawn:
        log.trade(fill.account, fill.venue, fill.instrument, fill.lots, fill.price_ticks, kind=fill.kind, cash=fill.cash)
    return amounts(book), workload.expected()


def test_a_book_holds_the_sums_of_the_fills() -> None:
    held, expected = filled(cheaper_ticks=0)
    assert held == expected
    assert {name.split(" ", 1)[1] for name in held} == {"BTC-PERP lots", "BTC-PERP cash", "USD cash"}


def test_cash_that_is_off_shows_though_the_lots_are_right() -> None:
    held, expected = filled(cheaper_ticks=1)
    apart = {name for name in held.keys() | expected.keys() if held.get(name) != expected.get(name)}
    assert apart == {"account-4 BTC-PERP cash"}


def test_an_order_is_uncut_until_a_cut_covers_what_decided_it() -> None:
    book = Book(0, 1)
    log = Log(book)
    log.open()
    log.deposit("a", 5_000.0)
    before = cut_of(book)
    effects = log.trade("a", "ex", "BTC-PERP", 500, 100_000)
    [order] = [effect for effect in effects.now if isinstance(effect, Order)]
    workload = BookWorkload(0)
    assert workload.is_uncut(order, before)
    assert not workload.is_uncut(order, cut_of(book))
    log.deposit("b", 2_000.0)
    log.trade("b", "ex", "BTC-PERP", 50, 100_000)
    cut = cut_of(book)
    log.tick(1.0)
    on_price = log.prices({"BTC": 65_000.0})
    [order] = [effect for effect in on_price.now if isinstance(effect, Order)]
    assert order.account == "b"
    assert order.ledger.startswith("control:0:")
    assert workload.is_uncut(order, cut)
    assert not workload.is_uncut(order, cut_of(book))


def cut_of(book: Book) -> CutRecord:
    value = book.take_cut().rows[-1][1]
    assert value is not None
    return msgspec.msgpack.decode(value, type=CutRecord)
