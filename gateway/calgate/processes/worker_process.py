"""A worker as its parent sees it: the process, its last report, and how it ended."""

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

# With 10,000 responses of 100 KB a second, glibc would return their pages and fetch them again, a fifth of the CPU
# time. Bounded, so that a worker still shrinks; values in the environment have precedence.
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
        """Starts a worker on the sockets. `on_end` is called when it ends, for any reason."""
        descriptors = [sock.fileno() for _, sock in sockets]
        passed = json.dumps([[role, sock.fileno()] for role, sock in sockets])
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "calgate", "worker", "-c", str(file), "--slot", str(slot), "--sockets", passed),
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
        """Seconds since the start."""
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
        """Raises ConfigError with the worker's exit code if it ended instead; it has logged the reason itself."""
        try:
            async with asyncio.timeout(_READY_WITHIN):
                await self._ready.wait()
        except TimeoutError:
            self._process.kill()
            raise ConfigError(
                [f"a worker was not ready within {_READY_WITHIN:g} s; see its log lines above"], code=1
            ) from None
        if self.has_ended:
            raise ConfigError([], code=self._process.returncode or 1)

    def terminate(self) -> None:
        """Lets it finish its open requests."""
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
