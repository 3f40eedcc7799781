"""Faust as its tutorial uses it, to compare with: one process, one agent that does nothing, or that writes one table entry an event.

`python -m tests.bench.plain_faust --name APP --bootstrap HOST:PORT --topic TOPIC --events N --what agent|table --result FILE` handles the
topic's N records and writes JSON: "seconds" and "cpu_seconds" from the first event to the last; with a table until every changelog record
is in the broker, and "total", the sum of its values.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import faust
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust import Worker

from engine.inputs import Fill


class Since:
    """Time on the clock and on the CPU, from now on."""

    def __init__(self) -> None:
        self.clock_s, self.cpu_s = time.perf_counter(), time.process_time()

    def taken(self) -> dict[str, float]:
        """Seconds since."""
        return {"seconds": time.perf_counter() - self.clock_s, "cpu_seconds": time.process_time() - self.cpu_s}


def make_app(name: str, bootstrap: str, topic_name: str, events: int, what: str, result: Path) -> faust.App:
    """Defaults throughout, but for a buffer that holds everything (when full, the fetcher sleeps a second) and no web server."""
    app = faust.App(
        name,
        broker=f"aiokafka://{bootstrap}",
        store="memory://",
        datadir=result.with_suffix(".data"),  # made even though nothing is kept there: beside the result, not in the checkout
        stream_buffer_maxsize=2 * events,
        web_enabled=False,
        topic_partitions=1,
        worker_redirect_stdouts=False,
    )
    topic = app.topic(topic_name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    if what == "agent":

        async def does_nothing(stream: Any) -> None:
            seen, since = 0, Since()
            async for _ in stream:
                if not seen:
                    since = Since()
                seen += 1
                if seen == events:
                    _finish(result, since.taken())

        app.agent(topic)(does_nothing)
        return app
    table = app.Table("lots", key_type=str, value_type=int, default=int, partitions=1)
    decoder = msgspec.json.Decoder(Fill)
    changelog = TopicPartition(table.changelog_topic_name, 0)

    async def writes_one_entry(stream: Any) -> None:
        onlooker = AIOKafkaConsumer(bootstrap_servers=bootstrap)
        await onlooker.start()
        seen, since = 0, Since()
        async for value in stream:
            if not seen:
                since = Since()
            fill = decoder.decode(value)
            table[fill.account] += fill.lots
            seen += 1
            if seen == events:
                while (await onlooker.end_offsets([changelog]))[changelog] < events:  # noqa: ASYNC110 - the broker tells nobody
                    await asyncio.sleep(0.001)
                _finish(result, {**since.taken(), "total": sum(table.values())})

    app.agent(topic)(writes_one_entry)
    return app


def _finish(path: Path, found: dict[str, Any]) -> None:
    """Say it and end: what Faust does to stop is not measured. Its standard output has a spinner's control characters on it."""
    path.write_text(json.dumps(found))
    os._exit(0)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="app id; its table's changelog is NAME-lots-changelog")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--what", choices=("agent", "table"), required=True)
    parser.add_argument("--result", type=Path, required=True, help="file that the JSON is written to")
    options = parser.parse_args()
    app = make_app(options.name, options.bootstrap, options.topic, options.events, options.what, options.result)
    Worker(app, loglevel="ERROR", redirect_stdouts=False, quiet=True).execute_from_commandline()


if __name__ == "__main__":
    main()
