"""What an operator says through the log: mode, brakes, guardian sets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from aiokafka.errors import KafkaError

from streams.commands.common import SettingsFile, cluster_fault, fail, settings_of

if TYPE_CHECKING:
    from streams.settings import Settings


class Mode(StrEnum):
    OBSERVE = "observe"
    PUBLISH = "publish"


Account = Annotated[str | None, typer.Option("--account", help="Only this account's orders.")]
Venue = Annotated[str | None, typer.Option("--venue", help="Only orders for this venue.")]
All = Annotated[bool, typer.Option("--all", help="All orders.")]
By = Annotated[str, typer.Option(help="Who says so, your login name by default; kept in the log and in the audit.")]
Note = Annotated[str, typer.Option(help="Why; kept in the log and in the audit.")]


def mode(
    to: Annotated[Mode, typer.Argument(help="observe: decide and show; publish: send orders too.")],
    by: By = "",
    note: Note = "",
    settings_file: SettingsFile = None,
) -> None:
    """Switch every book's mode, through the log."""
    from streams.operator import set_mode

    settings = settings_of(settings_file)
    send(settings, lambda: set_mode(settings, to.value, by=by, note=note))


def freeze(
    account: Account = None, venue: Venue = None, everything: All = False, by: By = "", note: Note = "", settings_file: SettingsFile = None
) -> None:
    """Stop orders for one account, one venue, or all, through the log."""
    _freeze(settings_file, account, venue, everything, frozen=True, by=by, note=note)


def unfreeze(
    account: Account = None, venue: Venue = None, everything: All = False, by: By = "", note: Note = "", settings_file: SettingsFile = None
) -> None:
    """Let orders go out again, where they were stopped for the same account, venue, or all."""
    _freeze(settings_file, account, venue, everything, frozen=False, by=by, note=note)


def quarantine(
    chain: Annotated[str, typer.Argument(help="The chain.")],
    off: Annotated[bool, typer.Option("--off", help="End it: recognise the chain's credit again, and take its messages.")] = False,
    by: By = "",
    note: Note = "",
    settings_file: SettingsFile = None,
) -> None:
    """Stop recognising a chain's credit and take no message of it, through the log, or end that, whoever began it."""
    from streams.operator import set_quarantine

    settings = settings_of(settings_file)
    send(settings, lambda: set_quarantine(settings, chain, on=not off, by=by, note=note))


def guardians(
    index: Annotated[int, typer.Option(min=0, help="The set's index, higher than those before it.")],
    address: Annotated[list[str], typer.Option(metavar="HEX", help="A guardian's 20 bytes; repeat it for each of them, in their order.")],
    previous_expires: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%dT%H:%M:%SZ"], help="When the set before it ends (UTC); a day after it was replaced by default."),
    ] = None,
    by: Annotated[str, typer.Option(help="Who says so, your login name by default; kept in the log.")] = "",
    note: Annotated[str, typer.Option(help="Why; kept in the log.")] = "",
    settings_file: SettingsFile = None,
) -> None:
    """Announce a guardian set, through the log: from then on its signatures count."""
    from streams.operator import announce_guardians

    settings = settings_of(settings_file)
    expires_ns = 0 if previous_expires is None else int(previous_expires.replace(tzinfo=UTC).timestamp()) * 1_000_000_000
    send(settings, lambda: announce_guardians(settings, index, address, previous_expires_ns=expires_ns, by=by, note=note))


def _freeze(
    settings_file: Path | None, account: str | None, venue: str | None, everything: bool, *, frozen: bool, by: str, note: str
) -> None:
    from streams.operator import set_freeze

    if (account is not None) + (venue is not None) + everything != 1:
        fail(ValueError("say for what, once: --account NAME, --venue NAME, or --all"))
    settings = settings_of(settings_file)
    if account is not None:
        send(settings, lambda: set_freeze(settings, "account", account, frozen=frozen, by=by, note=note))
    elif venue is not None:
        send(settings, lambda: set_freeze(settings, "venue", venue, frozen=frozen, by=by, note=note))
    else:
        send(settings, lambda: set_freeze(settings, "all", "", frozen=frozen, by=by, note=note))


def send(settings: Settings, command: Callable[[], None]) -> None:
    """Run what sends a command, and say so, or end with why it could not."""
    from streams.operator import CommandRefused

    try:
        command()
    except CommandRefused as error:
        fail(error)
    except (OSError, KafkaError) as error:
        fail(cluster_fault(settings, error))
    typer.echo("Sent; it holds from where each ledger has it.")
