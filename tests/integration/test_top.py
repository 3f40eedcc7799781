"""`plimsoll top` on a real broker: one picture for scripts, and a full screen in a terminal that is put back as it was."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner, Result

from engine.effects import Health
from streams.broker import Cluster
from streams.clients import Clients
from streams.command_line import FAULT, app
from streams.messages import encode_effect, topic_specs
from streams.settings import Settings, kafka_client_options, load_settings
from streams.topics_admin import create_topics
from tests import samples
from tests.patience import PATIENCE_S

ACCOUNTS = 60
ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture(scope="module")
def settings(kafka: Cluster) -> Settings:
    """Topics that hold sixty accounts, the first ones short, an order, a breaker, a mark, and a partition's status."""
    found = load_settings(environment={}, bootstrap=kafka.bootstrap, topic_prefix=f"top-{os.getpid()}.")

    async def record() -> None:
        specs = topic_specs(ledger_partitions=4, attest_partitions=2, venues=["binance"])
        await create_topics(kafka_client_options(found), specs, found.topic_prefix)
        await publish(found, *samples.OUTPUT_MESSAGES[3:], samples.OUTPUT_MESSAGES[0], *map(account, range(ACCOUNTS)))

    asyncio.run(record())
    return found


def account(number: int) -> Health:
    state = "LIQUIDATABLE" if number < 3 else "HEALTHY"
    values = {"account": f"account-{number:02}", "state": state, "equity_usd": 900.0 + 100 * number, "maintenance_usd": 1_200.0}
    return msgspec.structs.replace(samples.HEALTH, **values)


async def publish(settings: Settings, *effects: Any) -> None:
    clients = Clients(settings)
    async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:
        for effect in effects:
            topic, key, value = encode_effect(effect)
            await producer.send_and_wait(clients.name(topic), value, key)


def environment(settings: Settings, **more: str) -> dict[str, str]:
    return {"PLIMSOLL_BOOTSTRAP": settings.bootstrap, "PLIMSOLL_TOPIC_PREFIX": settings.topic_prefix, **more}


def once(settings: Settings, *arguments: str, **more: str) -> Result:
    return CliRunner().invoke(app, ["top", "--once", *arguments], env=environment(settings, COLUMNS="120", LINES="100", **more))


def test_one_picture_shows_the_accounts_of_their_topic(settings: Settings) -> None:
    result = once(settings)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[1].split()[:2] == [str(ACCOUNTS), "accounts"]
    assert "3 liquidatable" in lines[1]
    assert re.findall(r"^(account-\d\d)", result.stdout, re.MULTILINE) == [f"account-{number:02}" for number in range(ACCOUNTS)]
    assert "binance/BTC-PERP" in result.stdout
    assert "asset move of BTC: tripped" in result.stdout
    assert "book/3" in result.stdout


def test_it_sorts_and_chooses(settings: Settings) -> None:
    result = once(settings, "--sort", "equity", "--state", "healthy")
    assert re.findall(r"^(account-\d\d)", result.stdout, re.MULTILINE)[:2] == ["account-03", "account-04"]
    assert "account-00" not in result.stdout


def test_without_a_terminal_it_says_what_to_type(settings: Settings) -> None:
    result = CliRunner().invoke(app, ["top"], env=environment(settings))
    assert result.exit_code == FAULT
    assert "`plimsoll top --once`" in result.output


@pytest.mark.parametrize("more", [{"PLIMSOLL_BOOTSTRAP": "127.0.0.1:1"}, {"PLIMSOLL_TOPIC_PREFIX": "nobody-made-these."}])
def test_without_a_cluster_or_topics_it_says_so(settings: Settings, more: dict[str, str]) -> None:
    result = CliRunner().invoke(app, ["top", "--once"], env=environment(settings) | more)
    assert result.exit_code == FAULT
    assert "`plimsoll doctor`" in result.output


class Screen:
    """The command in a terminal of 80 x 24, and all that it has written there."""

    def __init__(self, settings: Settings) -> None:
        self.terminal, self._inside = pty.openpty()
        termios.tcsetwinsize(self.terminal, (24, 80))
        self.before = termios.tcgetattr(self._inside)
        self.text = ""
        ends = {"stdin": self._inside, "stdout": self._inside, "stderr": self._inside}
        command = [sys.executable, "-m", "streams.command_line", "top"]
        env = {**os.environ, **environment(settings), "TERM": "xterm-256color"}
        self.process = subprocess.Popen(command, env=env, start_new_session=True, **ends)  # type: ignore[call-overload]

    def until(self, wanted: str) -> None:
        """Read until this was written since the last call."""
        ends, read = time.monotonic() + PATIENCE_S, ""
        while wanted not in read:
            assert time.monotonic() < ends, read
            if select.select([self.terminal], [], [], 0.1)[0]:
                read += os.read(self.terminal, 65_536).decode("utf-8", "replace")
        self.text += read

    def press(self, key: str) -> None:
        os.write(self.terminal, key.encode())

    def end(self) -> tuple[int, bool]:
        """(its exit code, whether the terminal is as it was)."""
        self.until(LEAVE_SCREEN)
        code = self.process.wait(PATIENCE_S)
        return code, termios.tcgetattr(self._inside) == self.before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)
        os.close(self._inside)


@pytest.fixture
def screen(settings: Settings) -> Iterator[Screen]:
    shown = Screen(settings)
    yield shown
    shown.close()


def test_a_full_screen_goes_on_with_what_comes_and_keys_steer_it(settings: Settings, screen: Screen) -> None:
    screen.until(f"{ACCOUNTS} accounts")
    assert ENTER_SCREEN in screen.text
    newcomer = msgspec.structs.replace(account(0), account="newcomer", equity_usd=-1e6, state="BANKRUPT")
    asyncio.run(publish(settings, newcomer))
    screen.until("newcomer")
    screen.press("s")
    screen.until("sort: shortfall")
    screen.press("f")
    screen.until("only: bankrupt")
    screen.press("q")
    assert screen.end() == (0, True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_however_it_is_ended_the_terminal_is_put_back(screen: Screen, how: signal.Signals) -> None:
    screen.until("accounts")
    screen.process.send_signal(how)
    assert screen.end() == (0, True)
    assert "Traceback" not in screen.text
