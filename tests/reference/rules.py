"""Which rule of a venue a family of reference cases holds, so that `plimsoll models` can say how many passed."""

from typing import Final

# By family, then by how the case's name begins; a case that nothing begins is of no rule.
_RULES: Final[dict[str, dict[str, str]]] = {
    "aave_utilities": {"": "aave_v3"},
    "deribit_pme": {"": "deribit_pm"},
    "derive_liquidation": {"": "derive_auction"},
    "derive_pmrm2": {"": "derive_pmrm2"},
    "derive_srm": {"": "derive_srm"},
    "doc_worked_examples": {
        "bybit": "bybit_uta",
        "dederi": "dederi",
        "hyperliquid": "hyperliquid_pm",
        "nse_span": "span16",
        "okx": "okx",
    },
    "drift_v2_accounts": {"": "drift_v2"},
    "drift_v2_liquidation_sizing": {"": "drift_v2_liquidation_sizing"},
    "drift_v2_weights": {"": "drift_v2_weights"},
    "mango_v3": {"": "mango_v3"},
    "mango_v4_health": {"": "mango_v4"},
    "mango_v4_stable_price": {"": "mango_v4_stable_price"},
    "scenario_grids": {"paradex": "deribit_pm", "span": "span16"},
    "span_sp500_risk_arrays": {"": "span16"},
}


def has_rules(family: str) -> bool:
    """Whether a family holds a venue's rule."""
    return family in _RULES


def rule_of(family: str, case: str) -> str | None:
    """The name (RuleInfo) of what a case holds; None of what no rule of ours answers for."""
    known = _RULES.get(family, {})
    return next((rule for beginning, rule in known.items() if case.lower().startswith(beginning)), None)
