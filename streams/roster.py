"""Which machines run here: each with the log it is fed by, the topic its cuts are written to, and how one is made."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

from msgspec import Struct

from engine.machine import Machine
from streams.messages import LastValue
from streams.settings import Settings


class MachineKind(Struct, frozen=True, kw_only=True):
    """One kind of machine: `partitions` of `log`, one machine each. `make(partition)` gives a machine that has applied nothing yet.

    The owner of a `keeps_control` machine (one partition, which has applied control) also feeds control: market ingest and the ticker.
    `reports` and `mode` are for those who look: last values to be told with a cut now and then, and whether a book observes or publishes.
    """

    name: str
    log: str
    rows: str
    partitions: int
    make: Callable[[int], Machine]
    keeps_control: bool = False
    reports: Callable[[Machine], Sequence[LastValue]] = lambda _: ()
    mode: Callable[[Machine], str] = lambda _: ""


Roster = list[MachineKind]


PRODUCT = "streams.roster:product"


class RosterFault(ValueError):
    """What was named is no usable roster; the text says what it must be."""


def load_roster(settings: Settings, named: str = PRODUCT) -> Roster:
    """The roster that `named` (`module:function`) gives; the function takes the settings and returns a list of MachineKind."""
    module, _, function = named.partition(":")
    try:
        make: Callable[[Settings], Roster] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise RosterFault(f"{named!r} must be module:function of a roster, but: {error}") from error
    roster = make(settings)
    if len({kind.log for kind in roster}) != len(roster) or sum(kind.keeps_control for kind in roster) > 1:
        raise RosterFault(f"{named} names two machines of one log, or two that keep control")
    return roster


def product(settings: Settings) -> Roster:
    """What a worker runs: books, attestors and the treasury."""
    from engine.attestor import Attestor
    from engine.monitor import Book
    from engine.survey import asset_reports, chain_reports
    from engine.treasury import Treasury

    def reports(book: Machine) -> Sequence[LastValue]:
        """Leverage where a look at it has ended; and the market, from one of the books: all have the same."""
        assert isinstance(book, Book)
        leverage = book.leverage.take_fresh(book.market, book.partition)
        return [*leverage, *asset_reports(book.market), *chain_reports(book.market)] if book.partition == 0 else leverage

    def mode(book: Machine) -> str:
        assert isinstance(book, Book)
        return "publish" if book.limits.publish else "observe"

    ledger, attest = settings.ledger_partitions, settings.attest_partitions
    return [
        MachineKind(
            name="book", log="ledger", rows="ledger.rows", partitions=ledger, make=lambda p: Book(p, ledger), reports=reports, mode=mode
        ),
        MachineKind(name="attestor", log="attest.ledger", rows="attest.rows", partitions=attest, make=lambda p: Attestor(p, ledger)),
        MachineKind(
            name="treasury", log="treasury.ledger", rows="treasury.rows", partitions=1, make=lambda _: Treasury(ledger), keeps_control=True
        ),
    ]
