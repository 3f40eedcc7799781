"""Greeks of positions in options, as the engine's market makes them, against those that Deribit showed for the same contracts."""

from pathlib import Path

import pytest

from engine.greeks import position_greeks
from engine.inputs import (
    AssetDefinition,
    ChainDefinition,
    ImpliedVolatility,
    InstrumentDefinition,
    OraclePrice,
    RiskParameters,
    VenueDefinition,
)
from engine.market import Market
from tests.reference import options

NOW_NS = 1_589_400_000 * 10**9
YEAR_NS = 365 * 86_400 * 10**9
COINS = 7  # of each contract
FILES = sorted((options.CARRIED / "options").glob("*/*.csv"))
# Half a cent, where vegas are some dollars: what the venue's rounding of the volatility and a forward of another instant leave.
ERROR_MAX_USD = 0.005


def market_of(quotes: list[options.Quote], contract: str) -> Market:
    """An underlying for each quote, as each has its own forward; expiries are as far from this clock as they were from the quote's."""
    market = Market()

    def taken(fault: object) -> None:
        assert fault is None, fault

    taken(market.define(ChainDefinition(v=1, time_ns=0, name="chain", finality_s=0.0, messaging_delay_s=0.0)))
    taken(market.define(VenueDefinition(v=1, time_ns=0, name="deribit", chain="chain")))
    for k, quote in enumerate(quotes):
        coin = f"BTC-{k}"
        taken(market.define(AssetDefinition(v=1, time_ns=0, name=coin, asset_class="major", sources={"venue": 1.0})))
        option = InstrumentDefinition(
            v=1,
            time_ns=0,
            venue="deribit",
            name=quote.instrument,
            contract="inverse_option" if contract == "inverse_option" else "option",
            underlying=coin,
            quote=coin if contract == "inverse_option" else "USD",
            lot_size=1.0,
            tick_size=0.0005,
            strike=quote.strike_usd,
            expiry_ns=NOW_NS + round(quote.t_years * YEAR_NS),
            is_call=quote.is_call,
        )
        taken(market.define(option))
    taken(market.set_parameters(RiskParameters(v=1, version="greeks", parameters={"quorum": 1}, time_ns=0)))
    market.tick(NOW_NS)
    market.revalue()
    for k, quote in enumerate(quotes):
        coin, expiry_ns = f"BTC-{k}", NOW_NS + round(quote.t_years * YEAR_NS)
        taken(market.observe_volatility(ImpliedVolatility(v=1, underlying=coin, expiry_ns=expiry_ns, sigma=quote.sigma, time_ns=NOW_NS)))
        taken(market.observe_price(OraclePrice(v=1, asset=coin, source="venue", price=quote.forward_usd, publish_time_ns=NOW_NS)))
    market.revalue()
    return market


@pytest.mark.parametrize("contract", ["option", "inverse_option"])
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_greeks_are_those_that_deribit_showed(path: Path, contract: str) -> None:
    quotes, excluded = options.read_quotes(path)
    assert excluded == []
    market = market_of(quotes, contract)
    apart = []
    for quote in quotes:
        number = market.universe.instrument_number("deribit", quote.instrument)
        assert number is not None
        greeks = position_greeks(market, number, COINS, 0)
        assert greeks.unknown == ""
        assert greeks.delta is not None
        assert greeks.vega_usd is not None
        assert greeks.rho_usd is not None
        errors = options.errors(quote)
        for name, ours, theirs, allowed in (
            ("delta", greeks.delta / COINS, quote.delta, errors.delta_allowed),
            ("vega", greeks.vega_usd / COINS, quote.vega_usd, ERROR_MAX_USD),
            ("rho", greeks.rho_usd / COINS, quote.rho_usd, ERROR_MAX_USD),
        ):
            if not abs(ours - theirs) <= allowed:
                apart.append(f"{quote.instrument}: {name} {ours}, by Deribit {theirs}, {allowed} allowed")
        assert greeks.delta_usd == pytest.approx(greeks.delta * quote.forward_usd)
    assert apart == []
