"""What an account holds and owes, looked through to coins, and how its borrowed money is matched with its collateral. By names, in USD."""

from dataclasses import dataclass, field

from streams.shadow.universe import Universe
from streams.shadow.values import Position, Positions, Valuer

Entry = tuple[str, str]  # (venue, asset)
Amounts = dict[Entry, float]


@dataclass
class Leverage:
    """The sums of one account; `ways` from debts to collateral."""

    gross: float = 0.0
    net: float = 0.0
    long: float = 0.0
    collateral: float = 0.0
    owed: float = 0.0
    passed_on: float = 0.0
    ways: dict[tuple[Entry, Entry], float] = field(default_factory=dict)

    @property
    def looped(self) -> float:
        return sum(self.ways.values())


def chain(universe: Universe, asset: str) -> list[tuple[str, float]]:
    """What it can be redeemed for, one after the other, with the units that one unit gives."""
    found, rate = [], 1.0
    while (redemption := universe.redemption(asset)) is not None:
        asset, rate = redemption[0], rate * redemption[1]
        found.append((asset, rate))
    return found


def coin(universe: Universe, asset: str) -> str:
    return chain(universe, asset)[-1][0] if chain(universe, asset) else asset


def worth(valuer: Valuer, asset: str) -> float:
    """USD that a unit claims; every mark on its way is known."""
    steps = chain(valuer.universe, asset)
    return steps[-1][1] * valuer.mark(steps[-1][0]) if steps else valuer.mark(asset)


def leverage(valuer: Valuer, positions: Positions) -> Leverage:
    universe = valuer.universe
    held, owed, deltas = entries(valuer, positions)
    found = Leverage()
    _set_off(universe, held, owed, found)
    is_cash = {asset: universe.asset_class(asset) == "cash" for asset in universe.assets}
    found.owed = sum(owed.values())
    found.collateral = sum(usd for (_, asset), usd in held.items() if not is_cash[asset])
    found.gross = found.collateral + sum(abs(delta) for _, delta in deltas)
    found.long = found.collateral + sum(delta for _, delta in deltas)
    for each in universe.assets:
        if is_cash[each] or universe.redemption(each) is not None:
            continue
        holding, owing = (sum(usd for (_, asset), usd in side.items() if coin(universe, asset) == each) for side in (held, owed))
        derived = sum(delta for asset, delta in deltas if coin(universe, asset) == each)
        found.gross += max(0.0, owing - holding)
        found.net += abs(holding - owing + derived)
    _match(universe, held, owed, is_cash, found)
    return found


def entries(valuer: Valuer, positions: Positions) -> tuple[Amounts, Amounts, list[tuple[str, float]]]:
    """(held, owed, deltas of derivatives by their underlying)."""
    universe = valuer.universe
    balance: Amounts = {}
    loans: Amounts = {}
    deltas: list[tuple[str, float]] = []

    def add(to: Amounts, venue: str, asset: str, units: float) -> None:
        to[venue, asset] = to.get((venue, asset), 0.0) + units

    for key, position in positions.items():
        instrument, venue = universe.instruments[key], key[0]
        underlying, quote = instrument["underlying"], instrument["quote"]
        units = position.quantity * float(instrument["lot_size"])
        match instrument["contract"]:
            case "spot":
                add(balance, venue, underlying, units)
            case "loan":
                units *= valuer.view.indexes.get(key, 1.0)
                add(balance if units > 0 else loans, venue, underlying, abs(units))
            case _ if valuer.past_expiry(key):
                if position.quantity:
                    add(balance, venue, quote, valuer.value(key, Position(position.quantity, 0)) / valuer.mark(quote))
            case "perpetual" | "inverse_perpetual" | "future" | "inverse_future" as contract:
                if position.quantity:
                    add(balance, venue, quote, valuer.value(key, Position(position.quantity, 0)) / valuer.mark(quote))
                    premium = 1 + valuer.view.basis[key]
                    inverse = contract in ("inverse_perpetual", "inverse_future")
                    deltas.append((underlying, units / premium if inverse else units * worth(valuer, underlying) * premium))
            case _:
                if position.quantity:
                    of_mark = valuer.delta_usd(key, position.quantity) / valuer.mark(underlying)
                    deltas.append((underlying, of_mark * worth(valuer, underlying)))
        add(balance, venue, quote, position.cash * universe.cash_unit(quote))
    usd = {asset: worth(valuer, asset) for asset in {asset for _, asset in [*balance, *loans]}}
    held = {entry: units * usd[entry[1]] for entry, units in balance.items() if units > 0}
    owed = {entry: -units * usd[entry[1]] for entry, units in balance.items() if units < 0}
    for entry, units in loans.items():
        add(owed, *entry, units * usd[entry[1]])
    return held, owed, deltas


def _set_off(universe: Universe, held: Amounts, owed: Amounts, found: Leverage) -> None:
    order = list(universe.assets)
    venues = list(universe.venues)
    for venue, receipt in sorted(owed, key=lambda entry: (venues.index(entry[0]), order.index(entry[1]))):
        for asset, _ in chain(universe, receipt):
            both = min(owed[venue, receipt], held.get((venue, asset), 0.0))
            if both > 0:
                owed[venue, receipt] -= both
                held[venue, asset] -= both
                found.passed_on += both


def _match(universe: Universe, held: Amounts, owed: Amounts, is_cash: dict[str, bool], found: Leverage) -> None:
    """Six stages; classes are told apart by a key."""

    def by_venue_and_coin(entry: Entry) -> object:
        return (entry[0], coin(universe, entry[1]))

    def by_coin(entry: Entry) -> object:
        return coin(universe, entry[1])

    def by_venue(entry: Entry) -> object:
        return entry[0]

    held, owed = dict(held), dict(owed)
    for idle, key in (
        (True, by_venue_and_coin),
        (True, by_coin),
        (False, by_venue_and_coin),
        (False, by_coin),
        (False, by_venue),
        (False, lambda entry: None),
    ):
        eligible = {entry: usd for entry, usd in held.items() if is_cash[entry[1]] == idle and usd > 0}
        debts = {entry: usd for entry, usd in owed.items() if usd > 0}
        for debt, owing in debts.items():
            total_owed = sum(usd for entry, usd in debts.items() if key(entry) == key(debt))
            total_held = sum(usd for entry, usd in eligible.items() if key(entry) == key(debt))
            for entry, holding in eligible.items():
                if key(entry) == key(debt):
                    matched = owing * holding / max(total_owed, total_held)
                    held[entry] -= matched
                    owed[debt] -= matched
                    if not idle:
                        found.ways[debt, entry] = found.ways.get((debt, entry), 0.0) + matched
