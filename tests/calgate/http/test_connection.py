"""A client's connection, and how slowly it may be read."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from calgate.http import writable
from calgate.http.connection import ClientConnection, RawRequest
from calgate.http.response import Response
from calgate.http.server import HttpServer
from support.waiting import until

SIZE = 400_000


class Body:
    """A body in pieces as large as they come from a document server."""

    length: int | None = SIZE

    def __init__(self) -> None:
        self._left = SIZE
        self.closed = asyncio.Event()

    async def read(self) -> bytes:
        size = min(self._left, 200_000)
        self._left -= size
        return b"x" * size

    def take_whole(self) -> bytes | None:
        return None

    def close(self) -> None:
        self.closed.set()


@asynccontextmanager
async def asked_for(body: Body | bytes) -> AsyncIterator[tuple[socket.socket, HttpServer]]:
    """Yields a client that has requested the body through small socket buffers, and the server."""

    async def serve(_: object) -> Response:
        return Response(200, [], body) if isinstance(body, bytes) else Response(200, [], body_stream=body)

    server = HttpServer(serve, lambda request, refusal: Response(500, []))
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    listener = await loop.create_server(server, sock=listening)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, listening.getsockname())
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
        yield client, server
    listener.close()


async def test_slow_reader_keeps_its_connection_while_it_reads_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writable, "_SLOW_READER", 0.3)
    async with asked_for(Body()) as (client, _):
        received = b""
        while piece := await asyncio.get_running_loop().sock_recv(client, 4096):
            received += piece
            await asyncio.sleep(0.01)
    assert len(received.partition(b"\r\n\r\n")[2]) == SIZE


@asynccontextmanager
async def served_at_once(size: int) -> AsyncIterator[tuple[socket.socket, ClientConnection]]:
    """A client that reads nothing yet, and its connection, on which a large response was sent without a task."""

    def begin(raw: RawRequest) -> bool:
        asyncio.get_running_loop().call_soon(finish, raw)
        return True

    def finish(raw: RawRequest) -> None:
        Response(200, [], b"x" * size).begin(raw)
        raw.connection.finish_at_once()

    async def serve(_: object) -> Response:
        return Response(200, [], b"from a task")

    server = HttpServer(serve, lambda request, refusal: Response(500, []), begin)
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    listener = await loop.create_server(server, sock=listening)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, listening.getsockname())
        await loop.sock_sendall(client, b"GET /1 HTTP/1.1\r\nHost: g\r\n\r\n")
        async with asyncio.timeout(5):
            while not (server.connections and cast(ClientConnection, server.connections[0])._is_flushing):
                await asyncio.sleep(0.005)
        yield client, cast(ClientConnection, server.connections[0])
    listener.close()


async def test_response_sent_at_once_is_under_way_until_a_slow_client_has_read_it() -> None:
    """Until then the connection is not idle, and its next request is left to the task."""
    async with served_at_once(SIZE) as (client, connection):
        assert not connection.is_idle
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, b"GET /2 HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
        received = b""
        while piece := await loop.sock_recv(client, 65_536):
            received += piece
    assert received.count(b"x") == SIZE
    assert received.endswith(b"from a task")


async def test_shutdown_waits_for_a_response_that_was_sent_at_once_to_be_read() -> None:
    async with served_at_once(SIZE) as (client, connection):
        stopping = asyncio.create_task(connection.shutdown(10))
        assert not (await asyncio.wait({stopping}, timeout=0.2))[0], "the process would end before the client has read"
        received = b""
        while piece := await asyncio.get_running_loop().sock_recv(client, 65_536):
            received += piece
        assert received.count(b"x") == SIZE
        await asyncio.wait_for(stopping, 20)


async def test_response_sent_at_once_closes_when_its_reader_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writable, "_SLOW_READER", 0.1)
    async with served_at_once(SIZE) as (_, slow):
        await until(lambda: slow.transport is None)


async def test_connection_is_closed_when_its_reader_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writable, "_SLOW_READER", 0.1)
    body = Body()
    async with asked_for(body):
        await asyncio.wait_for(body.closed.wait(), 5)


async def test_closed_connection_is_aborted_when_its_reader_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The response is short enough for the kernel to take all of it at once."""
    monkeypatch.setattr(writable, "_SLOW_READER", 0.1)
    async with asked_for(b"x" * 60_000) as (_, server):
        await until(lambda: server.connections)
        await until(lambda: not server.connections)
