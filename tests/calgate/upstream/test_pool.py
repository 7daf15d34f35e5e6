"""Connections to a document server: one exchange at a time, and whose reply it is."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from calgate.http import descriptors
from calgate.plugin.errors import Unavailable
from calgate.telemetry.metrics import Metrics
from calgate.upstream.balancer import LoadBalancer, Server
from calgate.upstream.pool import Unreachable, Upstream, UpstreamRequest
from calgate.upstream.settings import HealthSection

pytestmark = [pytest.mark.server, pytest.mark.alone]


def ask_for(path: bytes, user: str = "") -> UpstreamRequest:
    return UpstreamRequest("GET", b"GET " + path + b" HTTP/1.1\r\nHost: docs\r\n\r\n", user=user)


@asynccontextmanager
async def echoing(limit: int = 10, connect: float = 5) -> AsyncIterator[tuple[Upstream, list[asyncio.StreamWriter]]]:
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
        async with Upstream("127.0.0.1", port, connect=connect, connections=limit, per_user=limit) as upstream:
            yield upstream, made
        await asyncio.gather(*(writer.wait_closed() for writer in made))


async def test_complete_response_keeps_its_connection_until_it_is_taken() -> None:
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


async def test_connection_is_reused_once_its_response_is_taken() -> None:
    async with echoing() as (upstream, made):
        for path in (b"/a", b"/b", b"/c"):
            reply = await upstream.send(ask_for(path))
            assert await reply.read() == path
            assert await reply.read() == b""
            await asyncio.sleep(0)
        assert len(made) == 1


async def test_request_beyond_the_limit_gets_the_first_connection_that_is_released() -> None:
    async with echoing(2) as (upstream, made):
        held = [await upstream.send(ask_for(path)) for path in (b"/a", b"/b")]
        waiting = [asyncio.create_task(upstream.send(ask_for(path))) for path in (b"/c", b"/d")]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        for reply, task, path in zip(held, waiting, (b"/c", b"/d"), strict=True):
            assert [await reply.read() != b"", await reply.read()] == [True, b""]
            assert await (await task).read() == path
        assert len(made) == 2


async def test_waiting_request_gets_room_where_a_connection_ends() -> None:
    async with echoing(1) as (upstream, made):
        held = await upstream.send(ask_for(b"/a"))
        waiting = asyncio.create_task(upstream.send(ask_for(b"/b")))
        await asyncio.sleep(0.05)
        held.close()
        assert await (await waiting).read() == b"/b"
        assert len(made) == 2


async def test_request_that_waits_too_long_is_unavailable_and_leaves_no_waiter() -> None:
    async with echoing(1, 0.05) as (upstream, _):
        held = await upstream.send(ask_for(b"/a"))
        with pytest.raises(Unavailable, match="all 1 connections"):
            await upstream.send(ask_for(b"/b"))
        assert await held.read() == b"/a"
        assert await held.read() == b""
        assert await (await upstream.send(ask_for(b"/c"))).read() == b"/c"


async def test_waiting_request_gets_room_where_a_connection_cannot_be_opened() -> None:
    async with echoing(1) as (upstream, _):
        going_away = asyncio.create_task(upstream.send(ask_for(b"/a")))
        waiting = asyncio.create_task(upstream.send(ask_for(b"/b")))
        await asyncio.sleep(0)  # now the one is being connected, and the other waits for it
        going_away.cancel()
        async with asyncio.timeout(20):
            assert await (await waiting).read() == b"/b"


async def test_connection_that_is_lost_while_it_opens_is_unreachable_and_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def lost(make: Callable[[], asyncio.Protocol], *_: object, **__: object) -> tuple[None, asyncio.Protocol]:
        made = make()
        made.connection_made(asyncio.Transport())
        made.connection_lost(ConnectionResetError())
        return None, made

    async with Upstream("127.0.0.1", 1, connections=1) as upstream:
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", lost)
        for _ in range(2):  # the first takes up no place
            with pytest.raises(Unreachable, match="closed at once"):
                await upstream.send(ask_for(b"/a"))


async def test_waiter_cancelled_at_its_turn_passes_the_turn_on() -> None:
    async with echoing(1) as (upstream, _):
        held = await upstream.send(ask_for(b"/a"))
        first, second = (asyncio.create_task(upstream.send(ask_for(path))) for path in (b"/b", b"/c"))
        await asyncio.sleep(0.05)
        assert [await held.read(), await held.read()] == [b"/a", b""]
        first.cancel()
        async with asyncio.timeout(20):
            assert await (await second).read() == b"/c"


async def test_waiting_request_is_served_before_a_later_one() -> None:
    async with echoing(1) as (upstream, _):
        held = await upstream.send(ask_for(b"/a"))
        waiting = asyncio.create_task(upstream.send(ask_for(b"/b")))
        assert await held.read() == b"/a"
        await asyncio.sleep(0.05)
        later = asyncio.create_task(upstream.send(ask_for(b"/c")))  # it runs first once the connection is free
        assert await held.read() == b""
        done, _ = await asyncio.wait({waiting, later}, return_when=asyncio.FIRST_COMPLETED)
        assert done == {waiting}
        for task, path in ((waiting, b"/b"), (later, b"/c")):
            reply = await task
            assert [await reply.read(), await reply.read()] == [path, b""]


async def test_health_check_that_timed_out_holds_no_connection() -> None:
    ended = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhalf")
        await reader.read()
        writer.close()
        ended.set()

    async with (
        await asyncio.start_server(stall, "127.0.0.1", 0) as listening,
        Upstream("127.0.0.1", listening.sockets[0].getsockname()[1]) as upstream,
    ):
        member = Server(upstream)
        health = HealthSection.model_validate({"every": "1h", "timeout": "50ms"})
        watching = asyncio.create_task(LoadBalancer([member], Metrics(), health).watch())
        await asyncio.wait_for(ended.wait(), 20)
        watching.cancel()
        assert not member.is_healthy


async def test_response_before_the_end_of_the_upload_is_complete_for_a_slow_reader() -> None:
    """It is we who do not read, so the document server's time to go on does not run."""
    large = b"x" * (4 << 20)
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(large) + large)
        await reader.readexactly(4)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        served.set()

    async def upload() -> AsyncIterator[bytes]:
        yield b"ab"
        await asyncio.sleep(0.2)  # until then the reply has filled all buffers
        yield b"cd"

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening, Upstream("127.0.0.1", port, patience=0.5) as upstream:
        head = b"POST / HTTP/1.1\r\nHost: docs\r\nContent-Length: 4\r\n\r\n"
        reply = await upstream.send(UpstreamRequest("POST", head, upload()))
        await asyncio.sleep(2.5)  # deadlines are looked at once a second
        size = 0
        while piece := await reply.read():
            size += len(piece)
        assert size == len(large)
        await served.wait()


