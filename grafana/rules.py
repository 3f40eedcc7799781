"""Prometheus' files: recording rules, alerts, and an example of how it scrapes workers."""

from __future__ import annotations

from typing import Any, Final

import yaml

from grafana.alerts import RUNBOOKS, UNSCALED, alerts
from grafana.recordings import recordings
from grafana.windows import Windows

MADE_BY: Final = "# Made by `python -m grafana.build`, not by hand.\n"
RECORDING_RULES: Final = "recording.rules.yml"
ALERT_RULES: Final = "alerts.rules.yml"
WIDTH: Final = 140


def as_yaml(content: dict[str, Any]) -> str:
    return MADE_BY + yaml.safe_dump(content, sort_keys=False, width=WIDTH)


def recording_rules(windows: Windows = UNSCALED) -> str:
    rules = [{"record": recording.name, "expr": recording.expression} for recording in recordings(windows)]
    return as_yaml({"groups": [{"name": "plimsoll-recordings", "rules": rules}]})


def alert_rules(windows: Windows = UNSCALED, runbooks: str = RUNBOOKS) -> str:
    """`runbooks` is where the pages of docs/runbooks can be read."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": windows(alert.hold),
            "labels": {"severity": alert.severity.value},
            "annotations": {
                "summary": alert.summary,
                "description": alert.description,
                "runbook_url": f"{runbooks}/{alert.runbook}",
            },
        }
        for alert in alerts(windows)
    ]
    return as_yaml({"groups": [{"name": "plimsoll-alerts", "rules": rules}]})


def prometheus_config() -> str:
    """An example: one job a deployment, every worker a target, and the process that replays its ledgers."""
    return as_yaml(
        {
            "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
            "rule_files": [RECORDING_RULES, ALERT_RULES],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["127.0.0.1:9093"]}]}]},
            "scrape_configs": [
                {
                    "job_name": "plimsoll",
                    "static_configs": [{"targets": ["127.0.0.1:9464", "127.0.0.1:9466"]}, {"targets": ["127.0.0.1:9465"]}],
                }
            ],
        }
    )
