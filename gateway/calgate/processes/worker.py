"""A worker: serves on its parent's sockets, and reports to the parent.

The worker speaks on standard output, one JSON object a line. When its standard input closes, the parent has ended, and
the worker stops as it does at SIGTERM.
"""

import asyncio
import gc
import json
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from calgate import config
from calgate.app import Gateway
from calgate.processes.serve import serve
from calgate.processes.sockets import Role
from calgate.telemetry import log

_REPORT_EVERY = 1.0
_COLLECTED_AT = 20_000  # objects allocated and not yet freed


def main(file: Path, slot: int, sockets: str) -> None:
    """Runs a worker; `sockets` is the parent's JSON: a list of [role, descriptor]."""
    import uvloop

    settings = config.read(file)
    section = settings.core.log
    log.start(section.format, section.level, settings.loggers, access=section.access)
    lent: list[tuple[Role, socket.socket]] = [(role, socket.socket(fileno=fd)) for role, fd in json.loads(sockets)]
    uvloop.run(_work(settings, slot, lent))


async def _work(settings: config.Settings, slot: int, lent: Sequence[tuple[Role, socket.socket]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    for ignored in (
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGUSR2,
    ):  # a terminal sends them to all; they are the parent's
        loop.add_signal_handler(ignored, lambda: None)
    await loop.connect_read_pipe(lambda: _Parent(stop), sys.stdin)
    reporting: list[asyncio.Task[None]] = []

    async def ready(gateway: Gateway) -> None:
        _ease_collection()
        _say({"ready": slot})
        reporting.append(loop.create_task(_report(gateway, stop)))

    await serve(settings, lent, ready, stop)


def _ease_collection() -> None:
    """Takes everything allocated until now out of garbage collection: it lives as long as the process.

    Requests make few cycles, and many objects that live for a moment; a collection at every 700th costs a tenth of a
    warm request's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_AT, 10, 10)


async def _report(gateway: Gateway, stop: asyncio.Event) -> None:
    """Reports metrics and health once a second."""
    while not stop.is_set():
        _say({"metrics": gateway.snapshot(), "health": await gateway.health()})
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(_REPORT_EVERY)
        gateway.metrics.lagged(asyncio.get_running_loop().time() - began - _REPORT_EVERY)


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class _Parent(asyncio.Protocol):
    """The channel to the parent; only its end has a meaning."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def eof_received(self) -> None:
        self._stop.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop.set()
