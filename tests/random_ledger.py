"""A random ledger from a seed: accounts that trade, sink, are ordered about and filled, with all that goes wrong on the way."""

from typing import Any

import numpy as np

from engine.effects import Order, Refused
from engine.inputs import Fills, Frame, FrameKind, VenueDefinition, VenueRule
from engine.monitor import Book
from engine.rules.examples import PARAMETERS as OF_RULES
from tests.small_world import PRICES, T0, Log

TRADED = (("ex", "BTC-PERP", "BTC", 1.0), ("ex", "ETH-PERP", "ETH", 0.1), ("sx", "BTC-PERP", "BTC", 1.0), ("sx", "SOL-PERP", "SOL", 0.01))
LOTS = {"BTC": 300, "ETH": 1_000, "SOL": 3_000}


def venues_with_rules() -> list[VenueDefinition]:
    """Each exchange by a venue's own rule: balances and perpetuals, or options and perpetuals."""
    spots, perps = OF_RULES["drift_v2"]["spots"], OF_RULES["drift_v2"]["perps"]
    drift = {
        "spots": [{**spots[0], "name": "USD"}, *({**spots[1], "name": name} for name in ("BTC", "ETH", "SOL", "STB"))],
        "perps": [{**perps[0], "name": name} for name in ("BTC", "ETH", "SOL")],
    }
    derive = OF_RULES["derive_srm"]
    derive = {**derive, "markets": [{**derive["markets"][0], "name": name} for name in ("BTC", "ETH", "SOL")]}
    given: dict[str, Any] = {"confidence": 0.9, "stable_usd": 0.99}
    return [
        VenueDefinition(v=1, name="ex", chain="north", fee_bps=5, rule=VenueRule(rule="drift_v2", parameters=drift), time_ns=T0),
        VenueDefinition(
            v=1, name="sx", chain="south", fee_bps=5, rule=VenueRule(rule="derive_srm", parameters=derive, given=given), time_ns=T0
        ),
    ]


class RandomLedger:
    """Makes one frame after the other and has a book decide on each, since fills answer orders."""

    def __init__(self, seed: int, accounts: int = 8, *, budget_usd: float = 300_000.0) -> None:
        self.random = np.random.default_rng(seed)
        self.book = Book(0, 1)
        self.log = Log(self.book)
        self.log.open({"breakers_enabled": True, "lag_trip_s": 60.0, "lag_reset_s": 30.0, "cooldown_s": 5.0}, budget_usd=budget_usd)
        self.log.control(FrameKind.DEFINITIONS, "market.instruments", list(venues_with_rules()))
        self.log.implied(0.6)
        self.names = [f"account-{k}" for k in range(accounts)]
        self.prices = dict(PRICES)
        self.open_orders: list[Order] = []
        self.missing: list[dict[str, Any]] = []
        self.effects: list[Any] = []
        for name in self.names:
            self.log.deposit(name, float(self.random.integers(2_000, 40_000)))

    def steps(self, count: int) -> None:
        """So many more frames."""
        choices = (self._fill, self._fill, self._fill, self._price, self._price, self._tick, self._answer, self._answer, self._odd)
        for _ in range(count):
            choices[self.random.integers(len(choices))]()

    def _note(self, effects: Any) -> None:
        self.effects.append(effects)
        self.open_orders += [one for one in effects.now if isinstance(one, Order)]

    def _account(self) -> str:
        return self.names[self.random.integers(len(self.names))]

    def trade(self, account: str) -> dict[str, Any]:
        """A fill at about the mark."""
        venue, instrument, asset, tick = TRADED[self.random.integers(len(TRADED))]
        lots = int(self.random.integers(-LOTS[asset], LOTS[asset] + 1)) or 1
        ticks = max(round(self.prices[asset] * float(self.random.uniform(0.999, 1.001)) / tick), 1)
        return self.log.fill(account, venue, instrument, lots, ticks, cash=-int(self.random.integers(0, 500_000)))

    def _fill(self) -> None:
        fills = [self.trade(self._account()) for _ in range(int(self.random.integers(1, 6)))]
        if self.random.random() < 0.05:
            self.missing.append(fills.pop(0))  # was refused, and comes again put right
            self._note(self.log.refused_fill(*(self.missing[-1][name] for name in ("account", "venue", "sequence"))))
        if self.random.random() < 0.1 and fills:
            self.missing.append(fills.pop())  # comes later, or never
        if self.random.random() < 0.1 and fills:
            fills.append({**fills[0]})  # once more
        if self.missing and self.random.random() < 0.4:
            fills.append(self.missing.pop())
        if fills:
            self._note(self.log.fills(*fills))

    def _price(self) -> None:
        moved = {asset: price * float(np.exp(self.random.normal(0.0, 0.02))) for asset, price in self.prices.items() if asset != "STB"}
        self.prices.update(moved)
        self.log.now_ns += 500_000_000
        self._note(self.log.prices(self.prices))

    def _tick(self) -> None:
        self._note(self.log.tick(float(self.random.choice([1.0, 1.0, 5.0, 30.0]))))

    def _answer(self) -> None:
        """A venue answers an order: in full, in part, with a report before or instead."""
        if not self.open_orders:
            return
        order = self.open_orders.pop(int(self.random.integers(len(self.open_orders))))
        way = self.random.random()
        if way < 0.15:
            self._note(self.log.report(order.account, order.order_id, "rejected"))
            return
        lots = order.lots if way < 0.7 else order.lots // 2 or order.lots
        if way > 0.9:
            self._note(self.log.report(order.account, order.order_id, "cancelled", abs(lots)))
        fill = self.log.fill(
            order.account, order.venue, order.instrument, lots, order.limit_ticks, kind="liquidation", order_id=order.order_id
        )
        self._note(self.log.fills(fill))

    def _odd(self) -> None:
        way = self.random.random()
        account = self._account()
        if self.random.random() < 0.3:
            self._say_pending(account)
        elif way < 0.03:
            self._note(self.log.fills(self.log.fill(f"stranger-{self.random.integers(3)}", "nowhere", "X", 1)))
        elif way < 0.2:
            self._note(self.log.credit(account, "south", "STB", int(self.random.integers(-50_000, 200_000))))
        elif way < 0.35:
            self._note(self.log.lag("south", float(self.random.choice([5.0, 100.0]))))
        elif way < 0.5:
            self._note(self.log.depths({asset: float(self.random.uniform(1e4, 1e7)) for asset in PRICES}))
        elif way < 0.6:
            self._note(self.log.freeze("account", account, frozen=bool(self.random.integers(2))))
        elif way < 0.65:
            self._note(self.log.mode(str(self.random.choice(["publish", "publish", "observe"]))))
        elif way < 0.75:
            self._note(self.log.grant({asset: float(self.random.uniform(1e4, 2e5)) for asset in PRICES}))
        elif way < 0.78:
            self._note(self.log.quarantine("south", on=bool(self.random.integers(2))))
        elif way < 0.85:
            self._note(self.log.implied(float(self.random.uniform(0.3, 1.5))))
        elif way < 0.95:
            kind, ticks = ("trade", 4_000) if self.random.random() < 0.7 else ("settlement", int(self.random.integers(0, 2)) * 5_000)
            option = self.log.fill(account, "sx", "BTC-100000-C", int(self.random.integers(-20, 21)) or 1, ticks, kind=kind)
            self._note(self.log.fills(option))
        else:
            a = self.book.accounts.numbers[account]
            columns = self.book.accounts.columns
            if columns.venue_count[a]:
                self._note(self.log.snapshot(account, "ex", int(columns.sequence[a, 0]), {"USD": (0, 20_000_000_000)}))

    def _say_pending(self, account: str) -> None:
        """Open orders and withdrawals at one venue, some of them old, of nothing, or of what is not defined."""
        venue = str(self.random.choice(["ex", "sx", "vault"]))
        names = {"ex": ["BTC-PERP", "ETH-PERP", "USD", "BTC"], "sx": ["BTC-PERP", "BTC-100000-C", "BTC-INV"], "vault": ["STB", "BTC"]}[
            venue
        ]
        said: dict[str, tuple[int, int, int]] = {}
        for name in names:
            if self.random.random() < 0.5:
                leaving = int(self.random.integers(0, 100_000)) if venue == "vault" else 0
                said[name] = (int(self.random.integers(0, 300)), int(self.random.integers(0, 300)), leaving)
        if self.random.random() < 0.05:
            said["NOTHING"] = (1, 0, 0)
        late_ns = int(self.random.choice([0, 0, 0, 40_000_000_000]))
        self._note(self.log.pending(account, venue, said, self.log.now_ns - late_ns))

    def refusals(self) -> list[Refused]:
        """Every refused event so far."""
        return [one for effects in self.effects for one in effects.now if isinstance(one, Refused)]


