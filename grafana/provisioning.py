"""What Grafana reads at its start to have our dashboards, and a Prometheus to ask."""

from __future__ import annotations

from typing import Final

from grafana.rules import as_yaml

DASHBOARDS_FOLDER: Final = "/etc/grafana/dashboards/plimsoll"
PROMETHEUS: Final = "http://127.0.0.1:9090"


def dashboards() -> str:
    """Copy `grafana/dashboards` to where this looks, or change where it looks."""
    provider = {
        "name": "plimsoll",
        "type": "file",
        "folder": "Plimsoll",
        "allowUiUpdates": False,
        "options": {"path": DASHBOARDS_FOLDER},
    }
    return as_yaml({"apiVersion": 1, "providers": [provider]})


def datasources() -> str:
    """The Prometheus that scrapes our workers. Its interval is that of the scrapes: Grafana's `$__rate_interval` follows from it."""
    source = {
        "name": "Prometheus",
        "uid": "plimsoll-prometheus",
        "type": "prometheus",
        "access": "proxy",
        "url": PROMETHEUS,
        "isDefault": True,
        "jsonData": {"timeInterval": "15s", "httpMethod": "POST"},
    }
    return as_yaml({"apiVersion": 1, "datasources": [source]})
