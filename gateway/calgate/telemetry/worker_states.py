"""The state of each server, as every worker of every gateway sees it: reported to the store, read by the console."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from calgate.plugin.services import Store
from calgate.plugin.values import as_text

_LIBRARY = Path(__file__).with_name("worker_states.lua")
_KEPT = 600  # seconds after the last report of a worker
_LONGEST = 200  # characters of a failure


@dataclass(frozen=True, slots=True)
class ServerState:
    """A document server, as one worker sees it."""

    name: str
    is_up: bool
    is_drained: bool
    failed_at: float | None = None  # Unix time of the last failure; None: none since the worker started
    failure: str = ""
    # connections and requests come and go all the time: they are reported with the rest, and are no change of the state
    in_use: int = field(default=0, compare=False)  # connections, without those of WebSockets
    idle: int = field(default=0, compare=False)  # open connections that no request has
    waiting: int = field(default=0, compare=False)  # requests that wait for a connection


def joined(states: Iterable[ServerState]) -> Mapping[str, ServerState]:
    """Returns one state of each server, by its name: one that several routes name must respond for all of them."""
    servers: dict[str, ServerState] = {}
    for one in states:
        known = servers.get(one.name)
        servers[one.name] = one if known is None else _join(known, one)
    return servers


def _join(one: ServerState, other: ServerState) -> ServerState:
    worse = min(one, other, key=lambda state: (state.is_up, -(state.failed_at or 0)))
    return replace(
        worse, in_use=one.in_use + other.in_use, idle=one.idle + other.idle, waiting=one.waiting + other.waiting
    )


@dataclass(frozen=True, slots=True)
class WorkerState:
    """The last report of a worker."""

    gateway: str  # the name of its host
    worker: int  # its process id
    degraded: Sequence[str] = ()  # dependencies that do not respond: "store", "directory"
    servers: Sequence[ServerState] = ()
    age: int = 0  # seconds since the report


class WorkerStates:
    """The reports of all workers on all gateways. Every method raises Unavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = (f"{store.prefix}:workers",)
        store.library("calgate_workers_v1", _LIBRARY.read_text(encoding="utf-8"))

    async def report(self, state: WorkerState) -> None:
        """Stores a worker's present state, in place of its last report."""
        name = f"{state.gateway}/{state.worker}"
        await self._store.call("calgate_workers_v1_report", self._keys, (name, _encode(state), _KEPT))

    async def withdraw(self, state: WorkerState) -> None:
        """Removes a worker's report: it ends."""
        await self._store.execute("HDEL", self._keys[0], f"{state.gateway}/{state.worker}")

    async def read(self) -> Sequence[WorkerState]:
        """Returns the last report of each worker, by gateway."""
        reply = await self._store.call("calgate_workers_v1_read", self._keys, read_only=True)
        states = [_decode(as_text(text), int(age)) for age, text in zip(reply[::2], reply[1::2], strict=True)]
        return sorted(states, key=lambda state: (state.gateway, state.worker))


def _encode(state: WorkerState) -> str:
    written = asdict(state)
    for server in written["servers"]:
        server["failure"] = server["failure"][:_LONGEST]
    return json.dumps(written, ensure_ascii=False)


def _decode(text: str, age: int) -> WorkerState:
    read = json.loads(text)
    servers = [ServerState(**server) for server in read["servers"]]
    return WorkerState(read["gateway"], read["worker"], read["degraded"], servers, age)
