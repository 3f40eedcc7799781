"""The whole backtest: each episode with each set at each horizon, and what came of it."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.reasons import State
from streams.backtest.calls import Calls, Cost, Liquidations, calls, cost, liquidations
from streams.backtest.episodes import CALM_MINUTES, NAMES, load
from streams.backtest.kupiec import normal_tail
from streams.backtest.play import GRID_MINUTES, SIGMA_MINUTES, Played, play
from streams.backtest.population import ACCOUNTS, SEED, population
from streams.backtest.windows import LEVELS, Counts, count, losses, requirements, together
from streams.backtest.world import DAY_S, adaptive, static, validated

PROCESSES: Final = 2
HORIZONS: Final = {"day": 1440, "hour": 60}  # minutes
SETS: Final = ("adaptive", "static")
ALL: Final = "all"


class Options(NamedTuple):
    """What is asked for."""

    accounts: int = ACCOUNTS
    seed: int = SEED
    episodes: tuple[str, ...] = NAMES
    reference: Path | None = None
    confidence: float | None = None  # stated for all levels; None: the normal's, of the parameters' multiples
    minutes: int | None = None  # of each episode


class Run(NamedTuple):
    """One set at one horizon in one episode. `breaches` by (kind or ALL, level); what follows is of the day's horizon alone."""

    breaches: dict[tuple[str, str], Counts]
    calls: dict[str, Calls]  # by kind or ALL
    liquidations: dict[str, Liquidations]
    cost: Cost
    states: list[list[int]]  # accounts by state at each quarter of an hour
    initial_usd: list[float]  # required in all, likewise


class EpisodeResult(NamedTuple):
    """One episode."""

    name: str
    minutes: int
    kinds: dict[str, int]  # accounts
    runs: dict[tuple[str, str], Run]  # by (horizon, set)
    scans: dict[str, float]  # static scan ranges at the day's horizon, by class that the episode has


class Results(NamedTuple):
    """All of it. `promised` is the probability of a violation by level."""

    options: Options
    promised: dict[str, float]
    episodes: list[EpisodeResult]

    def total(self, horizon: str, chosen: str, kind: str, level: str) -> Counts | None:
        """Over the episodes that have the kind."""
        runs = [episode.runs[horizon, chosen] for episode in self.episodes]
        parts = [run.breaches[kind, level] for run in runs if (kind, level) in run.breaches]
        return together(parts) if parts else None

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(kind for episode in self.episodes for kind in episode.kinds))


def backtest(options: Options) -> Results:
    """Two episodes at a time; what comes out does not depend on it."""
    if len(options.episodes) == 1:
        found = [run_episode(options.episodes[0], options)]
    else:
        from engine.warm import warm

        warm()  # so that two processes do not compile the same kernels
        with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = list(pool.map(run_episode, options.episodes, [options] * len(options.episodes)))
    return Results(options, promised(options), found)


def promised(options: Options) -> dict[str, float]:
    """The probability of a violation. Requirements are multiples of the volatility over the horizon, `scan_k` at maintenance and
    `initial_factor` times that at the initial level; a position in one direction loses on one side of a normal distribution."""
    if options.confidence is not None:
        return dict.fromkeys(LEVELS, 1.0 - options.confidence)
    whole = validated(adaptive())
    tail = normal_tail(whole.scan_k)
    return {"maintenance": tail, "initial": normal_tail(whole.scan_k * whole.initial_factor), "covered": tail}


