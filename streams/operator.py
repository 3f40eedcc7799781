"""An operator's commands: mode, brakes and guardian sets, sent through the log so that every partition sees them at the same place."""

from __future__ import annotations

import asyncio
import getpass
import os
import time
from typing import Literal

import msgspec

from engine.inputs import AnyCommand, GuardianSet, SetFreeze, SetMode
from streams.clients import Clients
from streams.messages import encode_source
from streams.settings import Settings

BY_CHARACTERS_MAX = 64


class CommandRefused(ValueError):
    """The command breaks the schema of `operator.commands`; the text says where."""


def set_mode(settings: Settings, mode: Literal["observe", "publish"], *, by: str = "", note: str = "") -> None:
    """Decide and show (`observe`), or decide and publish orders (`publish`). Returns when every replica in sync has the command."""
    send(settings, SetMode(v=1, by=_operator(by), note=note, time_ns=time.time_ns(), mode=mode))


def set_freeze(
    settings: Settings, scope: Literal["account", "venue", "all"], name: str, *, frozen: bool, by: str = "", note: str = ""
) -> None:
    """Stop, or let go again, the orders of one account, one venue, or all."""
    send(settings, SetFreeze(v=1, by=_operator(by), note=note, time_ns=time.time_ns(), scope=scope, name=name, frozen=frozen))


def announce_guardians(settings: Settings, index: int, addresses: list[str], *, previous_expires_ns: int = 0, by: str = "") -> None:
    """Announce guardian set `index`; the one before it expires at `previous_expires_ns` (0: a day after it was replaced)."""
    send(
        settings,
        GuardianSet(
            v=1,
            by=_operator(by),
            time_ns=time.time_ns(),
            index=index,
            addresses=addresses,
            previous_expires_ns=previous_expires_ns,
        ),
    )


def send(settings: Settings, command: AnyCommand) -> None:
    """Check one command against its schema and send it. Raises CommandRefused, or Kafka's error when no broker takes it."""
    topic, key, value = encode_source(command)
    try:
        msgspec.json.decode(value, type=AnyCommand)
    except msgspec.ValidationError as error:
        raise CommandRefused(f"{error}: mend the command and send it again") from None
    asyncio.run(_send(settings, topic, key, value))


async def _send(settings: Settings, topic: str, key: bytes, value: bytes) -> None:
    clients = Clients(settings)
    producer = clients.outputs_producer()
    await producer.start()
    try:
        await producer.send_and_wait(clients.name(topic), key=key, value=value)
    finally:
        await producer.stop()


def _operator(by: str) -> str:
    """Who gives the command, for the audit: as told, else `$PLIMSOLL_OPERATOR`, else the login name."""
    return (by or os.environ.get("PLIMSOLL_OPERATOR") or getpass.getuser())[:BY_CHARACTERS_MAX]
