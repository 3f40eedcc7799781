"""Which rules can take legs of ours, and how: from positions, marks and volatilities of many accounts at one venue to a rule's arrays."""

from collections.abc import Callable
from typing import Any, Final

from engine.rules.adapters.derive import of_derive_pmrm2, of_derive_srm
from engine.rules.adapters.futures import of_dederi, of_deribit_pm
from engine.rules.adapters.health import of_drift_v2, of_mango_v3, of_mango_v4
from engine.rules.adapters.lending import of_aave_v3, of_hyperliquid_pm
from engine.rules.adapters.options import of_bybit_uta
from engine.rules.legs import Adapted, Needs, VenueLegs

# Legs, the rule's Parameters, what is missing. Each asks for all that may be given, whatever the legs are: `choice` learns it from no legs.
Adapter = Callable[[VenueLegs, Any, Needs], list[Adapted]]

ADAPTERS: Final[dict[str, Adapter]] = {
    "aave_v3": of_aave_v3,
    "bybit_uta": of_bybit_uta,
    "dederi": of_dederi,
    "deribit_pm": of_deribit_pm,
    "derive_pmrm2": of_derive_pmrm2,
    "derive_srm": of_derive_srm,
    "drift_v2": of_drift_v2,
    "hyperliquid_pm": of_hyperliquid_pm,
    "mango_v3": of_mango_v3,
    "mango_v4": of_mango_v4,
}

# Rules that no positions are enough for, by name: what is missing.
CANNOT: Final[dict[str, str]] = {
    "derive_auction": "it says what may be sold of an account in liquidation, and has no margin of its own",
    "okx": "it needs the sizes by which contracts against one stablecoin hedge those against another, which are not kept apart here, and "
    "MR1 to MR8, whose weights are not published",
    "span16": "it needs the clearing house's risk arrays and spread charges, which no position says; the preset span16 has our own",
}
