"""A worker: serves on its parent's sockets, and reports to the parent.

Standard input and output are one channel to the parent. The worker writes one JSON object a line:

    {"started": slot}            every part has started; it waits for "go" before it listens or changes anything shared
    {"ready": slot}              it serves
    {"metrics": …, "health": …}  once a second from then on
    {"faults": […]}              why it cannot start; it ends

When the channel closes, the parent has ended, and the worker stops as it does at SIGTERM. Standard output is turned
into standard error at once, so that a `print` in a plugin goes into the log and not into the channel.
"""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from calgate import config
from calgate.app import Gateway
from calgate.plugin.errors import ConfigError
from calgate.plugin.tasks import start_task
from calgate.processes.lent_settings import borrow
from calgate.processes.serve import serve
from calgate.processes.sockets import Role
from calgate.processes.worker_process import ACTIVATE, STOPPING
from calgate.telemetry import log

_REPORT_EVERY = 1.0
_COLLECTED_AT = 20_000  # objects allocated and not yet freed


def main(file: Path, lent_settings: int, slot: int, sockets: str) -> None:
    """Runs a worker. `lent_settings` is a descriptor; `sockets` is the parent's JSON: a list of [role, descriptor]."""
    import uvloop

    channel = _Channel()
    try:
        settings = config.parse(file, borrow(lent_settings))
        section = settings.core.log
        log.start(section.format, section.level, settings.loggers, access=section.access)
        lent: list[tuple[Role, socket.socket]] = [(role, socket.socket(fileno=fd)) for role, fd in json.loads(sockets)]
        uvloop.run(_work(settings, slot, lent, channel))
    except ConfigError as error:
        channel.send({"faults": error.faults})
        sys.exit(error.code)


async def _work(
    settings: config.Settings, slot: int, lent: Sequence[tuple[Role, socket.socket]], channel: "_Channel"
) -> None:
    parent = _Parent()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, parent.end)
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):  # a terminal sends them to all; the parent acts
        loop.add_signal_handler(ignored, lambda: None)
    await loop.connect_read_pipe(lambda: parent, sys.stdin)
    running: list[asyncio.Task[None]] = []

    async def started() -> None:
        channel.send({"started": slot})
        await parent.go.wait()

    async def ready(gateway: Gateway) -> None:
        parent.on_service_stop = gateway.note_stop
        parent.on_activate = lambda: running.append(start_task(gateway.activate(), "activation"))
        _ease_collection()
        channel.send({"ready": slot})
        running.append(start_task(_report(gateway, channel, parent.stop), "reports", parent.stop.set))

    await serve(settings, lent, ready, parent.stop, started)


def _ease_collection() -> None:
    """Takes everything allocated until now out of garbage collection: it lives as long as the process.

    Requests make few cycles, and many objects that live for a moment; a collection at every 700th costs a tenth of a
    warm request's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_AT, 10, 10)


async def _report(gateway: Gateway, channel: "_Channel", stop: asyncio.Event) -> None:
    """Reports metrics and health once a second."""
    while not stop.is_set():
        channel.send({"metrics": gateway.snapshot(), "health": await gateway.health()})
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(_REPORT_EVERY)
        gateway.metrics.lagged(asyncio.get_running_loop().time() - began - _REPORT_EVERY)


class _Channel:
    """The way to the parent: a copy of standard output, which from then on is standard error."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(self, message: dict[str, object]) -> None:
        self._stream.write(json.dumps(message) + "\n")
        self._stream.flush()


class _Parent(asyncio.Protocol):
    """The parent's end of the channel: it sends GO, and closes when it ends.

    STOPPING says that the whole service stops, ACTIVATE that a reload failed after its workers were let go.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.stop = asyncio.Event()
        self.on_service_stop: Callable[[], None] = lambda: None
        self.on_activate: Callable[[], None] = lambda: None

    def data_received(self, data: bytes) -> None:
        self.go.set()
        if STOPPING in data:
            self.on_service_stop()
        if ACTIVATE in data:
            self.on_activate()

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()

    def end(self) -> None:
        """Stops the worker, also while it waits for GO."""
        self.stop.set()
        self.go.set()
