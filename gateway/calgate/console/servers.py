"""The document servers as each worker of each gateway sees them: up or drained, connections, the last failure."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import aiohttp

from calgate.config.model import Settings
from calgate.plugin.changes import ChangeLog
from calgate.plugin.screens import (
    Action,
    Button,
    Cell,
    Column,
    Inputs,
    Link,
    Moment,
    Notice,
    Outcome,
    Part,
    Screen,
    Table,
    View,
    Visitor,
)
from calgate.plugin.services import Store
from calgate.routes import upstream_of
from calgate.telemetry.worker_states import ServerState, WorkerState, WorkerStates
from calgate.upstream.drained import DrainedServers

_PROBE_WITHIN = 3.0  # seconds
_SILENT_AFTER = 30  # seconds without a report
_MOST_ROWS = 500

_COLUMNS = (
    *(Column("server", "Server"), Column("routes", "Routes"), Column("up", "Up for"), Column("drained", "Drained")),
    *(Column("in_use", "In use", is_number=True), Column("waiting", "Waiting", is_number=True)),
    *(Column("failed_at", "Last failure"), Column("failure", "What failed"), Column("state", "Now, from here")),
)
_BY_WORKER = (
    *(Column("gateway", "Gateway"), Column("worker", "Worker", is_number=True), Column("server", "Server")),
    *(Column("up", "State"), Column("drained", "Drained"), Column("in_use", "In use", is_number=True)),
    *(Column("idle", "Idle", is_number=True), Column("waiting", "Waiting", is_number=True)),
    *(Column("failed_at", "Last failure"), Column("failure", "What failed")),
)
_BUTTONS = (Button("servers/drain", "Drain"), Button("servers/restore", "Restore"))


def servers_screen(settings: Settings, store: Store) -> Screen:
    """Returns the screen of the document servers."""
    servers = _Servers(settings, store)
    actions = {
        "drain": Action("admin", servers.drain),
        "restore": Action("admin", servers.restore, takes_away=False),
    }
    return Screen(
        *("servers", "Document servers", servers.show, actions),
        group="site",
        order=10,
        on_overview=servers.unwell,
        summary=servers.summary,
    )


class _Servers:
    def __init__(self, settings: Settings, store: Store) -> None:
        self._routes = {
            f"{route.host}{route.path}": frozenset(upstream_of(route, url).name for url in route.upstreams)
            for route in settings.core.routes
        }
        self._names = list(
            dict.fromkeys(upstream_of(route, url).name for route in settings.core.routes for url in route.upstreams)
        )
        self._drained = DrainedServers(store)
        self._states = WorkerStates(store)
        self._changes = ChangeLog(store)

    async def show(self, visitor: Visitor, inputs: Inputs) -> View:
        drained, workers = await self._drained.read(), alive(await self._states.read())
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PROBE_WITHIN)) as http:
            probes = await asyncio.gather(*(_probe(http, name) for name in self._names))
        rows = [
            self._row(name, name in drained, workers) | {"state": probe}
            for name, probe in zip(self._names, probes, strict=True)
        ]
        each = [_worker_row(worker, server) for worker in workers for server in worker.servers]
        return View(
            [
                Table("", _COLUMNS, rows, buttons=_BUTTONS),
                Table("By worker", _BY_WORKER, each[:_MOST_ROWS], empty="No worker has reported yet."),
            ]
        )

    def _row(self, name: str, is_drained: bool, workers: Sequence[WorkerState]) -> dict[str, Cell]:
        seen = [server for worker in workers for server in worker.servers if server.name == name]
        last = max(seen, key=lambda server: server.failed_at or 0, default=None)
        return {
            "id": name,
            "server": name,
            "routes": ", ".join(route for route, servers in self._routes.items() if name in servers),
            "up": _up_for(seen),
            "drained": "drained" if is_drained else "",
            "in_use": sum(server.in_use for server in seen) if seen else None,
            "waiting": sum(server.waiting for server in seen) if seen else None,
            **_failure(last),
        }

    async def summary(self, visitor: Visitor) -> Mapping[str, Cell]:
        """Returns how many servers every worker can reach, and how many workers report."""
        workers = alive(await self._states.read())
        down = {server.name for worker in workers for server in worker.servers if not server.is_up}
        up = sum(name not in down for name in self._names)
        return {
            "Document servers up": Link(f"{up} of {len(self._names)}" if workers else "no report yet", "servers"),
            "Workers": len(workers),
        }

    async def unwell(self, visitor: Visitor) -> Sequence[Part]:
        """Returns sentences about dependencies and servers that do not respond, for administrators to look into."""
        drained, reports = await self._drained.read(), await self._states.read()
        sentences = [
            *silent_gateways(reports),
            *unwell_dependencies(alive(reports)),
            *servers_down(alive(reports)),
            *(
                f"Route {route}: every document server is drained, so its users get 503; restore one."
                for route, servers in self._routes.items()
                if servers <= drained
            ),
        ]
        return [Notice(sentence, "fail") for sentence in sentences]

    # ------------------------------------------------------------ changes

    async def drain(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        """Drains the selected servers; a route keeps at least one."""
        drained = set(await self._drained.read())
        outcomes = []
        for name in self._known(inputs):
            lonely = next(
                (
                    route
                    for route, servers in self._routes.items()
                    if name in servers and not servers - drained - {name}
                ),
                None,
            )
            if lonely is not None:
                outcomes.append(Outcome(f"{name} is the last server of {lonely}.", is_done=False))
                continue
            await self._change(name, visitor, drained=True)
            drained.add(name)
            outcomes.append(Outcome(f"{name} is drained: new sessions go to other servers."))
        return outcomes or [Outcome("No server was selected.", is_done=False)]

    async def restore(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        """Restores the selected servers."""
        for name in self._known(inputs):
            await self._change(name, visitor, drained=False)
        done = [Outcome(f"{name} takes sessions again.") for name in self._known(inputs)]
        return done or [Outcome("No server was selected.", is_done=False)]

    async def _change(self, name: str, visitor: Visitor, *, drained: bool) -> None:
        await self._drained.change(name, drained=drained)
        what = "server-drained" if drained else "server-restored"
        await self._changes.record(what, name, visitor.actor, visitor.reason)

    def _known(self, inputs: Inputs) -> Sequence[str]:
        return [name for name in inputs.selected if name in self._names]


# ---------------------------------------------------------------- what is unwell


def alive(reports: Sequence[WorkerState]) -> Sequence[WorkerState]:
    """Returns the reports of workers that still report."""
    return [report for report in reports if report.age < _SILENT_AFTER]


def silent_gateways(reports: Sequence[WorkerState]) -> Sequence[str]:
    """Returns a sentence for each gateway whose workers all stopped reporting without ending as they should."""
    youngest: dict[str, int] = {}
    for report in reports:
        youngest[report.gateway] = min(report.age, youngest.get(report.gateway, report.age))
    return [
        f"Gateway {name} has not reported for {age} s: see whether its service runs and reaches the store."
        for name, age in youngest.items()
        if age >= _SILENT_AFTER
    ]


def unwell_dependencies(reports: Sequence[WorkerState]) -> Sequence[str]:
    """Returns a sentence for each dependency of a gateway that does not respond."""
    found = dict.fromkeys((report.gateway, name) for report in reports for name in report.degraded)
    return [f"The {name} does not respond to gateway {gateway}; Health says what to do." for gateway, name in found]


def servers_down(reports: Sequence[WorkerState]) -> Sequence[str]:
    """Returns a sentence for each document server that is down for some worker."""
    down: dict[str, int] = {}
    known: dict[str, ServerState] = {}
    for server in (server for report in reports for server in report.servers if not server.is_up):
        down[server.name] = down.get(server.name, 0) + 1
        known[server.name] = max(server, known.get(server.name, server), key=lambda one: one.failed_at or 0)
    return [
        f"{name} is down for {count} of {len(reports)} workers: {known[name].failure}." for name, count in down.items()
    ]


# ---------------------------------------------------------------- rows


def _up_for(seen: Sequence[ServerState]) -> str:
    """Returns for how many workers a server is up, in words."""
    if not seen:
        return "no report yet"
    up = sum(server.is_up for server in seen)
    return {0: "no worker", len(seen): "every worker"}.get(up, f"{up} of {len(seen)} workers")


def _worker_row(worker: WorkerState, server: ServerState) -> dict[str, Cell]:
    return {
        "gateway": worker.gateway,
        "worker": worker.worker,
        "server": server.name,
        "up": "up" if server.is_up else "down",
        "drained": "drained" if server.is_drained else "",
        "in_use": server.in_use,
        "idle": server.idle,
        "waiting": server.waiting,
        **_failure(server),
    }


def _failure(server: ServerState | None) -> Mapping[str, Cell]:
    if server is None or server.failed_at is None:
        return {"failed_at": None, "failure": ""}
    return {"failed_at": Moment(server.failed_at), "failure": server.failure}


async def _probe(http: aiohttp.ClientSession, server: str) -> str:
    """Returns whether a document server responds to anything at all."""
    began = time.monotonic()
    try:
        # `check` judges the certificate; this shows whether the server is there
        async with http.get(server, allow_redirects=False, ssl=False) as response:
            return f"responds ({response.status}, {(time.monotonic() - began) * 1000:.0f} ms)"
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return f"does not respond: {error or 'no response in time'}"
