"""What a run came to: `summary.json`, and the tables shown at the end."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any, NamedTuple

import orjson
from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.reasons import State
from streams.broker import Cluster
from streams.demo.facts import SECOND_NS, START_NS
from streams.demo.population import KINDS, kind_of
from streams.demo.recorder import Recording
from streams.demo.seen import Seen
from streams.demo.timeline import Scenario


class ReplayCheck(NamedTuple):
    """What the offline replay of all ledgers found: how many orders must have come out, and the differences from those that did."""

    orders: int
    differences: list[str]


class Fallen(NamedTuple):
    """The loopers that fell below their line by the run's data: with all of USDe's sources, and with Binance as its only one."""

    all_sources: frozenset[str]
    single_venue: frozenset[str]

    @property
    def wrongly(self) -> frozenset[str]:
        """Those that Binance alone would have had liquidated, and all sources together not."""
        return self.single_venue - self.all_sources


class Run(NamedTuple):
    """One whole run of the monitor and what was computed from its ledgers afterwards."""

    scenario: Scenario
    recording: Recording
    replay: ReplayCheck
    fallen: Fallen
    seen: Seen
    accounts: int
    wall_s: float
    begin_s: int  # what was played: seconds after 20:30
    end_s: int

    def played(self, second: int) -> bool:
        """Whether what happens at that second after 20:30 was part of the run."""
        return self.begin_s < second <= self.end_s

    def orders(self) -> list[dict[str, Any]]:
        """The distinct orders, as messages."""
        return [orjson.loads(value) for value in self.recording.orders.values()]

    @property
    def opening(self) -> Mapping[str, Mapping[str, float]]:
        """What was required of each account, by mode, when everybody was in."""
        return self.recording.requirements.get(self.begin_s, {})

    def liquidated(self, kind: str) -> frozenset[str]:
        """Accounts of one kind for which at least one order went out."""
        return frozenset(order["account"] for order in self.orders() if kind_of(order["account"]) == kind)


class Efficiency(NamedTuple):
    """Requirement at maintenance by mode, over the accounts of one kind: sums, and the median account's ratio to isolated mode."""

    accounts: int
    isolated_usd: float
    protocol_usd: float
    portfolio_usd: float
    protocol_ratio: float
    portfolio_ratio: float

    def usd_of(self, mode: str) -> float:
        return {"isolated": self.isolated_usd, "protocol": self.protocol_usd, "portfolio": self.portfolio_usd}[mode]

    def median_of(self, mode: str) -> float:
        return {"isolated": 1.0, "protocol": self.protocol_ratio, "portfolio": self.portfolio_ratio}[mode]


def efficiency(required: Mapping[str, Mapping[str, float]]) -> dict[str, Efficiency]:
    """By kind of account, of accounts' requirements by mode; kinds of which nothing is required are left out."""
    found: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for account, by_mode in required.items():
        if by_mode["isolated"] > 0.0:
            found[kind_of(account)].append(by_mode)
    return {
        kind: Efficiency(
            len(found[kind]),
            *(sum(by_mode[mode] for by_mode in found[kind]) for mode in ("isolated", "protocol", "portfolio")),
            *(median(by_mode[mode] / by_mode["isolated"] for by_mode in found[kind]) for mode in ("protocol", "portfolio")),
        )
        for kind in KINDS
        if found[kind]
    }


class AssetSources(NamedTuple):
    """Who priced an asset. A source stands in both lists if some of its prices were real and others made."""

    real: list[str]
    synthetic: list[str]


def sources(recording: Recording) -> dict[str, AssetSources]:
    """Of each asset that had synthetic prices in the run: where quorum needs another source, it is one made from a real one."""
    told = sorted(recording.told_prices)
    assets = dict.fromkeys(asset for asset, _, is_synthetic in told if is_synthetic)
    return {
        asset: AssetSources(*([source for name, source, is_made in told if name == asset and is_made is made] for made in (False, True)))
        for asset in assets
    }


def summary(cluster: Cluster, runs: Iterable[Run]) -> dict[str, Any]:
    """The content of `out/demo/summary.json`."""
    return {"broker": {"kind": cluster.kind, "version": cluster.version}, **{run.scenario: run_summary(run) for run in runs}}


def run_summary(run: Run) -> dict[str, Any]:
    recording = run.recording
    orders = run.orders()
    return {
        "sources": {asset: found._asdict() for asset, found in sources(recording).items()},
        "events_in": sum(recording.events_in.values()),
        "frames": recording.frames,
        "cuts": recording.cuts,
        "orders": {
            "published": recording.orders_published,
            "distinct": len(recording.orders),
            "conflicting": len(recording.conflicting),
            "by_venue": counted(order["venue"] for order in orders),
            "by_cause": counted(order["cause"] for order in orders),
        },
        "dead_letters": counted(recording.letters.values()),
        "states": [{"time": iso(clock_ns), **{state.name: counts[state] for state in State}} for clock_ns, counts in recording.states],
        "breakers": [{**change._asdict(), "since": iso(change.since_ns)} for change in sorted(recording.breakers.values())],
        "replay": {"orders": run.replay.orders, "differences": run.replay.differences},
        "capital_efficiency": {kind: round(found.portfolio_ratio, 4) for kind, found in efficiency(run.opening).items()},
        "requirements": [
            {"time": iso(START_NS + second * SECOND_NS), **{kind: found._asdict() for kind, found in efficiency(required).items()}}
            for second, required in sorted(recording.requirements.items())
        ],
        "cascades": [{"time": iso(START_NS + curve.second * SECOND_NS), **curve._asdict()} for curve in run.seen.cascades],
        "wrongly_liquidated_by_single_venue_oracle": len(run.fallen.wrongly),
    }


