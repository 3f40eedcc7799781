"""What commands share: exit codes, options, and how settings, clusters and faults are dealt with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeVar

import typer
from aiokafka.errors import KafkaError

if TYPE_CHECKING:
    from streams.messages import TopicSpec
    from streams.settings import Settings

T = TypeVar("T")

FAULT: Final = 2  # exit code: the command could not run
FOUND_WANTING: Final = 1  # exit code: it ran, and what it looked at is not right

LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

SettingsFile = Annotated[Path | None, typer.Option("--settings", help="A TOML file; PLIMSOLL_* variables go over it.", dir_okay=False)]


def fail(error: Exception, code: int = FAULT) -> NoReturn:
    """End with this error's text alone."""
    typer.echo(f"plimsoll: {error}", err=True)
    raise typer.Exit(code)


def settings_of(path: Path | None) -> Settings:
    from streams.settings import SettingsError, load_settings

    try:
        return load_settings(path)
    except SettingsError as error:
        fail(error)


def specs_of(settings: Settings) -> list[TopicSpec]:
    from streams.messages import topic_specs

    return topic_specs(
        ledger_partitions=settings.ledger_partitions,
        attest_partitions=settings.attest_partitions,
        venues=settings.venues,
        replication=settings.replication,
        min_isr=settings.min_isr,
        compaction_lag_ms=settings.compaction_lag_ms,
    )


def on_topics(settings: Settings, ask: Callable[[dict[str, Any], list[TopicSpec], str], Coroutine[Any, Any, T]]) -> T:
    """What `ask(client options, topics, prefix)` says, or the end of the command."""
    from streams.settings import kafka_client_options
    from streams.topics_admin import TopicsError

    async def asked() -> T:
        return await ask(kafka_client_options(settings), specs_of(settings), settings.topic_prefix)

    try:
        return reach(settings, asked())
    except TopicsError as error:
        fail(error)


def reach(settings: Settings, asked: Coroutine[Any, Any, T]) -> T:
    """What the cluster answers, or the end of the command: then the error is told, not all that clients logged before it."""
    from streams.settings import SettingsError

    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    try:
        return asyncio.run(asked)
    except SettingsError as error:
        fail(error)
    except (OSError, KafkaError) as error:
        fail(cluster_fault(settings, error))


def cluster_fault(settings: Settings, error: Exception) -> RuntimeError:
    return RuntimeError(f"the cluster at {settings.bootstrap} cannot be used: {error}")