def run_episode(name: str, options: Options) -> EpisodeResult:
    episode = load(name, options.reference)
    openings = population(episode, options.accounts, options.seed)
    if options.minutes is not None:
        episode = episode.cut(options.minutes)
    calm = min(CALM_MINUTES[name], episode.minutes)
    runs: dict[tuple[str, str], Run] = {}
    scans: dict[str, float] = {}
    for horizon, minutes in HORIZONS.items():
        seconds = DAY_S * minutes / HORIZONS["day"]
        moving = play(episode, openings, adaptive(seconds), f"adaptive-{horizon}")
        seen = {kind: sigmas[: calm // SIGMA_MINUTES + 1] for kind, sigmas in sorted(moving.sigmas.items())}
        fixed = static(seconds, seen)
        standing = play(episode, openings, fixed, f"static-{horizon}")
        if horizon == "day":
            scans = {kind: fixed["classes"][kind]["scan_cap"] for kind in seen}
        for chosen, played in zip(SETS, (moving, standing), strict=True):
            runs[horizon, chosen] = _run(played, minutes, calm)
    kinds = {kind: sum(opening.kind == kind for opening in openings) for kind in dict.fromkeys(opening.kind for opening in openings)}
    return EpisodeResult(name, episode.minutes, kinds, runs, scans)


def _run(played: Played, horizon: int, calm: int) -> Run:
    chosen = _by_kind(played)
    found, required = losses(played.unhaircut, horizon), requirements(played)
    return Run(
        breaches={(kind, level): count(found, required[level], horizon, mask) for kind, mask in chosen.items() for level in LEVELS},
        calls={kind: calls(played.state, mask) for kind, mask in chosen.items()},
        liquidations={kind: liquidations(played, mask) for kind, mask in chosen.items()},
        cost=cost(played, calm, chosen[ALL]),
        states=[[int((row == state).sum()) for state in State] for row in played.state[::GRID_MINUTES]],
        initial_usd=[float(total) for total in np.nansum(played.initial + played.haircut_initial, axis=1)],
    )


def _by_kind(played: Played) -> dict[str, NDArray[np.bool_]]:
    kinds = np.array(played.kinds)
    return {**{kind: kinds == kind for kind in dict.fromkeys(played.kinds)}, ALL: np.ones(len(kinds), np.bool_)}


def as_data(results: Results) -> dict[str, Any]:
    """What `--json` writes: figures alone, in a fixed order; nothing of when or where it ran."""
    return {
        "accounts": results.options.accounts,
        "seed": results.options.seed,
        "promised": results.promised,
        "all": {f"{h}/{s}": _totals(results, h, s) for h in HORIZONS for s in SETS},
        "episodes": {
            episode.name: {
                "minutes": episode.minutes,
                "kinds": episode.kinds,
                "static_scan_ranges": episode.scans,
                **{f"{h}/{s}": _run_as_data(run, results.promised) for (h, s), run in episode.runs.items()},
            }
            for episode in results.episodes
        },
    }


def _totals(results: Results, horizon: str, chosen: str) -> dict[str, Any]:
    found = {(k, level): results.total(horizon, chosen, k, level) for k in [*results.kinds, ALL] for level in LEVELS}
    return _breaches_as_data({key: counts for key, counts in found.items() if counts is not None}, results.promised)


def _run_as_data(run: Run, expected: dict[str, float]) -> dict[str, Any]:
    return {
        "breaches": _breaches_as_data(run.breaches, expected),
        "calls": {kind: found._asdict() for kind, found in run.calls.items()},
        "liquidations": {kind: _liquidations_as_data(found) for kind, found in run.liquidations.items()},
        "cost": run.cost._asdict(),
    }


def _liquidations_as_data(found: Liquidations) -> dict[str, Any]:
    debts = {name: {"accounts": found.bad_debts[name], "usd": found.bad_debt_usd[name]} for name in found.bad_debts}
    return {"accounts": found.accounts, "recovered": found.recovered, "bad_debts": debts}


def _breaches_as_data(breaches: dict[tuple[str, str], Counts], expected: dict[str, float]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for (kind, level), counts in breaches.items():
        test = counts.test(expected[level])
        figures = {name: value for name, value in counts._asdict().items() if name != "runs"}
        kupiec = {"likelihood_ratio": test.ratio, "p_value": test.p_value, "verdict": test.verdict}
        data.setdefault(kind, {})[level] = {**figures, "kupiec": kupiec, "christoffersen_p_value": counts.independent()}
    return data
