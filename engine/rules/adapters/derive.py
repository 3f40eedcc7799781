"""Derive's rules. The venue keeps dollars as USDC; its feeds state a confidence, which no mark has and which must be given."""

from typing import NamedTuple

import numpy as np

from engine.rules import derive_pmrm2, derive_srm
from engine.rules.legs import NOT_NEGATIVE, SHARE, UNITS_OF_USD, Adapted, Bools, Floats, Integers, Needs, VenueLegs, Within
from engine.tables import LOAN, OPTION, PERPETUAL, SPOT

_SECONDS_A_YEAR = 365.0 * 86_400.0


class _Kinds(NamedTuple):
    """(legs,) what each leg is; (accounts,) dollars in USDC. A perpetual's cash is part of its profit."""

    option: Bools
    perp: Bools
    balance: Bools
    cash_usd: Floats


class _Listed(NamedTuple):
    """The options that are held, each once, and the expiries that they have."""

    of_leg: Integers  # (legs that are options,) index of its option
    expiry: Integers  # (options,) index of its expiry
    strike_usd: Floats
    is_call: Bools
    sigma: Floats
    expiry_asset: Integers  # (expiries,)
    expiry_s: Floats


def of_derive_srm(held: VenueLegs, parameters: derive_srm.Parameters, needs: Needs) -> list[Adapted]:
    """Markets by the names of their assets. `given`: confidence of feeds, and stable_usd where USDC is no asset."""
    names = [market.name for market in parameters.markets]
    places, legs = held.places_of(names), held.legs
    market = places[legs.asset]
    kinds = _kinds(held)
    _refuse(held, needs)
    needs.refuse((kinds.option | kinds.perp | kinds.balance) & (market < 0), "no market of the parameters is called {asset}")
    option, perp, balance = (which & (market >= 0) for which in kinds[:3])
    listed = _listed(held, option)
    confidence = _confidence(held, option | perp | balance, needs)
    marks_usd, of_markets, of_expiries = held.marks_of(names), held.by_name(confidence, names), confidence[listed.expiry_asset]
    inputs = derive_srm.Inputs(
        stable_usd=_stable_usd(held, needs),
        spot_usd=marks_usd,
        spot_confidence=of_markets,
        perp_usd=marks_usd,
        perp_confidence=of_markets,
        expiry_market=places[listed.expiry_asset],
        expiry_s=listed.expiry_s,
        forward_usd=held.mark_usd[listed.expiry_asset],
        forward_confidence=of_expiries,
        sigma_confidence=of_expiries,
        option_expiry=listed.expiry,
        option_strike_usd=listed.strike_usd,
        option_is_call=listed.is_call,
        option_sigma=listed.sigma,
        cash_usd=kinds.cash_usd,
        start=held.starts_of(option),
        leg_option=listed.of_leg,
        leg_amount=legs.units[option],
        perp_start=held.starts_of(perp),
        perp_market=market[perp],
        perp_amount=legs.units[perp],
        perp_profit_usd=legs.value_usd[perp],
        base_start=held.starts_of(balance),
        base_market=market[balance],
        base_amount=legs.units[balance],
    )
    return [Adapted(np.arange(held.accounts), inputs)]


def of_derive_pmrm2(held: VenueLegs, parameters: derive_pmrm2.Parameters, needs: Needs) -> list[Adapted]:
    """Collateral by name, accounts by their one underlying: one `Adapted` for each.

    `given`: confidence of feeds, rate (annual), and stable_usd where USDC is no asset.
    """
    names = [collateral.name for collateral in parameters.collaterals]
    kinds = _kinds(held)
    traded = kinds.option | kinds.perp
    _refuse(held, needs)
    needs.refuse(kinds.balance & (held.places_of(names) < 0)[held.legs.asset], "no collateral of the parameters is called {asset}")
    mixed, first = held.mixed(traded), held.firsts(traded)
    needs.refuse_accounts(
        mixed, lambda account: f"the rule takes one underlying: the account has contracts of {held.assets_of(account, traded)}"
    )
    needs.refuse_accounts(
        first < 0,
        lambda _: "the rule needs a perpetual or an option: without either, which underlying the collateral goes with is not said",
    )
    feeds = _Feeds(
        _confidence(held, traded | kinds.balance, needs),
        needs.number("rate", "the venue's rate feed, an annual decimal", Within(-10.0, 10.0)),
        _stable_usd(held, needs),
    )
    taken = ~needs.not_taken
    underlying = np.zeros(held.accounts, np.int64)
    underlying[taken] = held.legs.asset[first[taken]]
    if not taken.any():  # arrays of nobody, as the other adapters give them: a kernel can be compiled by them
        return [Adapted(np.flatnonzero(taken), _of_one_underlying(held.only(np.flatnonzero(taken)), names, None, feeds))]
    return [
        Adapted(accounts, _of_one_underlying(held.only(accounts), names, asset, feeds))
        for asset in np.unique(underlying[taken]).tolist()
        for accounts in [np.flatnonzero(taken & (underlying == asset))]
    ]


