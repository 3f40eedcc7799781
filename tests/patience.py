"""How long tests wait for what another process does. A wait that is over costs nothing, so it is long enough for a machine that is busy."""

from typing import Final

PATIENCE_S: Final = 120.0
