"""What a worker tells about risk: its books' totals, and, from the owner of book 0, the market as all books have it.

Books see the same market, so one of them tells it: each series is there once, whatever the number of workers. The labels are bounded by
what is defined (assets, sources, chains, venues); no label is an account.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge

from engine.breakers import BREAKER_STATES, CLOSED, RECOVERING, TRIPPED
from engine.effects import AssetReport, ChainReport, LeverageReport
from engine.encumbrance import Look, leverage_reports
from engine.limits import Limits
from engine.monitor import Book
from engine.reasons import Cause, State, Unknown
from engine.reporting import refusing
from engine.survey import LEVELS, SIDES, Flights, OpenBreaker, Totals, asset_reports, chain_reports, flights, open_breakers, totals
from engine.venue_legs import LEG_VERDICTS

log = logging.getLogger(__name__)

# Breakers by how bad they are, not by the engine's numbers: an alert compares.
_BREAKER_RANKS = {BREAKER_STATES[CLOSED]: 0, BREAKER_STATES[RECOVERING]: 1, BREAKER_STATES[TRIPPED]: 2}


class RiskMetrics:
    """Gauges of risk, in a worker's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._of_a_book: list[Gauge] = []
        self._of_the_market: list[Gauge] = []
        self._venues: dict[int, set[str]] = {}  # that have series of legs, by partition
        self._failing: dict[int, set[str]] = {}  # that have series of failures of their rules, by partition
        self._faults: dict[tuple[int, str], str] = {}  # logged last, by partition and venue
        self._looks: dict[int, Look] = {}  # told last, by partition: there are some hundred series of each, and they stay a minute

        def book(name: str, says: str, *labels: str) -> Gauge:
            gauge = Gauge(f"plimsoll_{name}", says, ["partition", *labels], registry=registry)
            self._of_a_book.append(gauge)
            return gauge

        def market(name: str, says: str, *labels: str) -> Gauge:
            gauge = Gauge(f"plimsoll_{name}", says, labels, registry=registry)
            self._of_the_market.append(gauge)
            return gauge

        self.accounts = book("accounts", "Accounts by state and by what made them fall", "state", "cause")
        self.unknown = book("accounts_unknown", "Accounts that cannot be valued, by reason", "reason")
        self.equity = book("equity_usd", "Equity of accounts that can be valued", "state")
        self.shortfall = book("shortfall_usd", "What accounts miss to a level, summed", "level")
        self.bad_debt = book("bad_debt_usd", "Unhaircut equity below zero, as a positive number")
        self.exposure = book("exposure_usd", "Notional of positions whose mark is known", "chain", "layer", "side")
        self.pending = book("accounts_pending", "Accounts with open orders or withdrawals under way")
        self.refusing = book("accounts_refusing", "Accounts that are refused new risk, by reason", "reason")
        self.legs = book(
            "venue_legs", "Legs at venues that have a rule, by how far the venue's own liquidation is", "venue", "verdict", "portfolio"
        )
        self.rule_failures = book(
            "venue_rule_failures", "Looks at a venue's legs in which its rule failed, since the partition was loaded", "venue"
        )
        self.book_breaker = book(
            "book_breaker_state", "Of a book's breakers that were ever open: 0 closed, 1 recovering, 2 tripped", "trigger", "name"
        )
        self.in_flight = book("orders_in_flight", "Orders that may still be filled", "venue")
        self.unreported = book("orders_unreported", "Orders in flight of which nothing was heard, neither report nor fill", "venue")
        self.oldest_unreported = book("oldest_unreported_order_seconds", "How long, by the book's clock, the oldest of them has been out")
        self.expired_unreported = Counter(
            "plimsoll_orders_expired_unreported_total",
            "Orders that ended by their time and unheard",
            ["venue"],
            registry=registry,
        )
        self.credits_held = book("credits_held", "Credits that wait for their chain, or for their instrument")
        self.snapshots_ignored = book("snapshots_ignored", "Snapshots that could not be compared, since the partition was loaded")
        self.publishing = book("publishing", "1: orders go out; 0: the book observes")
        self.frozen = book("frozen", "Freezes in force", "scope")
        self.claims = book("asset_claims_usd", "Of an asset, at what it claims, by the partition's accounts", "asset", "kind")
        self.encumbrance = book("asset_encumbrance_multiple", "Claims on an asset and what is redeemable into it, by coins", "asset")
        self.looped_share = book("asset_looped_share", "Of what is held of an asset: bought with what was borrowed", "asset")
        self.pledged_share = book("asset_pledged_share", "Of what is held of an asset: by accounts that owe or have derivatives", "asset")
        self.cascade = book("cascade_volume_usd", "What a fall of an asset's group from the mark makes sell of it", "asset", "fall")

        self.mark_known = market("mark_known", "1: the asset has a mark", "asset")
        self.mark = market("mark_usd", "The mark, while it is known", "asset")
        self.mark_age = market("mark_age_seconds", "Age of the newest price that counts, by the books' clock", "asset")
        self.dispersion = market("mark_dispersion_ratio", "Spread of the sources that count, as a fraction of the mark", "asset")
        self.depth = market("depth_usd", "Depth in force, observed or the floor of its class", "asset")
        self.volatility = market("volatility_ratio", "Annualised volatility in force at maintenance", "asset")
        self.source_age = market("source_age_seconds", "Age of a source's newest price, by the books' clock", "asset", "source")
        self.source_counts = market("source_counts", "1: the source counts for the mark; 0: it is stale or apart", "asset", "source")
        self.stable = market("stable_price_usd", "The delay-limited price that the initial level goes by", "asset")
        self.suspended = market("asset_suspended", "1: the asset is suspended as collateral", "asset")
        self.uptime = market("mark_uptime_ratio", "The share of late in which the asset had a mark", "asset")
        self.stress = market("stress_ratio", "Stress of the correlations of the asset's group, at maintenance", "asset")
        self.recognised = market("chain_recognised_ratio", "The share of a chain's collateral that is recognised now", "chain")
        self.asset_recognised = market("asset_recognised_ratio", "The share of an asset's balances that its global cap leaves", "asset")
        self.slip = market("cross_chain_slip_ratio", "Slippage in force, as measured by fills of orders away from the collateral", "chain")
        self.lag = market("attestation_lag_seconds", "95th percentile of the observed attestation lag", "chain")
        self.heartbeat_age = market("heartbeat_age_seconds", "Time since a chain's newest heartbeat, by the books' clock", "chain")
        self.breaker = market("breaker_state", "Of breakers that were ever open: 0 closed, 1 recovering, 2 tripped", "trigger", "name")

    def survey(self, book: Book) -> None:
        """What a book's accounts come to, and from one of the books what the market is."""
        market, partition = book.market, book.partition
        self.tell_totals(
            partition, totals(book.accounts, market), [(chain.name, chain.messaging_layer) for chain in market.universe.chains]
        )
        venues = [venue.name for venue in market.universe.venues if not venue.vault]
        self.tell_flights(partition, flights(book.lives, market), venues, book.take_unheard())
        self.tell_book(partition, book.limits, book.snapshots_ignored, book.credits_held)
        self.tell_refusals(partition, book.accounts.accounts_with_pending, refusing(book.accounts, book.breakers.refuses_risk))
        self.tell_legs(partition, {market.universe.venues[v].name: book.legs.counted(v) for v in market.universe.venue_rules})
        self.tell_failures(partition, {market.universe.venues[v].name: int(book.legs.failures[v]) for v in market.universe.venue_rules})
        for venue, fault in tuple(book.legs.faults.items()):
            self._log_fault(partition, market.universe.venues[venue].name, fault)
        self.tell_book_breakers(partition, [OpenBreaker(*one) for one in book.breakers.opened(market)])
        book.leverage.go_on(book.accounts, market)
        look = book.leverage.last
        if look is not None and look is not self._looks.get(partition):
            self._looks[partition] = look
            self.tell_leverage(leverage_reports(look, market, partition))
        if partition == 0:
            self.tell_market(asset_reports(market), chain_reports(market), open_breakers(market))

    # ---- a book -----------------------------------------------------------------------------------------------------------------------

    def tell_totals(self, partition: int, totals: Totals, chains: Sequence[tuple[str, str]]) -> None:
        """Sums over a book's accounts; `chains` are (name, messaging layer) by number."""
        for state in State:
            for cause in Cause:
                self.accounts.labels(partition, state.name, cause.name.lower()).set(totals.accounts[state, cause])
            if state is not State.UNKNOWN:
                self.equity.labels(partition, state.name).set(totals.equity_usd[state])
        for reason in Unknown:
            if reason is not Unknown.NONE:
                self.unknown.labels(partition, reason.name.lower()).set(totals.unknown[reason])
        for level, usd in zip(LEVELS, totals.shortfall_usd, strict=True):
            self.shortfall.labels(partition, level).set(usd)
        self.bad_debt.labels(partition).set(totals.bad_debt_usd[0])
        for (chain, layer), exposures in zip(chains, totals.exposure_usd, strict=False):
            for side, usd in zip(SIDES, exposures, strict=True):
                self.exposure.labels(partition, chain, layer, side).set(usd)

    def tell_flights(self, partition: int, flights: Flights, venues: Sequence[str], expired_unreported: Mapping[str, int]) -> None:
        """Orders in flight of every venue in `venues`, and those that ended unheard since the last call."""
        for venue in venues:
            self.in_flight.labels(partition, venue).set(flights.in_flight.get(venue, 0))
            self.unreported.labels(partition, venue).set(flights.unreported.get(venue, 0))
            self.expired_unreported.labels(venue).inc(expired_unreported.get(venue, 0))
        self.oldest_unreported.labels(partition).set(flights.oldest_unreported_ns / 1e9)

    def tell_book(self, partition: int, limits: Limits, snapshots_ignored: int, credits_held: int) -> None:
        """What only books can tell, as of now."""
        self.snapshots_ignored.labels(partition).set(snapshots_ignored)
        self.credits_held.labels(partition).set(credits_held)
        self.publishing.labels(partition).set(limits.publish)
        frozen = {"all": int(limits.frozen_all), "account": len(limits.frozen_accounts), "venue": len(limits.frozen_venues)}
        for scope, count in frozen.items():
            self.frozen.labels(partition, scope).set(count)

    def tell_refusals(self, partition: int, pending: int, refusing: Mapping[str, int]) -> None:
        """Accounts with something pending, and by reason those that are refused new risk."""
        self.pending.labels(partition).set(pending)
        for reason, count in refusing.items():
            self.refusing.labels(partition, reason).set(count)

    def tell_legs(self, partition: int, legs: Mapping[str, NDArray[np.int64]]) -> None:
        """By venue, [whole portfolio healthy or not, verdict] as of the last look at each account; no other venue has a series."""
        gone = self._venues.get(partition, set()) - set(legs)
        self._venues[partition] = set(legs)
        for venue in gone:
            self.legs.remove_by_labels({"partition": str(partition), "venue": venue})
        for venue, counts in legs.items():
            for portfolio, by_verdict in zip(("other", "healthy"), counts.tolist(), strict=True):
                for verdict, count in zip(LEG_VERDICTS, by_verdict, strict=True):
                    self.legs.labels(partition, venue, verdict, portfolio).set(count)

    def tell_failures(self, partition: int, failures: Mapping[str, int]) -> None:
        """By venue that has a rule; no other has a series."""
        for venue in self._failing.get(partition, set()) - set(failures):
            self.rule_failures.remove(str(partition), venue)
        self._failing[partition] = set(failures)
        for venue, count in failures.items():
            self.rule_failures.labels(partition, venue).set(count)

    def _log_fault(self, partition: int, venue: str, fault: str) -> None:
        """Once, until it is another one."""
        if self._faults.get((partition, venue)) != fault:
            self._faults[partition, venue] = fault
            log.error("partition %d: the rule of venue %s failed, its legs have no number: %s", partition, venue, fault)

    def tell_book_breakers(self, partition: int, breakers: Sequence[OpenBreaker]) -> None:
        """What a book's own breakers are at."""
        for breaker in breakers:
            self.book_breaker.labels(partition, breaker.trigger, breaker.name).set(_BREAKER_RANKS[breaker.state])

    def tell_leverage(self, reports: Sequence[LeverageReport]) -> None:
        """The last whole look at a book; a ratio that is not known has no value."""
        for report in reports:
            at = (report.partition, report.asset)
            for kind, usd in (
                ("held", report.held_usd),
                ("pledged", report.pledged_usd),
                ("looped", report.looped_usd),
                ("claims", report.claims_usd),
                ("owed", report.owed_usd),
            ):
                self.claims.labels(*at, kind).set(usd)
            _set_or_remove(self.encumbrance, report.encumbrance_multiple, *at)
            _set_or_remove(self.looped_share, report.looped_share, *at)
            _set_or_remove(self.pledged_share, report.pledged_share, *at)
            for point in report.cascade:
                self.cascade.labels(*at, f"{point.fall:g}").set(point.volume_usd)

    def forget_book(self, partition: int) -> None:
        """Drop the gauges of a book that somebody else owns now; a frozen value would look alive."""
        for gauge in self._of_a_book:
            gauge.remove_by_labels({"partition": str(partition)})
        self._looks.pop(partition, None)
        self._venues.pop(partition, None)
        self._failing.pop(partition, None)
        self._faults = {key: fault for key, fault in self._faults.items() if key[0] != partition}
        if partition == 0:
            for gauge in self._of_the_market:
                gauge.clear()

    # ---- the market -------------------------------------------------------------------------------------------------------------------

    def tell_market(self, assets: Sequence[AssetReport], chains: Sequence[ChainReport], breakers: Sequence[OpenBreaker]) -> None:
        """The market as all books have it. What is not known has no value, so that it isn't taken for one."""
        for asset in assets:
            name = asset.asset
            self.mark_known.labels(name).set(asset.mark_usd is not None)
            _set_or_remove(self.mark, asset.mark_usd, name)
            _set_or_remove(self.mark_age, asset.age_seconds, name)
            self.dispersion.labels(name).set(asset.dispersion)
            self.depth.labels(name).set(asset.depth_usd)
            self.volatility.labels(name).set(asset.sigma_maintenance)
            _set_or_remove(self.stable, asset.stable_usd, name)
            self.suspended.labels(name).set(asset.suspended)
            self.uptime.labels(name).set(asset.uptime)
            self.stress.labels(name).set(asset.stress_maintenance)
            self.asset_recognised.labels(name).set(asset.recognised)
            for source in asset.sources:
                _set_or_remove(self.source_age, source.age_seconds, name, source.source)
                self.source_counts.labels(name, source.source).set(source.counts)
        for chain in chains:
            self.recognised.labels(chain.chain).set(1.0 - chain.paused)
            self.slip.labels(chain.chain).set(chain.slip)
            _set_or_remove(self.lag, chain.lag_p95_seconds, chain.chain)
            _set_or_remove(self.heartbeat_age, chain.heartbeat_age_seconds, chain.chain)
        for breaker in breakers:
            self.breaker.labels(breaker.trigger, breaker.name).set(_BREAKER_RANKS[breaker.state])


def _set_or_remove(gauge: Gauge, value: float | None, *labels: Any) -> None:
    if value is None:
        gauge.remove(*labels)
    else:
        gauge.labels(*labels).set(value)