def counted(names: Iterable[str]) -> dict[str, int]:
    """How often each name comes, most frequent first."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def show(console: Console, cluster: Cluster, runs: list[Run]) -> None:
    """The same for people, in the terminal; nothing is cut at 80 columns."""
    console.rule(f"10 October 2025 through Apache Kafka {cluster.version} ({cluster.kind})")
    console.print(_overview(runs))
    for run in runs:
        orders = run.orders()
        pairs = [_pairs(f"orders by {what}", counted(order[what] for order in orders)) for what in ("venue", "state", "cause")]
        pairs += [_pairs("dead letters", counted(run.recording.letters.values())), _pairs("breakers tripped", _trips(run))]
        console.print(f"\n[bold]Run {run.scenario}:[/bold] {STORY[run.scenario]}")
        console.print(Text(f"synthetic price sources: {synthetic_counts(run)}", style="dim"))
        console.print(_states(run))
        console.print(Columns(pairs, padding=(1, 3)))
    console.print(_saved(runs[0]), Text(_verdict(runs)))


STORY: Mapping[str, str] = {
    "A": "Binance alone prints USDe down to 0.65; its other two sources, both synthetic, hold where the on-chain pool did",
    "B": "every source of USDe falls: Binance, and the two synthetic ones with it",
}


def synthetic_counts(run: Run) -> str:
    """Whose prices were in part made from others'."""
    made = [f"{asset} {len(found.synthetic)} of {len({*found.real, *found.synthetic})}" for asset, found in sources(run.recording).items()]
    return ", ".join(made) or "none"


def _overview(runs: list[Run]) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("")
    for run in runs:
        table.add_column(f"run {run.scenario}", justify="right")
    rows: list[tuple[str, list[str]]] = [
        ("accounts", [f"{run.accounts:,}" for run in runs]),
        ("events in", [f"{sum(run.recording.events_in.values()):,}" for run in runs]),
        ("frames in the logs", [f"{run.recording.frames:,}" for run in runs]),
        ("cuts", [f"{run.recording.cuts:,}" for run in runs]),
        ("orders, distinct", [f"{len(run.recording.orders):,}" for run in runs]),
        ("orders with two contents", [str(len(run.recording.conflicting)) for run in runs]),
        ("differences found by the replay", [str(len(run.replay.differences)) for run in runs]),
        ("USDe loopers liquidated", [f"{len(run.liquidated('usde_looper')):,}" for run in runs]),
        ("... by an oracle of Binance alone", [f"{len(run.fallen.single_venue):,}" for run in runs]),
        ("seconds for two hours", [f"{run.wall_s:.0f}" for run in runs]),
    ]
    for name, cells in rows:
        table.add_row(name, *cells)
    return table


def _states(run: Run) -> Table:
    table = Table(title="accounts by state", title_justify="left", box=None)
    table.add_column("UTC", no_wrap=True)
    for state in State:
        table.add_column(state.name.lower(), justify="right", no_wrap=True)
    states = run.recording.states
    wanted = {*range(0, len(states), max(len(states) // 8, 1)), len(states) - 1} if states else set()
    for index in sorted(wanted):
        clock_ns, counts = states[index]
        table.add_row(iso(clock_ns)[11:16], *(str(counts[state]) for state in State))
    return table


def _pairs(title: str, pairs: Mapping[str, int]) -> Table:
    table = Table(box=None, header_style="italic")
    table.add_column(title, no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    for name, count in pairs.items():
        table.add_row(name, f"{count:,}")
    if not pairs:
        table.add_row("none", "")
    return table


def _trips(run: Run) -> dict[str, int]:
    trips = Counter(change.trigger for change in run.recording.breakers.values() if change.state == "tripped")
    return dict(sorted(trips.items()))


def _saved(run: Run) -> Table:
    table = Table(
        title="margin required at the opening (synthetic accounts), each position\nalone and netted across venues",
        title_justify="left",
        box=None,
    )
    for name in ("kind of account", "accounts", "isolated", "portfolio", "median ratio"):
        table.add_column(name, justify="left" if name == "kind of account" else "right", no_wrap=True)
    for kind, found in efficiency(run.opening).items():
        money = [f"${usd:,.0f}" for usd in (found.isolated_usd, found.portfolio_usd)]
        table.add_row(kind, f"{found.accounts:,}", *money, f"{found.portfolio_ratio:.2f}")
    return table


def _verdict(runs: list[Run]) -> str:
    lines = []
    for run in runs:
        loopers = len(run.liquidated("usde_looper"))
        if run.scenario == "A":
            lines.append(
                f"A: {loopers:,} loopers liquidated on one venue's price (the other sources are synthetic); an oracle of that venue "
                f"alone would have liquidated {len(run.fallen.wrongly):,}."
            )
        else:
            lines.append(f"B: {loopers:,} loopers liquidated when every source fell, the synthetic ones with Binance.")
    return "\n".join(lines)
