"""Where a value begins to be a matter for people: of the alerts, and of the colours and lines in dashboards."""

from typing import Final

CUT_AGE_S: Final = 10.0  # cuts are made each 250 ms
CLOCK_BEHIND_S: Final = 5.0  # from here on `/ready` says so too
EVENT_AGE_S: Final = 5.0
ORDER_P99_S: Final = 1.0
UNKNOWN_SHARE: Final = 0.01
UNKNOWN_LEGS: Final = 0.05  # of those at one venue
DISPERSION: Final = 0.02  # where the divergence breaker resets; it trips at 0.05
ATTESTATION_LAG_S: Final = 900.0  # half of what trips the breaker
HEARTBEAT_AGE_S: Final = 600.0
DEAD_LETTERS: Final = 20.0  # of one topic in 5 minutes
GAPS: Final = 2.0  # of one partition in 5 minutes: one after a move is normal
UNREPORTED_ORDER_S: Final = 120.0  # twice an order's usual life
SHORTFALL_RISE_USD: Final = 10_000.0
SHORTFALL_RISE_SHARE: Final = 0.1  # of the shortfall there is
SOURCE_AGE_S: Final = 60.0  # what most classes allow a price
