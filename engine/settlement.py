"""What has expired is settled at its underlying's first known mark from then on (docs/model.md, section 2)."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.market_arrays import Touched
from engine.marks import Marks
from engine.tables import FUTURE
from engine.universe import InstrumentArrays

NEVER_EXPIRES_NS: Final = 2**63 - 1


@kernel
def settle(count: int, terms: InstrumentArrays, marks: Marks, now_ns: int, settled: NDArray[np.float64], touched: Touched) -> int:
    """Give a settlement price to what has expired and has none; answers the earliest expiry that is still without one."""
    following = np.int64(NEVER_EXPIRES_NS)
    for i in range(count):
        if terms.contract[i] < FUTURE or not math.isnan(settled[i]):
            continue
        a = terms.underlying[i]
        if terms.expiry_ns[i] <= now_ns and marks.status[a] == 0:
            settled[i] = marks.mark[a]
            touched.instrument[i] = True
            touched.settled_state[i] = True
        else:
            following = min(following, terms.expiry_ns[i])
    return int(following)
