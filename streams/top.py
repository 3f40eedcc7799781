"""`plimsoll top`: what is worst now, in a terminal, for those who have only ssh. It reads the topics, so it works while workers don't."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from rich.console import Console, RenderableType
from rich.live import Live

from streams.clients import Clients
from streams.settings import Settings
from streams.top_picture import Look, picture
from streams.watch import Watch

REDRAW_S = 1.0
ONCE_S = 60.0  # for all that the topics hold to be read
LOOK_S = 0.2  # for trouble, meanwhile
KEY_BYTES_MAX = 64  # typed in one go


class TopFault(RuntimeError):
    """There is nothing to be shown, or nowhere to show it; the text says what to do."""


async def show_once(settings: Settings, look: Look, console: Console) -> None:
    """One picture of all that the topics hold now. Raises TopFault where they cannot be read."""
    async with _watching(settings) as watch:
        caught_up = asyncio.create_task(watch.caught_up())
        ends = time.monotonic() + ONCE_S
        while not caught_up.done() or watch.problem:
            await asyncio.wait([caught_up], timeout=LOOK_S)
            if watch.problem or time.monotonic() > ends:
                caught_up.cancel()
                why = watch.problem or f"the topics were not read within {ONCE_S:.0f} s"
                raise TopFault(f"{why}; look at all of it: `plimsoll doctor`")
        await caught_up
        console.print(_drawn(watch, look, console, keys=False))


async def show(settings: Settings, look: Look, console: Console) -> None:
    """A full screen that goes on until somebody presses q, or interrupts or ends it. Raises TopFault where there is no terminal."""
    if not console.is_terminal:
        raise TopFault("this is no terminal: `plimsoll top --once` prints one picture")
    woken, ended = asyncio.Event(), asyncio.Event()

    def end() -> None:
        ended.set()
        woken.set()

    def press(key: str) -> None:
        if key == "q":
            ended.set()
        elif key == "s":
            look.next_sort()
        elif key == "f":
            look.next_state()
        woken.set()

    for how in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(how, end)
    async with _watching(settings) as watch:
        with _keys(press) as has_keys, Live(console=console, screen=True, auto_refresh=False) as live:
            while not ended.is_set():
                live.update(_drawn(watch, look, console, keys=has_keys), refresh=True)
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), REDRAW_S)
                woken.clear()


@asynccontextmanager
async def _watching(settings: Settings) -> AsyncIterator[Watch]:
    watch = Watch(Clients(settings))
    await watch.start()
    try:
        yield watch
    finally:
        await watch.stop()


def _drawn(watch: Watch, look: Look, console: Console, *, keys: bool) -> RenderableType:
    behind = watch.behind()
    problem = watch.problem or (f"still reading, {behind:,} records to go" if behind else "")
    width, height = console.size
    return picture(watch.view, look, width=width, height=height, now_ms=time.time() * 1000, problem=problem, keys=keys)


@contextmanager
def _keys(press: Callable[[str], None]) -> Iterator[bool]:
    """Keys as they are pressed, without Enter and unseen, where there is a keyboard; the terminal is always put back as it was."""
    if not sys.stdin.isatty():
        yield False
        return
    keyboard, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(keyboard)

    def read() -> None:
        typed = os.read(keyboard, KEY_BYTES_MAX)
        if not typed:  # the terminal has gone
            loop.remove_reader(keyboard)
        for key in typed.decode("ascii", "ignore"):
            press(key)

    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, read)
    try:
        yield True
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSANOW, before)
