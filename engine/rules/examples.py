"""One set of parameters for each rule that takes a leg, to show its form: round numbers of no venue, in a market of BTC against dollars.

`plimsoll models --example NAME` prints them, and with them a process compiles every rule before the first venue is defined.
"""

from typing import Any, Final

from engine.rules.legs import Given

_SIDE: Final = {"init_asset_weight": 0.8, "maint_asset_weight": 0.9, "init_liab_weight": 1.2, "maint_liab_weight": 1.1}
_EVEN: Final = dict.fromkeys(_SIDE, 1.0)
_BASE: Final = {name.replace("_asset", "_base_asset").replace("_liab", "_base_liab"): weight for name, weight in _SIDE.items()}

PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "aave_v3": {
        "reserves": [
            {"name": "BTC", "loan_to_value": 0.7, "liquidation_threshold": 0.75, "liquidation_bonus": 1.05},
            {"name": "USDC", "loan_to_value": 0.75, "liquidation_threshold": 0.8, "liquidation_bonus": 1.05},
        ]
    },
    "bybit_uta": {"maintenance_factor": 0.03, "initial_factor_max": 0.15, "initial_factor_min": 0.1},
    "dederi": {"shocks": [-0.15, 0.0, 0.15], "contingency_factor": 0.01, "initial_factor": 1.2},
    "deribit_pm": {
        "price_range": 0.15,
        "pnl_offset": 0.5,
        "annualised_move_risk": 0.1,
        "min_annualised_move": 0.01,
        "extended_dampener_usd": 20_000.0,
    },
    "derive_pmrm2": {
        "scenarios": [
            {"spot_shock": 1.15, "vol": "up"},
            {"spot_shock": 1.0, "vol": "none"},
            {"spot_shock": 0.85, "vol": "up"},
            {"spot_shock": 0.5, "vol": "linear", "dampening": 0.5},
            {"spot_shock": 1.5, "vol": "abs", "dampening": 0.5},
        ],
        "collaterals": [
            {"name": "BTC", "risk_cancelling": True, "initial_haircut": 0.1, "maintenance_haircut": 0.05, "confidence_threshold": 0.5}
        ],
        "linear_scale": 1.0,
        "linear_base": 0.0,
        "abs_scale": 1.0,
        "abs_base": 0.0,
        "k_star_min": 0.01,
        "width": 4.0,
        "vol_static": 1.0,
        "vol_scale": 0.0,
        "range_up": 0.5,
        "range_down": 0.3,
        "shocked_sigma_min": 0.2,
        "short_power": 0.3,
        "long_power": 0.1,
        "days_floor": 1.0,
        "initial_factor": 1.25,
        "maintenance_factor": 1.0,
        "short_mult": 1.0,
        "long_mult": 1.0,
        "short_add": 0.1,
        "long_add": 0.1,
        "discount": 0.95,
        "discount_negative": 1.05,
        "spot_up": 1.05,
        "spot_down": 0.95,
        "basis_add": 0.2,
        "basis_mult": 0.5,
        "peg_loss_threshold": 0.99,
        "peg_loss_factor": 1.0,
        "confidence_threshold": 0.5,
        "confidence_margin": 0.5,
        "perp_maintenance": 0.02,
        "perp_initial": 0.02,
        "option_maintenance": 0.01,
        "option_initial": 0.01,
    },
    "derive_srm": {
        "markets": [
            {
                "name": "BTC",
                "perp_maintenance": 0.05,
                "perp_initial": 0.1,
                "spot_max": 0.15,
                "spot_min": 0.1,
                "call_maintenance": 0.1,
                "put_maintenance": 0.1,
                "put_mark_maintenance": 0.1,
                "put_initial_scale": 1.0,
                "unpaired_initial": 1.0,
                "unpaired_maintenance": 1.0,
                "base_factor": 0.8,
                "base_initial_scale": 0.9,
                "confidence_threshold": 0.5,
                "confidence_factor": 0.5,
            }
        ],
        "depeg_threshold": 0.98,
        "depeg_factor": 1.0,
    },
    "drift_v2": {
        "spots": [
            {"name": "USDC"},
            {
                "name": "BTC",
                "initial_asset_weight": 0.8,
                "maintenance_asset_weight": 0.9,
                "initial_liability_weight": 1.2,
                "maintenance_liability_weight": 1.1,
            },
        ],
        "perps": [{"name": "BTC", "margin_ratio_initial": 0.1, "margin_ratio_maintenance": 0.05}],
    },
    "hyperliquid_pm": {"borrow_offset_usd": 20.0, "liquidation_ratio": 0.95},
    "mango_v3": {"markets": [{"name": "BTC", "spot": _SIDE, "perp": _SIDE}]},
    "mango_v4": {
        "tokens": [{"name": "USDC", **_EVEN}, {"name": "BTC", **_SIDE}],
        "perps": [{"name": "BTC", "settle_token": 0, **_BASE, "init_overall_asset_weight": 0.9, "maint_overall_asset_weight": 1.0}],
    },
}

GIVEN: Final[dict[str, Given]] = {
    "derive_pmrm2": {"confidence": 1.0, "rate": 0.05},
    "derive_srm": {"confidence": 1.0},
    "hyperliquid_pm": {"loan_to_value": {"BTC": 0.5}, "supply_cap": {"BTC": 1_000.0}},
    "mango_v4": {"stable_usd": {"BTC": 100_000.0, "USDC": 1.0}},
}
