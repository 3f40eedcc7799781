"""Lengths of time in rules, which a test shortens all together: the expressions stay what they are."""

from __future__ import annotations

import re
from typing import NamedTuple

_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Windows(NamedTuple):
    """`Windows(0.05)("5m")` is `15s`: what Prometheus is told instead of the length that is written in the rules."""

    scale: float = 1.0

    def __call__(self, written: str) -> str:
        found = re.fullmatch(r"(\d+)([smhd])", written)
        assert found, written
        ms = max(1, round(int(found[1]) * _MS[found[2]] * self.scale))
        unit, size = next((unit, size) for unit, size in (*reversed(_MS.items()), ("ms", 1)) if ms % size == 0)
        return f"{ms // size}{unit}"
