"""The parent's own listener: metrics for Prometheus, liveness and readiness."""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from aiohttp import web

from calgate.http.settings import Listen
from calgate.http.tls import certificate_expiry
from calgate.processes.serve import WAS_READY
from calgate.processes.worker_process import WorkerProcess
from calgate.telemetry.metrics import Reloads, exposition

_TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus 3 rejects a response without its Content-Type


class Admin:
    """`/metrics`, `/healthz` and `/readyz`, on a listener that users cannot reach."""

    def __init__(self, workers: Callable[[], Mapping[int, WorkerProcess]], listen: Callable[[], Listen]) -> None:
        self._workers = workers
        self._listen = listen
        self._servers: list[asyncio.Server] = []
        self._serving: set[int] = set()
        self._was_ready = WAS_READY in os.environ
        self.is_stopping = False
        self.reloads = Reloads()

    async def serve_on(self, sockets: Sequence[socket.socket]) -> None:
        """Serves on these sockets, and goes on serving on those that it already has."""
        for sock in sockets:
            if sock.fileno() not in self._serving:
                self._serving.add(sock.fileno())
                server = web.Server(self._respond, access_log=None, keepalive_timeout=15)
                self._servers.append(await asyncio.get_running_loop().create_server(server, sock=sock))

    async def close(self) -> None:
        for server in self._servers:
            server.close()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.path:
            case "/metrics":
                return web.Response(body=self._metrics().encode(), headers={"Content-Type": _TEXT_FORMAT})
            case "/healthz":
                return web.Response(text="alive\n")
            case "/readyz":
                return self._readiness(strict="strict" in request.query)
            case _:
                return web.Response(status=404, text="there is /metrics, /healthz and /readyz\n")

    @property
    def is_ready(self) -> bool:
        """Whether requests should come here: from the first time that all workers were ready, until the stop.

        A dependency that becomes unreachable later changes nothing: all gateways share it, so a load balancer would
        take all of them out of service at once.
        """
        workers = self._workers().values()
        self._was_ready = self._was_ready or (bool(workers) and all(_is_ready(worker) for worker in workers))
        return self._was_ready and not self.is_stopping and any(worker.accepts for worker in workers)

    def _metrics(self) -> str:
        workers = {str(slot): worker.metrics for slot, worker in self._workers().items()}
        dependencies = {"store": self._is_up("store"), "directory": self._is_up("directory")}
        return exposition(workers, dependencies, self.reloads, dict(_expiry(self._listen())))

    def _is_up(self, dependency: str) -> bool:
        return not any(dependency in _degraded(worker) for worker in self._workers().values())

    def _readiness(self, *, strict: bool) -> web.Response:
        """`strict` also wants every dependency of every worker to be up."""
        degraded = sorted({name for worker in self._workers().values() for name in _degraded(worker)})
        is_ready = self.is_ready and not (strict and degraded)
        workers = {str(slot): worker.health for slot, worker in self._workers().items()}
        body = {"status": "ready" if is_ready else "not ready", "degraded": degraded, "workers": workers}
        status = 200 if is_ready else 503
        return web.Response(status=status, text=json.dumps(body) + "\n", content_type="application/json")


def _expiry(listen: Listen) -> Iterator[tuple[str, float]]:
    """Yields when each certificate of the listener expires, as its file is now; nothing for an unreadable file."""
    for tls in (listen.tls, *listen.sni) if listen.tls is not None else ():
        with suppress(OSError, ValueError):  # the worker that could not load it has logged it
            yield str(tls.certificate), certificate_expiry(tls.certificate)


def _is_ready(worker: WorkerProcess) -> bool:
    return worker.accepts and worker.health["status"] == "ready"


def _degraded(worker: WorkerProcess) -> Sequence[str]:
    names = worker.health.get("degraded", ())
    return names if isinstance(names, list | tuple) else ()