def merged(frames: list[Frame], fills_max: int) -> list[Frame]:
    """The same log with neighbouring frames of fills put together, up to so many fills."""
    from engine.inputs import FrameKind

    out: list[Frame] = []
    for frame in frames:
        last = out[-1] if out else None
        joins = (
            last is not None
            and frame.kind is FrameKind.FILLS
            and last.kind is FrameKind.FILLS
            and len(last.events.rows) + len(frame.events.rows) <= fills_max  # type: ignore[union-attr]  # FILLS frames hold Fills
        )
        if joins:
            assert last is not None
            out[-1] = last._replace(covers_to=frame.covers_to, events=_joined([last.events, frame.events]))
        else:
            out.append(frame)
    return out


def split(frames: list[Frame]) -> list[Frame]:
    """The same log with one fill a frame."""
    out: list[Frame] = []
    for frame in frames:
        fills = frame.events
        if not isinstance(fills, Fills):
            out.append(frame)
            continue
        before = frame.covers_from
        for k in range(len(fills.rows)):
            offset = int(fills.rows["offset"][k])
            out.append(frame._replace(covers_from=before, covers_to=offset, events=fills._replace(rows=fills.rows[k : k + 1])))
            before = offset
    return out


def _joined(parts: list[Any]) -> Fills:
    """Columns of fills one behind the other, names listed once."""
    accounts: list[str] = []
    instruments: list[tuple[str, str]] = []
    orders: list[str] = []
    rows = []
    for part in parts:
        copy = part.rows.copy()
        for column, names, known in (("account", part.accounts, accounts), ("instrument", part.instruments, instruments)):
            known += [name for name in names if name not in known]
            copy[column] = [known.index(names[k]) for k in part.rows[column]]
        orders += [name for name in part.order_ids if name not in orders]
        copy["order"] = [orders.index(part.order_ids[k]) if k >= 0 else -1 for k in part.rows["order"]]
        rows.append(copy)
    return Fills(accounts, instruments, orders, np.concatenate(rows))
