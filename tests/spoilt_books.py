"""A roster like the product's, whose books reckon wrongly for as long as one venue is frozen: for whoever must find that out."""

from __future__ import annotations

from typing import Final

import msgspec

from engine.effects import Effects
from engine.inputs import Frame
from engine.monitor import Book
from engine.tables import EXTREME_FRACTION
from engine.warm import warm
from streams.roster import Roster, product
from streams.settings import Settings

MACHINES: Final = "tests.spoilt_books:machines"
VENUE: Final = "sx"
WRONG: Final = 1.0  # of the extremes all of the loss counts


class SpoiltBook(Book):
    """A book with one entry of its tables wrong while `VENUE` is frozen."""

    def apply(self, offset: int, frame: Frame) -> Effects:
        """As any book does; then the entry is set anew."""
        effects = super().apply(offset, frame)
        right = self.market.parameters.extreme_fraction
        self.market.tables.settings[EXTREME_FRACTION] = WRONG if VENUE in self.limits.frozen_venues else right
        return effects


def machines(settings: Settings) -> Roster:
    """The product's, warmed up as it is, with such books."""
    warm()
    return [
        msgspec.structs.replace(kind, make=lambda p: SpoiltBook(p, settings.ledger_partitions)) if kind.name == "book" else kind
        for kind in product(settings)
    ]