class _Feeds(NamedTuple):
    confidence: Floats  # (assets,)
    rate: float
    stable_usd: float


def _of_one_underlying(held: VenueLegs, collaterals: list[str], asset: int | None, feeds: _Feeds) -> derive_pmrm2.Inputs:
    """`asset` is None where there is nobody."""
    legs, kinds = held.legs, _kinds(held)
    spot_usd, sure = (np.nan, np.nan) if asset is None else (float(held.mark_usd[asset]), float(feeds.confidence[asset]))
    place = held.places_of(collaterals)[legs.asset]
    listed = _listed(held, kinds.option)
    expiries = len(listed.expiry_s)
    confidence = np.full(expiries, sure)
    return derive_pmrm2.Inputs(
        spot_usd=spot_usd,
        spot_confidence=sure,
        perp_usd=spot_usd,
        perp_confidence=sure,
        stable_usd=feeds.stable_usd,
        expiry_s=listed.expiry_s,
        forward_usd=np.full(expiries, spot_usd),
        forward_confidence=confidence,
        rate=np.full(expiries, feeds.rate),
        rate_confidence=confidence,
        sigma_confidence=confidence,
        option_expiry=listed.expiry,
        option_pair=derive_pmrm2.option_pairs(listed.expiry, listed.strike_usd),
        option_strike_usd=listed.strike_usd,
        option_is_call=listed.is_call,
        option_sigma=listed.sigma,
        collateral_usd=held.marks_of(collaterals),
        collateral_confidence=held.by_name(feeds.confidence, collaterals),
        cash_usd=kinds.cash_usd,
        perps=held.sums(np.where(kinds.perp, legs.units, 0.0)),
        perp_profit_usd=held.sums(np.where(kinds.perp, legs.value_usd, 0.0)),
        perp_funding_usd=np.zeros(held.accounts),
        start=held.starts_of(kinds.option),
        leg_option=listed.of_leg,
        leg_amount=legs.units[kinds.option],
        collateral_start=held.starts_of(kinds.balance),
        held_collateral=place[kinds.balance],
        held_amount=legs.units[kinds.balance],
    )


def _kinds(held: VenueLegs) -> _Kinds:
    legs = held.legs
    dollars = (held.places_of(UNITS_OF_USD) >= 0)[legs.asset]
    option, perp, balance = held.of(OPTION), held.of(PERPETUAL), held.of(SPOT, LOAN)
    own_usd = np.where(balance & dollars, legs.units, 0.0)
    cash_usd = held.sums(own_usd + np.where(option, legs.cash, 0.0))
    return _Kinds(option, perp, balance & ~dollars, cash_usd)


def _refuse(held: VenueLegs, needs: Needs) -> None:
    legs = held.legs
    taken = held.of(OPTION, PERPETUAL, SPOT, LOAN)
    in_dollars = (held.places_of(UNITS_OF_USD) >= 0)[legs.quote]
    needs.refuse(~taken, "the venue settles in dollars: there are options, perpetuals and balances")
    needs.refuse(taken & (legs.cash != 0.0) & ~in_dollars, "its cash is in {quote}, and the venue's is in USDC")


def _listed(held: VenueLegs, option: Bools) -> _Listed:
    """Of these legs, (legs,). Expiries are by asset and time, so that sums over them have one order whoever else is there."""
    legs = held.legs
    instrument = legs.instrument[option]
    where = np.full(len(held.instruments), -1, np.int64)  # a leg of each
    where[instrument] = np.flatnonzero(option)
    leg = where[where >= 0]
    number = np.cumsum(where >= 0) - 1
    expiries, expiry = np.unique(np.column_stack((legs.asset[leg], legs.years[leg])), axis=0, return_inverse=True)
    asset, years = expiries.T
    return _Listed(
        of_leg=number[instrument],
        expiry=expiry.reshape(-1).astype(np.int64),
        strike_usd=legs.strike_usd[leg],
        is_call=legs.is_call[leg],
        sigma=legs.sigma[leg],
        expiry_asset=asset.astype(np.int64),
        expiry_s=years.astype(np.float64) * _SECONDS_A_YEAR,
    )


def _confidence(held: VenueLegs, which: Bools, needs: Needs) -> Floats:
    """(assets,): of the feeds of each asset, as far as accounts hold `which` (legs,)."""
    what = "how sure the venue's feeds are, 0 to 1"
    return needs.number_or_by_asset("confidence", held.account[which], held.legs.asset[which], what, SHARE)


def _stable_usd(held: VenueLegs, needs: Needs) -> float:
    """Its mark, nan while that is unknown: what is given stands in for an asset that is not there, never for a price that went silent."""
    if "USDC" in held.assets:
        return float(held.marks_of(["USDC"]).item())
    return needs.number("stable_usd", "the price of USDC, which is no asset here", NOT_NEGATIVE)
