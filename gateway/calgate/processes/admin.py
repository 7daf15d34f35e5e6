"""The parent's own listener: metrics for Prometheus, liveness and readiness."""

import asyncio
import json
import socket
from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

from calgate.processes.worker_process import WorkerProcess
from calgate.telemetry.metrics import exposition

_TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus 3 rejects a response without its Content-Type


class Admin:
    """`/metrics`, `/healthz` and `/readyz`, on a listener that users cannot reach."""

    def __init__(self, workers: Callable[[], Mapping[int, WorkerProcess]]) -> None:
        self._workers = workers
        self._servers: list[asyncio.Server] = []
        self._serving: set[int] = set()

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
                return self._readiness()
            case _:
                return web.Response(status=404, text="there is /metrics, /healthz and /readyz\n")

    def _metrics(self) -> str:
        return exposition({str(slot): child.metrics for slot, child in self._workers().items()})

    def _readiness(self) -> web.Response:
        """Ready when every worker is."""
        workers = {str(slot): child.health for slot, child in self._workers().items()}
        ready = bool(workers) and all(health["status"] == "ready" for health in workers.values())
        body = json.dumps({"status": "ready" if ready else "not ready", "workers": workers}) + "\n"
        return web.Response(status=200 if ready else 503, text=body, content_type="application/json")
