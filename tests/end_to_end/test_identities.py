"""Warm requests of five people, interleaved over few upstream connections: no request or response is another's.

CI sends some thousands; `make long` sends 200,000.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.gateway_process import (
    DocumentServer,
    Exchange,
    Gateway,
    cookie_of,
    document_server,
    gateway,
    write_settings,
)

PEOPLE = ("alice", "bob", "carol", "dave", "erin")
CONNECTIONS_EACH = 4


@dataclass
class Recorder:
    """Responds with what each request says about its user, in every shape of a response, and records mistakes."""

    server: DocumentServer
    requests: int = 0
    mistakes: list[str] = field(default_factory=list)
    on_connection: dict[int, set[str]] = field(default_factory=dict)  # who used each upstream connection

    async def answer(self, exchange: Exchange) -> None:
        self.server.seen.clear()  # or 200,000 requests would stay in memory
        self.requests += 1
        _, _, person, number = exchange.path.replace("?", "/").split("/")
        users, cookies = exchange.values("QVUSER"), exchange.values("Cookie")
        if users != [f"DEMO\\{person}"] or cookies not in ([], [f"docs={person}"]):
            self.mistakes.append(f"{exchange.path} came as {users} with {cookies}")
        if exchange.body and exchange.body.decode() != f"{person}|{number}":
            self.mistakes.append(f"{exchange.path} came with the body {exchange.body!r}")
        self.on_connection.setdefault(id(exchange.writer), set()).add(person)
        await self._write(exchange, f"{users[0]}|{number}".encode(), int(number))

    async def _write(self, exchange: Exchange, body: bytes, number: int) -> None:
        if number % 11 == 1:
            exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body[:5]))
            await asyncio.sleep(0.001)
            exchange.writer.write(body[5:])
        elif number % 11 == 2:
            exchange.writer.write(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(body), body)
            )
            await asyncio.sleep(0.001)
            exchange.writer.write(b"0\r\n\r\n")
        elif number % 11 == 3:
            person = body.partition(b"|")[0].rpartition(b"\\")[2].decode()
            await exchange.answer(body, fields=[f"Set-Cookie: docs={person}; Path=/"])
        elif number % 11 == 4:
            await asyncio.sleep(0.002)
            await exchange.answer(body)
        elif number % 211 == 5:
            exchange.writer.close()
        else:
            await exchange.answer(body)


class Client:
    """One connection of a person, which is opened again when it ends."""

    def __init__(self, gate: Gateway, person: str, cookie: str, numbers: "itertools.count[int]", most: int) -> None:
        self._gate, self._person, self._cookie = gate, person, cookie
        self._numbers, self._most = numbers, most
        self._random = random.Random(person)
        self.mistakes: list[str] = []

    async def run(self) -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._gate.port)
            try:
                while (number := next(self._numbers)) < self._most:
                    if not await self._exchange(reader, writer, number):
                        break
                else:
                    return
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the document server has closed its connection during a POST
            finally:
                writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        """Sends a request, or two at once; returns False where the connection cannot be used again."""
        following = number + 10_000_000 if number % 7 == 0 else None
        writer.write(self._request(number) + (self._request(following) if following is not None else b""))
        if number % 97 == 0:
            await asyncio.sleep(self._random.random() / 500)
            return False  # disconnects in the middle
        for expected in (number, following):
            if expected is not None and not await self._check(reader, expected):
                return False
        return True

    def _request(self, number: int) -> bytes:
        head = f"Host: 127.0.0.1:{self._gate.port}\r\nCookie: {self._cookie}; docs={self._person}\r\n"
        if number % 5 == 0:
            head += f"Referer: http://127.0.0.1/{number}\r\n"
        if number % 9 == 0:
            body = f"{self._person}|{number}"
            line = f"POST /who/{self._person}?{number} HTTP/1.1\r\nContent-Length: {len(body)}\r\n"
            return f"{line}{head}\r\n{body}".encode()
        return f"GET /who/{self._person}?{number} HTTP/1.1\r\n{head}\r\n".encode()

    async def _check(self, reader: asyncio.StreamReader, number: int) -> bool:
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode("latin-1")
        if "\r\nTransfer-Encoding: chunked" in head:
            body = b""
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        else:
            length = int(head.partition("\r\nContent-Length: ")[2].partition("\r\n")[0])
            body = await reader.readexactly(length)
        if head.startswith("HTTP/1.1 502 "):
            return "\r\nConnection: close" not in head  # a POST on a connection that had ended
        if not head.startswith("HTTP/1.1 200 ") or body.decode() != f"DEMO\\{self._person}|{number}":
            self.mistakes.append(f"{self._person} got {head!r} {body!r} for {number}")
        return "\r\nConnection: close" not in head


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[tuple[Gateway, Recorder]]:
    """Starts a gateway with two workers, six connections each, in front of a recording document server."""
    async with document_server() as server:
        recorder = Recorder(server)
        settings = write_settings(
            folder, server.port, users=PEOPLE, listen="workers = 2", route="connections = 6\nconnections_per_user = 6"
        )
        async with gateway(settings) as gate:
            yield gate, recorder


async def send_interleaved(folder: Path, most: int) -> None:
    async with site(folder) as (gate, recorder):
        cookies = {person: await cookie_of(gate, person) for person in PEOPLE}
        recorder.server.behaviour = recorder.answer
        numbers = itertools.count()
        clients = [
            Client(gate, person, cookies[person], numbers, most) for person in PEOPLE for _ in range(CONNECTIONS_EACH)
        ]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run())
        assert recorder.mistakes == []
        assert [mistake for client in clients for mistake in client.mistakes] == []
        assert recorder.requests > most * 0.9
        busy = [people for people in recorder.on_connection.values() if people == set(PEOPLE)]
        assert busy, "no upstream connection was shared by all"


async def test_identities_never_mix_in_interleaved_warm_requests(tmp_path: Path) -> None:
    await send_interleaved(tmp_path, 3000)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_identities_never_mix_in_200_000_interleaved_warm_requests(tmp_path: Path) -> None:
    await send_interleaved(tmp_path, 200_000)
