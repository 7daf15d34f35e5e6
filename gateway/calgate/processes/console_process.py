"""The console's process as its parent sees it: started, replaced after an end, and stopped.

It serves no user. If it ends, only the console is unavailable until another one runs.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from calgate.config.model import Settings
from calgate.plugin.tasks import start_task
from calgate.processes.lent_settings import lend

logger = logging.getLogger(__name__)

_BACK_OFF = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)  # seconds before it is started again, by ends in a row
_LASTS = 60.0  # seconds after which an end counts as the first again
_ENDS_WITHIN = 5.0


class ConsoleProcess:
    """Keeps one process of the console running while it is wanted."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def use(self, settings: Settings) -> None:
        """Starts a process with these settings if they have a console, and ends the one before it."""
        self._stop()
        if settings.core.console is not None:
            self._task = start_task(self._keep(settings), "console process")

    async def close(self) -> None:
        self._stop()
        if self._ending:
            await asyncio.wait(self._ending)

    def hand_over(self) -> Sequence[Callable[[], str]]:
        """Describes the process for the program that replaces this one, which ends it: it has no channel to keep."""
        process = self._process
        return [] if process is None or process.returncode is not None else [lambda: f"{process.pid}:-1"]

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._ending.add(self._task)
            self._task.add_done_callback(self._ending.discard)
            self._task = None

    async def _keep(self, settings: Settings) -> None:
        ends = 0
        while True:
            began = asyncio.get_running_loop().time()
            # its standard input closes with this process, and then it ends by itself
            with lend(settings.text) as lent:
                self._process = process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "calgate", "console-process"),
                    *("-c", str(settings.file), "--settings", str(lent)),
                    stdin=asyncio.subprocess.PIPE,
                    pass_fds=(lent,),
                )
            try:
                code = await process.wait()
            finally:
                await _end(process)
            lasted = asyncio.get_running_loop().time() - began
            ends = 1 if lasted > _LASTS else ends + 1
            pause = _BACK_OFF[min(ends, len(_BACK_OFF)) - 1]
            logger.error("console: its process ended (exit code %s); starting another in %g s", code, pause)
            await asyncio.sleep(pause)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends a process, and kills it if it takes too long."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_ENDS_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
