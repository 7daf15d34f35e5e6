"""Processes of the program that this one replaced: they are still children of this process, and serve until told."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial

_OLD_PROCESSES = "CALGATE_WORKERS"


class Predecessors:
    """The workers and the console of the replaced program, each described as "pid:channel"."""

    def __init__(self) -> None:
        self._described = list(filter(None, os.environ.pop(_OLD_PROCESSES, "").split(",")))

    def __bool__(self) -> bool:
        return bool(self._described)

    def listen(self) -> None:
        """Reads their reports from now on: one whose reports nobody reads soon waits for that, and serves no more."""
        loop = asyncio.get_running_loop()
        for _, channel in map(_read, self._described):
            if channel >= 0:
                loop.add_reader(channel, _discard, loop, channel)

    def hand_over(self) -> list[str]:
        """Describes those that were not dismissed, for the next program."""
        return self._described

    def dismiss(self, leave: Callable[[Coroutine[None, None, None], Callable[[], str]], None]) -> None:
        """Lets them finish their open requests; `leave` takes the end of each, and what the next program must know."""
        for described in self._described:
            pid, channel = _read(described)
            os.kill(pid, signal.SIGTERM)  # works even if it has ended: it stays a zombie until `_reap`
            leave(_reap(pid, channel), partial(str, described))
        self._described = []


def remember(described: list[str]) -> None:
    """Describes this program's processes to the program that replaces it."""
    os.environ[_OLD_PROCESSES] = ",".join(described)


def _read(described: str) -> tuple[int, int]:
    pid, channel = map(int, described.split(":"))
    return pid, channel


def _discard(loop: asyncio.AbstractEventLoop, channel: int) -> None:
    with suppress(BlockingIOError):
        try:
            if os.read(channel, 1 << 16):
                return
        except ConnectionError:
            pass
        loop.remove_reader(channel)


async def _reap(pid: int, channel: int) -> None:
    await asyncio.to_thread(os.waitpid, pid, 0)
    if channel >= 0:
        asyncio.get_running_loop().remove_reader(channel)
        with suppress(OSError):  # the worker closed its end first
            os.close(channel)
