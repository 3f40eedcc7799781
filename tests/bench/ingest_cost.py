"""What ingest costs a fill: `python -m tests.bench.ingest_cost` prints microseconds of CPU time, the best of a few rounds."""

import random
import time
from collections.abc import Callable

from engine.inputs import Fill
from engine.murmur2 import partition_of
from streams.frames import decode_frame, encode_frame
from streams.ingest import Record, frame_batch
from streams.messages import SOURCES, encode_source

TOPIC = "venue.fills"
PARTITIONS = 4
FILLS = 8_000
ROUNDS = 15


def batch(accounts: int, *, bad_every: int = 0) -> list[Record]:
    """FILLS consecutive records of partition 0; each `bad_every`-th is not JSON (0: none)."""
    draw = random.Random(accounts)
    names = [name for name in (f"account-{number:06d}" for number in range(accounts * 6)) if partition_of(name.encode(), PARTITIONS) == 0]
    records = []
    for offset in range(FILLS):
        fill = Fill(
            v=1,
            account=names[draw.randrange(min(accounts, len(names)))],
            venue=draw.choice(["binance", "okx", "hyperliquid"]),
            instrument=f"PERP-{draw.randrange(8)}",
            kind="trade",
            lots=draw.randrange(-1000, 1000),
            price_ticks=draw.randrange(1, 1_000_000),
            cash=-draw.randrange(1000),
            sequence=offset + 1,
            time_ns=1_760_126_400_000_000_000 + offset,
            fill_id=f"f{offset}",
        )
        _, key, value = encode_source(fill)
        records.append(Record(offset, key, b"{" if bad_every and offset % bad_every == 0 else value))
    return records


def microseconds(work: Callable[[], object]) -> float:
    """Best time of one fill over ROUNDS."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best / FILLS * 1e6


def costs() -> dict[str, float]:
    """What is measured -> microseconds a fill."""
    few, many, bad = batch(5_000), batch(500_000), batch(5_000, bad_every=100)
    frame = frame_batch(TOPIC, few, -1, partitions=PARTITIONS).frames[0]
    data = encode_frame(frame)
    fill = SOURCES[TOPIC].type(
        v=1, account="a", venue="b", instrument="c", kind="trade", lots=1, price_ticks=1, cash=0, sequence=1, time_ns=0
    )
    return {
        "bytes to columns, 5,000 accounts": microseconds(lambda: frame_batch(TOPIC, few, -1, partitions=PARTITIONS)),
        "bytes to columns, each another account": microseconds(lambda: frame_batch(TOPIC, many, -1, partitions=PARTITIONS)),
        "bytes to columns, one in 100 bad": microseconds(lambda: frame_batch(TOPIC, bad, -1, partitions=PARTITIONS)),
        "columns to a frame's bytes": microseconds(lambda: encode_frame(frame)),
        "a frame's bytes to columns": microseconds(lambda: decode_frame(data)),
        "a fill to JSON": microseconds(lambda: [encode_source(fill) for _ in range(FILLS)]),
    }


if __name__ == "__main__":
    for what, cost in costs().items():
        print(f"{cost:8.3f} us  {what}")