async def test_requests_of_one_user_leave_connections_to_others() -> None:
    async with echoing(4) as (upstream, _):
        upstream._turns.per_user = 2
        held = [await upstream.send(ask_for(b"/a", user="mallory")) for _ in range(2)]
        waiting = asyncio.create_task(upstream.send(ask_for(b"/b", user="mallory")))
        assert await (await upstream.send(ask_for(b"/c", user="alice"))).read() == b"/c"
        assert not waiting.done()
        assert [await held[0].read(), await held[0].read()] == [b"/a", b""]
        assert await (await waiting).read() == b"/b"


async def test_lack_of_file_descriptors_is_no_failure_of_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(descriptors, "_last", -1e9)
    async with Upstream("127.0.0.1", 1) as upstream:
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refuse)
        for _ in range(3):
            with pytest.raises(Unavailable, match="file descriptor"):
                await upstream.send(ask_for(b"/a"))
    assert [record.getMessage() for record in caplog.records] == [
        "cannot connect to 127.0.0.1:1: no file descriptors left; raise LimitNOFILE of the service (ulimit -n)"
    ]


async def test_message_is_made_again_for_the_connection_that_replaces_one_that_had_ended() -> None:
    """A Kerberos token is a replay the second time, even where nothing was read the first time."""
    received: list[bytes] = []
    made: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Responds to the first request of a connection only, as if the second came too late."""
        made.append(writer)
        with suppress(asyncio.IncompleteReadError):  # the last connection ends without a second request
            received.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async def renew() -> bytes:
        return b"GET /again HTTP/1.1\r\nHost: docs\r\n\r\n"

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening, Upstream("127.0.0.1", listening.sockets[0].getsockname()[1]) as upstream:
        for path in (b"/first", b"/second"):
            request = ask_for(path)
            request.renew = renew
            assert await (await upstream.send(request)).read() == b""
    await asyncio.gather(*(writer.wait_closed() for writer in made))
    assert [head.split(b" ")[1] for head in received[:3]] == [b"/first", b"/second", b"/again"]
