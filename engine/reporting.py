"""What is told about accounts at a cut: `account.health` of those that changed, and the partition's totals."""

import numpy as np
from numpy.typing import NDArray

from engine.book import Accounts
from engine.effects import Health
from engine.fills import requirements_of
from engine.limits import Limits
from engine.margin import EQUITY, EQUITY_INITIAL, INITIAL, LIMIT, MAINTENANCE, UNHAIRCUT
from engine.market import Market
from engine.parameters import MODES
from engine.reasons import Cause, State, Unknown
from engine.rows import Life
from engine.venue_legs import leg_reports, note_told, venue_rows

# Why new risk is refused, by bit; those of limits are the bits of margin.LIMIT.
REFUSALS = ("initial_margin", "limit_account", "limit_asset", "limit_venue", "bad_debt")
BAD_DEBT_BIT = 1 << REFUSALS.index("bad_debt")


def refusals_of(accounts: Accounts, bad_debt: bool) -> NDArray[np.int8]:
    """[accounts] Why each account is refused new risk, as bits of REFUSALS; of one that is UNKNOWN its state says all but `bad_debt`."""
    c, n = accounts.columns, len(accounts)
    health, known = c.health[:n], c.state[:n] != State.UNKNOWN
    below = known & (health[:, EQUITY_INITIAL] < health[:, INITIAL])
    limits = np.where(known, health[:, LIMIT], 0.0).astype(np.int8)
    bits: NDArray[np.int8] = below.astype(np.int8) | (limits << 1) | np.int8(BAD_DEBT_BIT if bad_debt else 0)
    return bits


def refusal_bits(health: NDArray[np.float64]) -> int:
    """Why one account that can be valued is refused new risk, but for the book's bad debt; `health`: its row."""
    return int(health[EQUITY_INITIAL] < health[INITIAL]) | int(health[LIMIT]) << 1


def refusals_in_words(bits: int) -> list[str]:
    """The names of these bits, in the order of REFUSALS."""
    return [name for k, name in enumerate(REFUSALS) if bits >> k & 1]


def refusing(accounts: Accounts, bad_debt: bool) -> dict[str, int]:
    """How many accounts are refused new risk, by reason; one may be refused for several."""
    bits = refusals_of(accounts, bad_debt)[accounts.columns.known[: len(accounts)] == 1]
    return {name: int((bits >> k & 1).sum()) for k, name in enumerate(REFUSALS)}


def accounts_to_tell(accounts: Accounts, refuses: NDArray[np.int8], share: float) -> NDArray[np.int64]:
    """Numbers of the accounts that are told: since the last time state, reason, cause, orders or what is refused changed, or equity or
    requirement moved by more than `share` of the requirement. `refuses` [accounts]: see `refusals_of`."""
    c, n = accounts.columns, len(accounts)
    equity, maintenance = c.health[:n, EQUITY], c.health[:n, MAINTENANCE]
    bound = share * np.maximum(maintenance, c.told_maintenance[:n])
    # A nan (cannot be valued) compares false: going there and coming back are changes of state.
    moved = (np.abs(equity - c.told_equity[:n]) > bound) | (np.abs(maintenance - c.told_maintenance[:n]) > bound)
    return np.flatnonzero((moved | (c.told[:n] == 0) | (refuses != c.told_refuses[:n])) & (c.known[:n] == 1))


def tell(
    numbers: NDArray[np.int64],
    refuses: NDArray[np.int8],
    accounts: Accounts,
    lives: dict[int, Life],
    limits: Limits,
    market: Market,
    ledger: str,
) -> list[Health]:
    """The health of these accounts, and the note that it was told."""
    c = accounts.columns
    if not len(numbers):
        return []
    valued = c.state[numbers] != State.UNKNOWN
    requirements = np.zeros((len(numbers), len(MODES)), np.float64)
    by_mode = np.zeros((int(valued.sum()), len(MODES)), np.float64)
    requirements_of(numbers[valued], c, market.tables, by_mode)
    requirements[valued] = by_mode
    end_factor, clock_ns = market.parameters.end_factor, market.clock_ns
    health = c.health[numbers]
    rows = venue_rows(numbers, accounts, market)
    legs = leg_reports(rows, market)
    told: list[Health] = []
    columns = zip(
        numbers.tolist(),
        c.state[numbers].tolist(),
        c.reason[numbers].tolist(),
        c.cause[numbers].tolist(),
        health.tolist(),
        requirements.tolist(),
        refuses[numbers].tolist(),
        strict=True,
    )
    for a, state, reason, cause, values, modes, refused in columns:
        life = lives.get(a)
        known = state != State.UNKNOWN
        name = accounts.names[a]
        told.append(
            Health(
                account=name,
                state=_STATES[state],
                reason=_REASONS[reason],
                cause=_CAUSES[cause],
                equity_usd=values[EQUITY] if known else None,
                maintenance_usd=values[MAINTENANCE] if known else None,
                liquidation_end_usd=end_factor * values[MAINTENANCE] if known else None,
                initial_usd=values[INITIAL] if known else None,
                unhaircut_usd=values[UNHAIRCUT] if known else None,
                requirement_usd=dict(zip(MODES, modes, strict=True)) if known else None,
                orders_in_flight=len(life.flights) if life is not None else 0,
                frozen=limits.is_frozen(name),
                refuses=refusals_in_words(refused) if refused else [],
                legs=legs.get(a, []),
                clock_ns=clock_ns,
                ledger=ledger,
            )
        )
    c.told[numbers] = 1
    c.told_refuses[numbers] = refuses[numbers]
    note_told(rows, numbers, c)
    # An account that cannot be valued keeps the amounts that were told before: coming back is a change of state anyway.
    c.told_equity[numbers[valued]] = health[valued, EQUITY]
    c.told_maintenance[numbers[valued]] = health[valued, MAINTENANCE]
    return told


def accounts_by_state(accounts: Accounts) -> list[int]:
    """How many accounts are in each state, by the state's number."""
    c, n = accounts.columns, len(accounts)
    return [int(count) for count in np.bincount(c.state[:n][c.known[:n] == 1], minlength=len(State))]


_STATES = [state.name for state in State]
_REASONS = [reason.name.lower() for reason in Unknown]
_CAUSES = [cause.name.lower() for cause in Cause]
