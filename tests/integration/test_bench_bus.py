"""The bus's benchmark runs on a real broker, counts what it says, and notices a wrong position. Nothing here asks how fast anything was."""

from pathlib import Path

import pytest

from streams.broker import Cluster
from streams.roster import PRODUCT
from tests.bench.bus import Bus, Sizes, WrongResult

SIZES = Sizes(accounts=40, partitions=2, fills=40_000, agent_events=300, table_events=200)


@pytest.mark.slow
async def test_each_path_handles_the_fills_and_their_sums_are_checked(kafka: Cluster, tmp_path: Path) -> None:
    bus = Bus(kafka.bootstrap, tmp_path, SIZES, PRODUCT, cut_interval_ms=20, frame_max_events=1_000)  # so that few fills are many cuts
    await bus.open()
    first = await bus.append()
    assert sum(bus.appended) == SIZES.fills + SIZES.accounts * 8
    for speed in (
        await bus.faust("agent", first[: SIZES.agent_events]),
        await bus.faust("table", first[: SIZES.table_events]),
        await bus.plimsoll(),
        await bus.raw_getmany(),
    ):
        assert speed.per_s > 0.0

    bus.population.lots[7, 3] += 1
    with pytest.raises(WrongResult, match="its fills add up to"):
        await bus._check()
