"""Grants of warm requests end at once, in both workers: the next request is judged again."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from calgate_users import edit, ntlmv2
from support.gateway_process import (
    PASSWORD,
    DocumentServer,
    Gateway,
    calgate,
    cookie_of,
    gateway,
    workers_of,
    write_settings,
)

ONLY_NAMED = "named = { in_license = 2 }"


@dataclass
class Client:
    """One kept connection of alice."""

    port: int
    cookie: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def get(self, path: str = "/docs/a") -> int:
        """Returns the status of the response."""
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nCookie: {self.cookie}\r\n\r\n"
        self.writer.write(head.encode())
        received = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1")
        await self.reader.readexactly(int(received.partition("\r\nContent-Length: ")[2].partition("\r\n")[0]))
        return int(received.split(" ")[1])


def _sockets_of(pid: int) -> set[str]:
    names = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            names.append(os.readlink(file))
    return {name[8:-1] for name in names if name.startswith("socket:[")}


def _worker_of(gate: Gateway, client: Client) -> int:
    """Returns the worker that has the client's connection."""
    ours = client.writer.get_extra_info("sockname")[1]
    ends = f":{gate.port:04X}", f":{ours:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1].endswith(ends[0]) and words[2].endswith(ends[1]):
            return next(pid for pid in workers_of(gate) if words[9] in _sockets_of(pid))
    raise AssertionError("the connection is not there")


async def _one_in_each_worker(gate: Gateway, cookie: str) -> list[Client]:
    """Opens connections until each worker has one, and makes them warm."""
    found: dict[int, Client] = {}
    for _ in range(200):
        client = Client(gate.port, cookie, *await asyncio.open_connection("127.0.0.1", gate.port))
        assert await client.get("/portal") == 200
        worker = _worker_of(gate, client)
        if worker in found:
            client.writer.close()
        found.setdefault(worker, client)
        if len(found) == 2:
            break
    clients = list(found.values())
    assert len(clients) == 2
    for client in clients * 3:
        assert await client.get() == 200
    return clients


@asynccontextmanager
async def _alice(folder: Path, server: DocumentServer) -> AsyncIterator[tuple[Gateway, list[Client]]]:
    settings = write_settings(folder, server.port, listen="workers = 2", license=ONLY_NAMED)
    async with gateway(settings) as gate:
        assert (await calgate("cals", "assign", "alice", "-c", str(settings)))[0] == 0
        clients = await _one_in_each_worker(gate, await cookie_of(gate, "alice"))
        yield gate, clients
        for client in clients:
            client.writer.close()


async def _statuses(clients: list[Client], wanted: int, within: float = 5) -> None:
    """Waits until both workers respond with this status; the document server sees nothing after that."""
    async with asyncio.timeout(within):
        for client in clients:
            while await client.get() != wanted:
                await asyncio.sleep(0.05)


async def test_warm_requests_stop_with_the_cal_and_with_the_session(server: DocumentServer, tmp_path: Path) -> None:
    async with _alice(tmp_path, server) as (gate, clients):
        assert (await calgate("cals", "remove", "alice", "-c", str(gate.settings)))[0] == 0
        await _statuses(clients, 403)
        assert (await calgate("cals", "undo", "alice", "-c", str(gate.settings)))[0] == 0
        await _statuses(clients, 200)
        for client in clients * 2:
            assert await client.get() == 200
        assert (await calgate("sessions", "end", "alice", "-c", str(gate.settings)))[0] == 0
        seen = len(server.seen)
        await _statuses(clients, 401)
        assert len(server.seen) == seen


async def test_warm_requests_stop_as_the_user_leaves_the_group(server: DocumentServer, tmp_path: Path) -> None:
    async with _alice(tmp_path, server) as (_, clients):
        users = tmp_path / "users.toml"
        edit.remove(users, "alice", domain="DEMO")
        nt_hash = ntlmv2.nt_hash(PASSWORD)
        edit.add(users, "alice", domain="DEMO", display_name=None, groups=("others",), nt_hash=nt_hash)
        await _statuses(clients, 403, within=15)  # a session asks for its person every 10 s


async def test_warm_requests_are_judged_by_reloaded_rules(server: DocumentServer, tmp_path: Path) -> None:
    """A reload replaces the workers; a kept connection is closed after at most one more response."""
    async with _alice(tmp_path, server) as (gate, clients):
        text = gate.settings.read_text()
        closed = '[[access]]\nname = "closed"\ndocuments = ["a"]\ndeny = true\n\n[[access]]'
        gate.settings.write_text(text.replace("[[access]]", closed, 1))
        old = set(workers_of(gate))
        gate.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(30):
            while old & set(workers_of(gate)):
                for client in clients:
                    with suppress(ConnectionError, asyncio.IncompleteReadError):
                        await client.get()
                await asyncio.sleep(0.1)
        cookie = clients[0].cookie
        for _ in range(6):
            fresh = Client(gate.port, cookie, *await asyncio.open_connection("127.0.0.1", gate.port))
            assert [await fresh.get() for _ in range(3)] == [403] * 3
            fresh.writer.close()
