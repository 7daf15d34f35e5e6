"""A worker as its parent sees it: a process, what it reported last, and how it ended."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from calgate.plugin.errors import ConfigError
from calgate.processes.sockets import Role

_READY_WITHIN = 60.0
_LINE = 4 << 20  # bytes of one report

# A reply of 100 KB comes and goes 10,000 times a second; glibc would give its pages back and fetch them anew each time,
# which is a fifth of its CPU time. Bounded, so that a worker still shrinks; the administrator's own word counts more.
_MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": "8388608",
    "MALLOC_TOP_PAD_": "1048576",
    "MALLOC_MMAP_THRESHOLD_": "2097152",
}


class WorkerProcess:
    """One worker process."""

    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket, on_end: Callable[[], None]) -> None:
        self._process = process
        self._channel = channel
        self._on_end = on_end
        self._ready = asyncio.Event()
        self._began = time.monotonic()
        self.metrics: dict[str, object] = {}
        self.health: dict[str, object] = {"status": "starting"}
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    @classmethod
    async def start(
        cls, file: Path, slot: int, sockets: Sequence[tuple[Role, socket.socket]], on_end: Callable[[], None]
    ) -> "WorkerProcess":
        """Starts a worker on the sockets; `on_end` is called when it ends, for whatever reason."""
        descriptors = [sock.fileno() for _, sock in sockets]
        lent = json.dumps([[role, sock.fileno()] for role, sock in sockets])
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "calgate", "worker", "-c", str(file), "--slot", str(slot), "--sockets", lent),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                pass_fds=descriptors,
                env=_MALLOC | os.environ,
            )
        return cls(process, ours, on_end)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._began

    @property
    def how_it_ended(self) -> str:
        code = self._process.returncode or 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    async def _listen(self) -> None:
        reader, writer = await asyncio.open_connection(sock=self._channel, limit=_LINE)
        while line := await reader.readline():
            message = json.loads(line)
            self.metrics = message.get("metrics", self.metrics)
            self.health = message.get("health", self.health)
            if "ready" in message:
                self._ready.set()
        writer.close()
        await self._process.wait()
        self._ready.set()
        self._on_end()

    async def wait_until_ready(self) -> None:
        """Raises ConfigError with the worker's exit code where it ended instead; it has said why itself."""
        try:
            async with asyncio.timeout(_READY_WITHIN):
                await self._ready.wait()
        except TimeoutError:
            self._process.kill()
            raise ConfigError([f"a worker was not ready within {_READY_WITHIN:g} s"], code=1) from None
        if self.has_ended:
            raise ConfigError([], code=self._process.returncode or 1)

    def terminate(self) -> None:
        """Asks it to finish."""
        if not self.has_ended:
            self._process.terminate()

    async def finish(self, within: float) -> None:
        """Asks it to finish, and ends it if it does not within so many seconds."""
        self.terminate()
        try:
            async with asyncio.timeout(within):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def hand_over(self) -> str:
        """Before this program is replaced: the worker must not think that its parent is gone. Its pid and channel."""
        channel = self._channel.fileno()
        if channel >= 0:
            self._channel.set_inheritable(True)
        return f"{self.pid}:{channel}"
