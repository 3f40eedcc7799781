"""Derive's partial liquidation: how much of an account may be sold in its auction, and for what.

The venue sells a fraction of the whole account (all positions alike) in a falling-price auction. With M what the account is worth
(marked to market), N = M less its maintenance requirement (below 0: that is why there is an auction), R the cash of earlier bids of
the same auction, which is not for sale, and d the share of the worth that a bidder has to pay now:

- buffer margin B = N + buffer * (N - M), so that an account comes out of the auction with some room: once it has begun, it goes on
  while B is below 0, even where earlier bids or prices have made N positive again;
- largest fraction f = B / (B - M d - R (1 - d)): after it, B is 0;
- price of a fraction f of what is left: (M - R) d f;
- d falls in a straight line from `start` to `cutoff` in the fast phase, and from there to 0 in the slow one.

An account that is worth less than nothing is sold whole (the venue pays the bidder): the fraction is 1 and the price here 0.

Sources: https://docs.lyra.finance/docs/liquidations-1 and https://docs.derive.xyz/liquidation-parameters.md, whose BUFFER_SCALE is
1 + `buffer`; the fraction, the part of R and when an auction ends: DutchAuction of derivexyz/v2-core, checked against the venue's
simulated auctions.
"""

import math
from typing import Annotated, Final, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.jit import kernel
from engine.rules.interface import RuleInfo

RULE: Final = RuleInfo(
    name="derive_auction",
    version="v2",
    title="Derive, falling-price auction of a part of an account",
    sources=("https://docs.lyra.finance/docs/liquidations-1", "https://docs.derive.xyz/liquidation-parameters.md"),
    measure="margin",
    published=True,
    cases="buffer margin, largest fraction and price of the 20 bids of 11 simulated auctions of solvent accounts",
)

BUFFER_USD: Final = 0  # B above: below 0 while the account may be sold
FRACTION_MAX: Final = 1  # of what is left of the account
DISCOUNT: Final = 2  # d above
BID_USD: Final = 3  # for the largest fraction
AUCTION_COLUMNS: Final = 4

Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The auction's own parameters; defaults are those of the venue's simulations."""

    start: Share = 0.98  # share of the worth that is asked at the beginning
    cutoff: Share = 0.8  # and where the slow phase begins
    fast_s: Annotated[float, Meta(gt=0.0, le=86_400.0)] = 100.0
    slow_s: Annotated[float, Meta(gt=0.0, le=604_800.0)] = 14_400.0
    buffer: Annotated[float, Meta(ge=0.0, le=4.0)] = 0.2

    def __post_init__(self) -> None:
        if self.start < self.cutoff:
            raise ValueError("start is below cutoff")


class Terms(NamedTuple):
    """`Parameters` as the kernels take them."""

    start: float
    cutoff: float
    fast_s: float
    slow_s: float
    buffer: float


def terms(parameters: Parameters) -> Terms:
    """The parameters as the kernels take them."""
    return Terms(parameters.start, parameters.cutoff, parameters.fast_s, parameters.slow_s, parameters.buffer)


@kernel
def discount(elapsed_s: float, terms: Terms) -> float:
    """The share of an account's worth that is asked `elapsed_s` after its auction began; NaN before that."""
    if not elapsed_s >= 0.0:
        return math.nan
    if elapsed_s < terms.fast_s:
        return terms.start - (terms.start - terms.cutoff) * elapsed_s / terms.fast_s
    late = (elapsed_s - terms.fast_s) / terms.slow_s
    return terms.cutoff * (1.0 - late) if late < 1.0 else 0.0


@kernel
def largest_fraction(equity_usd: float, maintenance_usd: float, reserved_usd: float, discount: float, buffer: float) -> float:
    """What may be sold at most, of what is left: 0 once the buffer margin is not below 0, 1 where the account is worth less than nothing.

    Of an auction that has begun: one begins only where an account does not meet its requirement, which is not asked here.
    """
    if equity_usd != equity_usd or maintenance_usd != maintenance_usd or reserved_usd != reserved_usd or discount != discount:
        return math.nan
    buffer_usd = equity_usd - maintenance_usd - buffer * maintenance_usd
    if buffer_usd >= 0.0:
        return 0.0
    if equity_usd < 0.0:
        return 1.0
    fraction = buffer_usd / (buffer_usd - equity_usd * discount - reserved_usd * (1.0 - discount))
    return min(1.0, fraction)


@kernel
def liquidations(
    equity_usd: NDArray[np.float64],
    maintenance_usd: NDArray[np.float64],
    elapsed_s: NDArray[np.float64],
    reserved_usd: NDArray[np.float64],
    terms: Terms,
    out: NDArray[np.float64],
) -> None:
    """Fills `out` (accounts, 4), columns above. All inputs are (accounts,): equity and requirement of `margins`, seconds since the
    auction began, cash of earlier bids. NaN in gives NaN out."""
    for account in range(len(equity_usd)):
        share = discount(elapsed_s[account], terms)
        net_usd = equity_usd[account] - maintenance_usd[account]
        fraction = largest_fraction(equity_usd[account], maintenance_usd[account], reserved_usd[account], share, terms.buffer)
        price_usd = (equity_usd[account] - reserved_usd[account]) * share * fraction
        out[account, BUFFER_USD] = net_usd - terms.buffer * maintenance_usd[account]
        out[account, FRACTION_MAX] = fraction
        out[account, DISCOUNT] = share
        out[account, BID_USD] = max(price_usd, 0.0)
