"""All benchmarks in one run: what an event costs on the bus, what the engine and each venue's rule cost an account. Writes out/bench.json.

`python -m tests.bench.run [--quick] [--rounds N] [--docs FILE...]`. What is compared runs in turns, round by round, so that whatever else
the machine does meets all of it; medians over the rounds count. Ends with 1 only where a result was wrong: then no rate means anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from streams.broker import Cluster, cluster
from streams.documents import MadeTable, as_table, renewed
from streams.roster import PRODUCT
from tests.bench.bus import Bus, Sizes, Speed, WrongResult, settings_in_words
from tests.fault.workers import ROOT

OUT: Final = Path("out/bench.json")
AIM: Final = 50.0  # our path against Faust with one table write an event
ROUNDS: Final = 5
ENGINE_ROUNDS: Final = 5
QUICK: Final = Sizes(accounts=500, fills=60_000, agent_events=4_000, table_events=2_000)
QUICK_ENGINE_ACCOUNTS: Final = 20_000
QUICK_RULE_ACCOUNTS: Final = 500
BUS: Final = {
    "faust_agent": "Faust, an agent that does nothing",
    "faust_table": "Faust, one table write an event, its changelog in the broker",
    "plimsoll": "**Plimsoll: fill to frame to ledger to health to durable row**, one worker",
    "raw_getmany": "aiokafka `getmany` alone",
}


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: shows that everything runs, measures nothing well")
    parser.add_argument("--rounds", type=int, default=0, help=f"of the bus, {ROUNDS} where not given")
    parser.add_argument("--partitions", type=int, default=1, help="of the ledger")
    parser.add_argument("--only", choices=("bus", "engine", "rules"), help="leave the others out; out/bench.json keeps what it had of them")
    parser.add_argument("--machines", default=PRODUCT, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--docs", type=Path, nargs="*", default=[], help="documents whose table of results is renewed")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)  # a client that finds a new topic without a leader says so, and tries again
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    sizes = (QUICK if options.quick else Sizes())._replace(partitions=options.partitions)
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.only and options.out.exists() else {}
    found |= {"quick": options.quick, "machine": machine()}
    try:
        if options.only in (None, "engine"):
            found["engine"] = engine(options.quick)
        if options.only in (None, "rules"):
            found["rules"] = rules(options.quick)
        if options.only in (None, "bus"):
            found |= bus(sizes, rounds, options.machines)
    except WrongResult as wrong:
        print(f"WRONG RESULT, nothing is written: {wrong}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\n{report(found)}\n{options.out} is written")
    for document in options.docs:
        document.write_text(renewed(document.read_text(), MadeTable("bench", "tests.bench.run --docs", lambda: report(found))))
    return 0


def machine() -> dict[str, Any]:
    """Where this runs, and what ran beside it when it began."""
    model = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 1),
        "at": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def engine(quick: bool) -> dict[str, Any]:
    """The engine's part, in a process of its own, so that numpy's matrix products get one thread as the engine does."""
    print("engine: revaluation against numpy ...", flush=True)
    arguments = ["--accounts", str(QUICK_ENGINE_ACCOUNTS), "--rounds", "1"] if quick else ["--rounds", str(ENGINE_ROUNDS)]
    return _alone("tests.bench.engine_speed", arguments)


def rules(quick: bool) -> dict[str, Any]:
    """The venues' rules, in a process of their own."""
    print("rules: accounts a second of each venue's rule ...", flush=True)
    return _alone(
        "tests.bench.rules", ["--accounts", str(QUICK_RULE_ACCOUNTS), "--rounds", "1"] if quick else ["--rounds", str(ENGINE_ROUNDS)]
    )


def _alone(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What a benchmark with one thread prints. WrongResult if it fails."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", module, *arguments], env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise WrongResult(f"{module} failed, see above")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def bus(sizes: Sizes, rounds: int, machines: str) -> dict[str, Any]:
    """The bus's part, on a broker of its own, or on that of $PLIMSOLL_BOOTSTRAP."""
    folder = Path(tempfile.mkdtemp(prefix="plimsoll-bench-"))
    try:
        with cluster(folder / "kafka") as found:
            measured = asyncio.run(_bus(found, folder, sizes, rounds, machines))
    except BaseException:
        print(f"the workers' logs are in {folder}", file=sys.stderr)
        raise
    shutil.rmtree(folder)
    return measured


