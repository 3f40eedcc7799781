"""What is observed of instruments, and what has accrued of it by the clock: funding of perpetuals, basis, interest of loans.

Formulas: docs/model.md, section 2.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.market_arrays import Settings, Touched, ValueTerms
from engine.marks import NEVER_NS
from engine.tables import INSTRUMENTS_MAX, INVERSE_FUTURE, INVERSE_PERPETUAL, LOAN, PERPETUAL
from engine.universe import InstrumentArrays
from engine.volatility import NS_PER_SECOND, SECONDS_PER_YEAR

MINUTE_NS: Final = 60 * NS_PER_SECOND
BASIS_LIMIT: Final = 0.5  # either side of 0
RATE: Final = "rate_per_hour"
BASIS: Final = "basis"
INDEX: Final = "interest_index"
INTEREST_RATE: Final = "interest_rate"


class Fundings(NamedTuple):
    """The newest of each measure by instrument, with its time (NEVER_NS: none yet). State: goes into the cut."""

    rate_per_hour: NDArray[np.float64]
    rate_ns: NDArray[np.int64]
    basis: NDArray[np.float64]
    basis_ns: NDArray[np.int64]
    interest_index: NDArray[np.float64]
    interest_index_ns: NDArray[np.int64]
    interest_rate: NDArray[np.float64]  # a year
    interest_rate_ns: NDArray[np.int64]


def new_fundings() -> Fundings:
    def never() -> NDArray[np.int64]:
        return np.full(INSTRUMENTS_MAX, NEVER_NS, dtype=np.int64)

    return Fundings(
        rate_per_hour=np.zeros(INSTRUMENTS_MAX),
        rate_ns=never(),
        basis=np.zeros(INSTRUMENTS_MAX),
        basis_ns=never(),
        interest_index=np.ones(INSTRUMENTS_MAX),
        interest_index_ns=never(),
        interest_rate=np.zeros(INSTRUMENTS_MAX),
        interest_rate_ns=never(),
    )


def measure_of(fundings: Fundings, measure: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Where a measure is kept, and its times."""
    return {
        RATE: (fundings.rate_per_hour, fundings.rate_ns),
        BASIS: (fundings.basis, fundings.basis_ns),
        INDEX: (fundings.interest_index, fundings.interest_index_ns),
        INTEREST_RATE: (fundings.interest_rate, fundings.interest_rate_ns),
    }[measure]


def has_measure(contract: int, measure: str) -> bool:
    """Whether a contract (its code) has such a thing: rates are of perpetuals, a basis of futures too, interest of loans."""
    if measure == RATE:
        return contract in (PERPETUAL, INVERSE_PERPETUAL)
    if measure == BASIS:
        return PERPETUAL <= contract <= INVERSE_FUTURE
    return contract == LOAN


@kernel
def derive_accrued(
    count: int, terms: InstrumentArrays, fundings: Fundings, now_ns: int, settings: Settings, values: ValueTerms, touched: Touched
) -> None:
    """Basis, accrued funding and interest index of all instruments; touched are those where one of them changed."""
    for i in range(count):
        contract = terms.contract[i]
        if contract == LOAN:
            index = _index(i, fundings, now_ns)
            if index != values.debt_index[i]:
                values.debt_index[i] = index
                touched.instrument[i] = True
        elif PERPETUAL <= contract <= INVERSE_FUTURE:
            basis = 0.0
            if _is_fresh(fundings.basis_ns[i], now_ns, settings):
                basis = fundings.basis[i]
            funding = 0.0
            interval_ns = terms.funding_interval_ns[i]
            if interval_ns > 0 and _is_fresh(fundings.rate_ns[i], now_ns, settings):
                minutes = (now_ns % interval_ns) // MINUTE_NS
                funding = fundings.rate_per_hour[i] * (minutes / 60.0)
            if basis != values.basis[i] or funding != values.funding[i]:
                values.basis[i] = basis
                values.funding[i] = funding
                touched.instrument[i] = True


@kernel
def _is_fresh(observed_ns: int, now_ns: int, settings: Settings) -> bool:
    return bool(observed_ns != NEVER_NS and now_ns - observed_ns <= settings.funding_max_age_ns)


@kernel
def _index(i: int, fundings: Fundings, now_ns: int) -> float:
    """A loan's index with the interest of whole minutes since it was observed; 1 until then, from when its rate was."""
    since_ns = fundings.interest_index_ns[i]
    if since_ns == NEVER_NS:
        since_ns = fundings.interest_rate_ns[i]
    if since_ns == NEVER_NS or now_ns <= since_ns:
        return float(fundings.interest_index[i])
    minutes = (now_ns - since_ns) // MINUTE_NS
    return float(fundings.interest_index[i] * (1.0 + fundings.interest_rate[i] * 60.0 * minutes / SECONDS_PER_YEAR))
