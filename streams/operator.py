"""What an operator says: mode, brakes, guardian sets and parameters, through the log, so that all partitions see it at the same place."""

from __future__ import annotations

import asyncio
import getpass
import os
import time
from typing import Any, Literal

import msgspec

from engine.guardians import GuardianSets
from engine.inputs import AnyCommand, GuardianSet, RiskParameters, SetFreeze, SetMode, SetQuarantine
from streams.clients import Clients
from streams.messages import SOURCES, encode_source
from streams.settings import Settings

BY_CHARACTERS_MAX = 64


class CommandRefused(ValueError):
    """The command breaks its topic's schema, or no machine would take it; the text says why."""


def set_mode(settings: Settings, mode: Literal["observe", "publish"], *, by: str = "", note: str = "") -> None:
    """Decide and show (`observe`), or decide and publish orders (`publish`). Returns when every replica in sync has the command."""
    send(settings, SetMode(v=1, by=_operator(by), note=note, time_ns=time.time_ns(), mode=mode))


def set_freeze(
    settings: Settings, scope: Literal["account", "venue", "all"], name: str, *, frozen: bool, by: str = "", note: str = ""
) -> None:
    """Stop, or let go again, the orders of one account, one venue, or all."""
    send(settings, SetFreeze(v=1, by=_operator(by), note=note, time_ns=time.time_ns(), scope=scope, name=name, frozen=frozen))


def set_quarantine(settings: Settings, chain: str, *, on: bool, by: str = "", note: str = "") -> None:
    """Stop recognising a chain's credit and take no message of it, or end its quarantine, whoever began it."""
    send(settings, SetQuarantine(v=1, by=_operator(by), note=note, time_ns=time.time_ns(), chain=chain, on=on))


def announce_guardians(
    settings: Settings, index: int, addresses: list[str], *, previous_expires_ns: int = 0, by: str = "", note: str = ""
) -> None:
    """Announce guardian set `index` (addresses in hex, with or without 0x).

    The set before it expires at `previous_expires_ns`; 0: a day after it was replaced.
    """
    command = GuardianSet(
        v=1,
        by=_operator(by),
        note=note,
        time_ns=time.time_ns(),
        index=index,
        addresses=[address.lower().removeprefix("0x") for address in addresses],
        previous_expires_ns=previous_expires_ns,
    )
    _encoded(command)  # hex, before it is read
    refusal = GuardianSets().announce(command, clock_ns=0)  # what is wrong with the set itself, whatever was announced before
    if refusal is not None:
        raise CommandRefused(f"{refusal.meaning}: mend the command and send it again")
    send(settings, command)


def set_parameters(settings: Settings, version: str, parameters: dict[str, Any]) -> None:
    """Put a whole parameter set in force; validate it first, by `engine.parameters.parse_parameters`."""
    send(settings, RiskParameters(v=1, version=version, parameters=parameters, time_ns=time.time_ns()))


def send(settings: Settings, command: AnyCommand | RiskParameters) -> None:
    """Check one command against its schema and send it. Raises CommandRefused, or Kafka's error when no broker takes it."""
    asyncio.run(_send(settings, *_encoded(command)))


def _encoded(command: AnyCommand | RiskParameters) -> tuple[str, bytes, bytes]:
    """(topic, key, value). Raises CommandRefused for what ingest would refuse."""
    topic, key, value = encode_source(command)
    try:
        msgspec.json.decode(value, type=SOURCES[topic].type)
    except msgspec.ValidationError as error:
        raise CommandRefused(f"{error}: mend the command and send it again") from None
    return topic, key, value


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