async def _bus(kafka: Cluster, folder: Path, sizes: Sizes, rounds: int, machines: str) -> dict[str, Any]:
    bench = Bus(kafka.bootstrap, folder, sizes, machines)
    print(f"bus: opening {sizes.accounts:,} accounts; kernels are compiled where they are not yet, which takes a minute ...", flush=True)
    await bench.open()
    speeds: dict[str, list[Speed]] = {name: [] for name in BUS}
    for number in range(1, rounds + 1):
        first = await bench.append()
        for name in BUS:
            speed = await _measured(bench, name, first)
            speeds[name].append(speed)
            print(f"bus: round {number}/{rounds}: {name} {speed.per_s:,.0f} events/s, {speed.cpu_us:.1f} us of CPU each", flush=True)
    return in_figures(speeds) | {
        "setup": {
            "broker": f"Kafka {kafka.version} ({kafka.kind})",
            "settings": settings_in_words(bench.settings),
            "rounds": rounds,
            **sizes._asdict(),
        }
    }


async def _measured(bench: Bus, name: str, first: Sequence[tuple[bytes, bytes]]) -> Speed:
    match name:
        case "faust_agent":
            return await bench.faust("agent", first[: bench.sizes.agent_events])
        case "faust_table":
            return await bench.faust("table", first[: bench.sizes.table_events])
        case "plimsoll":
            return await bench.plimsoll()
    return await bench.raw_getmany()


def in_figures(speeds: dict[str, list[Speed]]) -> dict[str, Any]:
    """Medians, spreads, and ratios: of each round's two neighbours, since they met the same machine, then the median of those."""

    def median(of: Callable[[Speed], float], name: str) -> float:
        return statistics.median(of(speed) for speed in speeds[name])

    rates = {name: [speed.per_s for speed in found] for name, found in speeds.items()}
    ratios = {
        f"plimsoll/{name}": round(statistics.median(ours / theirs for ours, theirs in zip(rates["plimsoll"], rates[name], strict=True)), 2)
        for name in BUS
        if name != "plimsoll"
    }
    return {
        "bus": {name: round(median(lambda speed: speed.per_s, name)) for name in BUS},
        "bus_spread": {name: round((max(rate) - min(rate)) / statistics.median(rate), 3) for name, rate in rates.items()},
        "bus_rounds": {name: [round(rate) for rate in found] for name, found in rates.items()},
        "bus_cpu_us": {name: _known(round(median(lambda speed: speed.cpu_us, name), 2)) for name in BUS},
        "ratios": ratios,
        "aim": {"plimsoll/faust_table": AIM, "met": ratios["plimsoll/faust_table"] >= AIM},
    }


def _known(number: float) -> float | None:
    """None for what could not be measured: JSON has no nan."""
    return None if math.isnan(number) else number


# ---- in words -------------------------------------------------------------------------------------------------------------------------


def report(found: dict[str, Any]) -> str:
    """The results in Markdown."""
    where = found["machine"]
    parts = [
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB, {where['system']}, Python {where['python']}, {where['at']}; "
        f"load {where['load_before']} from other programs before it began."
        + (" Quick sizes: the figures mean little." if found["quick"] else "")
        + "\n"
    ]
    if "bus" in found:
        parts += [_bus_table(found)]
    if "engine" in found:
        parts += [_engine_table(found["engine"])]
    if "rules" in found:
        parts += [_rules_table(found["rules"])]
    return "\n".join(parts)


