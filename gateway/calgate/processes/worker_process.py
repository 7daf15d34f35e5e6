"""A worker as its parent sees it: the process, its last report, and how it ended."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from calgate.config.model import Settings
from calgate.plugin.errors import ConfigError
from calgate.plugin.tasks import start_task
from calgate.processes.lent_settings import lend
from calgate.processes.sockets import Role

logger = logging.getLogger(__name__)

_READY_WITHIN = 60.0
_REPORTS_WITHIN = 30  # ticks of a second. Counted, because time also passes while this process or machine is stopped
_TICK = 1.0
_LINE = 4 << 20  # bytes of one report
_LAST_LINES_WITHIN = 1.0  # seconds after the end of the process
GO = b"go\n"
STOPPING = b"stopping\n"
ACTIVATE = b"activate\n"

# With 10,000 responses of 100 KB a second, glibc would return their pages and fetch them again, a fifth of the CPU
# time. Bounded, so that a worker still shrinks; values in the environment have precedence.
_MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": "8388608",
    "MALLOC_TOP_PAD_": "1048576",
    "MALLOC_MMAP_THRESHOLD_": "2097152",
}


class WorkerProcess:
    """One worker process."""

    def __init__(
        self, process: asyncio.subprocess.Process, channel: socket.socket, on_change: Callable[[], None]
    ) -> None:
        self._process = process
        self._channel = channel
        self._on_change = on_change
        self._writer: asyncio.StreamWriter | None = None
        self._started = asyncio.Event()
        self._ready = asyncio.Event()
        self._faults: tuple[str, ...] = ()
        self._began = time.monotonic()
        self._ticks = 0  # since its last report
        self._watching: asyncio.Task[None] | None = None
        self.metrics: dict[str, object] = {}
        self.health: dict[str, object] = {"status": "starting"}
        self._attending = start_task(self._attend(), "worker process", process.kill)

    @classmethod
    async def start(
        cls, settings: Settings, slot: int, sockets: Sequence[tuple[Role, socket.socket]], on_change: Callable[[], None]
    ) -> "WorkerProcess":
        """Starts a worker on the sockets. `on_change` is called when its health changes, and when it ends."""
        descriptors = [sock.fileno() for _, sock in sockets]
        passed = json.dumps([[role, sock.fileno()] for role, sock in sockets])
        ours, theirs = socket.socketpair()
        with theirs, lend(settings.text) as lent:
            process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-P",
                    "-m",
                    "calgate",
                    "worker",
                    "-c",
                    str(settings.file),
                    "--settings",
                    str(lent),
                    "--slot",
                    str(slot),
                    "--sockets",
                    passed,
                ),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                pass_fds=(*descriptors, lent),
                env=_MALLOC | os.environ,
            )
        return cls(process, ours, on_change)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    @property
    def age(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    @property
    def how_it_ended(self) -> str:
        code = self._process.returncode or 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    @property
    def accepts(self) -> bool:
        """Whether it has begun to accept requests and has not ended."""
        return self._ready.is_set() and not self.has_ended

    async def _attend(self) -> None:
        """Follows the worker to its end, whatever it writes."""
        listening = start_task(self._listen(), "worker reports", self._process.kill)
        await self._process.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(listening, _LAST_LINES_WITHIN)  # a process that it started may hold the channel open
        self._stop_watching()
        self._started.set()
        self._ready.set()
        self._on_change()

    async def _listen(self) -> None:
        reader, self._writer = await asyncio.open_connection(sock=self._channel, limit=_LINE)
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                logger.warning("worker %d: ignored a line of more than %d bytes in its reports", self.pid, _LINE)
                continue
            except ConnectionError:
                break
            if not line:
                break
            self._ticks = 0
            self._take(line)
        self._writer.close()

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            known = message.keys() & {"started", "ready", "metrics", "health", "faults"}
        except (ValueError, AttributeError):
            known = set()
        if not known:
            logger.warning("worker %d: ignored a line in its reports that is not one: %.200r", self.pid, line)
            return
        self.metrics = message.get("metrics", self.metrics)
        self._faults = tuple(message.get("faults", self._faults))
        before, self.health = self.health, message.get("health", self.health)
        if "started" in message:
            self._started.set()
        if "ready" in message:
            self._ready.set()
        if before != self.health:
            self._on_change()

    async def wait_until_started(self) -> None:
        """Raises ConfigError with the worker's faults and exit code if it ended instead."""
        await self._wait(self._started)

    async def wait_until_ready(self) -> None:
        """Lets the started worker listen, and waits until it does. Raises ConfigError if it ended instead."""
        if self._writer is not None:
            self._writer.write(GO)
        await self._wait(self._ready)
        self._watching = start_task(self._watch(), "worker watchdog")

    async def _watch(self) -> None:
        """Kills a worker that has stopped reporting: the kernel still gives it connections, which nobody serves."""
        while self._ticks < _REPORTS_WITHIN:
            await asyncio.sleep(_TICK)
            self._ticks += 1
        logger.error("worker %d: no report for %g s; killing it", self.pid, _REPORTS_WITHIN * _TICK)
        self._process.kill()

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _wait(self, event: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(_READY_WITHIN):
                await event.wait()
        except TimeoutError:
            self._process.kill()
            raise ConfigError([f"a worker did not start within {_READY_WITHIN:g} s"], code=1) from None
        if self.has_ended:
            faults = self._faults or [f"a worker ended ({self.how_it_ended}) before it was ready; see its lines above"]
            raise ConfigError(faults, code=self._process.returncode or 1)

    def announce_stop(self) -> None:
        """Lets its health say that the service stops; at a reload the service goes on, and its health says so."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(STOPPING)

    def activate_again(self) -> None:
        """Lets it store again what gateways share: workers of a reload that failed may have changed that."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(ACTIVATE)

    def terminate(self) -> None:
        """Lets it finish its open requests; it reports no more."""
        self._stop_watching()
        if not self.has_ended:
            self._process.terminate()

    async def finish(self, within: float) -> None:
        """Lets it finish, and kills it if it has not ended within so many seconds."""
        self.terminate()
        try:
            async with asyncio.timeout(within):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def hand_over(self) -> str:
        """Keeps the channel open while this program is replaced; returns the worker's pid and its descriptor."""
        channel = self._channel.fileno()
        if channel >= 0:
            self._channel.set_inheritable(True)
        return f"{self.pid}:{channel}"
