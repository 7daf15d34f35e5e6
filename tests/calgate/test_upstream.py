"""Connections to a document server: one exchange at a time, and whose reply it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from calgate.upstream import Outgoing, Upstream


def ask_for(path: bytes) -> Outgoing:
    return Outgoing("GET", b"GET " + path + b" HTTP/1.1\r\nHost: docs\r\n\r\n")


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[Upstream, list[asyncio.StreamWriter]]]:
    """A server whose replies are the paths they were asked for, and each connection that was made to it."""
    made: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(writer)
        while line := await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            path = line.split(b" ")[1]
            writer.write(b"HTTP/1.1 200 OK\r\nX-For: %b\r\nContent-Length: %d\r\n\r\n%b" % (path, len(path), path))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with Upstream("127.0.0.1", port) as upstream:
            yield upstream, made
        await asyncio.gather(*(writer.wait_closed() for writer in made))


async def test_a_reply_that_is_whole_keeps_its_connection_until_it_is_taken() -> None:
    """Between a head and the taking of its body a request may wait for the store; another must not overwrite it."""
    async with echoing() as (upstream, made):
        first = await upstream.send(ask_for(b"/first"))
        while first.peek() != b"/first":
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        second = await upstream.send(ask_for(b"/second"))
        assert second.take_whole() == b"/second"
        assert (first.status, first.headers[0], first.take_whole()) == (200, (b"X-For", b"/first"), b"/first")
        assert len(made) == 2


async def test_a_reply_that_is_taken_gives_its_connection_back_at_once() -> None:
    async with echoing() as (upstream, made):
        for path in (b"/a", b"/b", b"/c"):
            reply = await upstream.send(ask_for(path))
            assert await reply.read() == path
            assert await reply.read() == b""
            await asyncio.sleep(0)
        assert len(made) == 1