def _bus_table(found: dict[str, Any]) -> str:
    setup, rates, spread, cpu = found["setup"], found["bus"], found["bus_spread"], found["bus_cpu_us"]
    rows = [
        [
            words,
            f"{rates[name]:,}",
            f"{spread[name]:.0%}",
            "" if cpu[name] is None else f"{cpu[name]:.1f}",
            f"{rates[name] / rates['faust_table']:.1f}",
        ]
        for name, words in BUS.items()
    ]
    verdict = "PASS" if found["aim"]["met"] else "FAIL"
    return (
        f"{setup['broker']}; {setup['settings']}; {setup['fills']:,} fills on {setup['accounts']:,} accounts of eight linear positions; "
        f"median of {setup['rounds']} round{'s' if setup['rounds'] > 1 else ''}.\n\n"
        + as_table(["bus", "events/s", "spread", "CPU us an event", "times Faust's table"], rows)
        + f"\n{verdict}: in a round, Plimsoll is {found['ratios']['plimsoll/faust_table']:.1f} times Faust with a table write an event; "
        f"the aim is {found['aim']['plimsoll/faust_table']:.0f}.\n"
    )


def _engine_table(found: dict[str, Any]) -> str:
    rows = []
    for name, one in found.items():
        if name.startswith(("linear", "options")):
            what = "linear" if not one["option_accounts"] else f"{one['option_accounts']:.0%} of the accounts with options"
            rows.append(
                [
                    f"{one['accounts']:,} accounts, {what}",
                    f"{one['engine_accounts_per_s']:,}",
                    f"{one['engine_ns_per_account']:,.0f}",
                    f"{one['engine_spread']:.0%}",
                    f"{one['numpy_accounts_per_s']:,}",
                    f"{one['numpy_ends_only_accounts_per_s']:,}" if "numpy_ends_only_accounts_per_s" in one else "",
                    f"{one['times_numpy']:.1f}",
                    f"{one['bare_ns_per_account']:,.0f}",
                    f"{one['times_bare']:.1f}",
                    f"{one['share_of_bandwidth']:.1%}",
                ]
            )
    fills, looked = found["fills"], found["looked_at"]
    matrix = found["matrix"]
    heads = ["revaluation", "accounts/s", "ns each", "spread", "numpy", "numpy, ends only", "times numpy"]
    heads += ["bare kernel, ns each", "times its time", "share of memory bandwidth"]
    return (
        as_table(heads, rows)
        + f"\nMemory: {found['bandwidth_gb_per_s']:.1f} GB/s (a = b + f c, one thread). The book without a bus: {fills['us_per_fill']:.2f} "
        f"us a fill with health after each, {fills['cut_us_per_row']:.2f} us a row of a cut. "
        f"An account takes {found['memory_per_account_bytes']} bytes in the book's arrays.\n"
        + f"\nThe scenario matrix of {matrix['instruments']:,} options, {matrix['scenarios']} scenarios at two levels: "
        f"{matrix['ms']:.1f} ms; {matrix['ns_per_price']:.0f} ns a price.\n"
        + f"\nLooked at: a survey of {looked['accounts']:,} accounts and a scrape ({looked['series']} series) every second leave "
        f"{looked['watched/unwatched']:.1%} of the revaluations; one look takes {looked['look_ms']} ms.\n"
        f"A look at their leverage is spread over {looked['leverage_calls']} of them: {looked['leverage_s']:.2f} s in all, "
        f"{looked['leverage_longest_call_ms']} ms in one at most.\n"
        f"The shadow check takes {looked['shadow_linear_ms']} ms of an account of eight linear positions, {looked['shadow_mixed_ms']} ms "
        f"of one to sixteen of every kind, {looked['shadow_mixed_longest_ms']} ms at most.\n"
    )


def _rules_table(found: dict[str, Any]) -> str:
    rows = [
        [
            f"`{name}`",
            one["title"],
            f"{one['accounts_per_s']:,}",
            f"{one['legs_an_account']:.1f}",
            f"{one['legs_accounts_per_s']:,}" if "legs_accounts_per_s" in one else "takes no leg",
            f"{one['times_one_by_one']:.0f}" if "times_one_by_one" in one else "",
        ]
        for name, one in found.items()
    ]
    heads = ["rule", "what", "kernel, accounts/s", "legs each", "from positions, accounts/s", "times one call each"]
    return as_table(heads, rows)


if __name__ == "__main__":
    sys.exit(main())
