"""`python -m grafana.build` writes what is made from this package: dashboards, provisioning, Prometheus' rules and its example."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from grafana import provisioning, rules
from grafana.alerts import RUNBOOKS
from grafana.boards import Board
from grafana.liquidations import liquidations
from grafana.oracles import oracles
from grafana.overview import overview
from grafana.pipeline import pipeline

PROJECT: Final = Path(__file__).resolve().parents[1]


def boards() -> list[Board]:
    """All dashboards, the first one first."""
    return [overview(), oracles(), liquidations(), pipeline()]


def files(runbooks: str = RUNBOOKS) -> dict[str, str]:
    """Everything that is made: texts by path within the project. `runbooks` is where the pages of docs/runbooks can be read."""
    return {
        **{f"grafana/dashboards/{board.name}.json": board.as_json(runbooks) for board in boards()},
        "grafana/provisioning/dashboards/plimsoll.yaml": provisioning.dashboards(),
        "grafana/provisioning/datasources/prometheus.yaml": provisioning.datasources(),
        f"deploy/prometheus/{rules.RECORDING_RULES}": rules.recording_rules(),
        f"deploy/prometheus/{rules.ALERT_RULES}": rules.alert_rules(runbooks=runbooks),
        "deploy/prometheus/prometheus.yml": rules.prometheus_config(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runbooks", default=RUNBOOKS, help="where the pages of docs/runbooks can be read: an address without a slash at its end"
    )
    parser.add_argument("--into", type=Path, default=PROJECT, help="the folder to write into, instead of the project's own")
    options = parser.parse_args()
    for name, text in files(options.runbooks).items():
        path = options.into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
