"""Requests and responses that stay open end with the session and the CAL that admitted them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from calgate_users import edit, ntlmv2
from support.aborted import until_read
from support.gateway_process import (
    PASSWORD,
    WORKERS,
    DocumentServer,
    Exchange,
    Gateway,
    calgate,
    cookie_of,
    curl,
    document_server,
    gateway,
)
from support.qlikview import CALL, OPEN, held, update, write_qlikview

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def end_sessions(gate: Gateway, user: str) -> None:
    assert (await calgate("sessions", "end", f"DEMO\\{user}", "-c", str(gate.settings)))[0] == 0


async def leave_group(gate: Gateway, user: str) -> None:
    people = gate.settings.with_name("users.toml")
    nt_hash = ntlmv2.nt_hash(PASSWORD)
    edit.add(people, user, domain="DEMO", display_name=None, groups=("others",), nt_hash=nt_hash)


async def end_cal(gate: Gateway, user: str) -> None:
    assert (await calgate("cals", "end", user, "--force", "-c", str(gate.settings)))[0] == 0


Loss = Callable[[Gateway, str], Awaitable[None]]


@contextlib.asynccontextmanager
async def slow_post(gate: Gateway, path: str, cookie: str, body: bytes) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Sends all of a POST but its last byte; the yielded function sends that and returns the response's status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    lines = [f"POST {path} HTTP/1.1", "Host: gate", f"Cookie: {cookie}", f"Content-Length: {len(body)}", "", ""]
    writer.write("\r\n".join(lines).encode() + body[:-1])
    await until_read(gate, writer.get_extra_info("sockname"))

    async def finish() -> int:
        writer.write(body[-1:])
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        return int(head.split(b" ")[1])

    yield finish
    writer.close()


@pytest_asyncio.fixture(loop_scope="module")
async def qlikview(tmp_path: Path) -> AsyncIterator[tuple[Gateway, DocumentServer]]:
    async with document_server() as server, gateway(write_qlikview(tmp_path, server.port)) as gate:
        yield gate, server


@pytest.mark.parametrize(("loss", "status"), [(end_sessions, 401), (leave_group, 403)])
async def test_post_whose_body_came_after_the_loss_is_refused_and_takes_no_cal(
    qlikview: tuple[Gateway, DocumentServer], loss: Loss, status: int
) -> None:
    gate, server = qlikview
    cookie = await cookie_of(gate, "alice")
    server.seen.clear()
    async with slow_post(gate, CALL, cookie, update("Sales.qvw").encode()) as finish:
        await loss(gate, "alice")
        lost = time.monotonic()
        async with asyncio.timeout(30):  # a session queries the directory every ten seconds, in each worker
            while (
                time.monotonic() < lost + (11 if WORKERS != "1" else 0)
                or (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status != status
            ):
                await asyncio.sleep(0.2)
        server.seen.clear()
        assert await finish() == status
    assert server.seen == []
    assert await held(gate) == []


class Stream:
    """A document server that streams events, and knows when its connection is closed."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        if not exchange.path.endswith("events"):
            await exchange.answer()
            return
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nevent 1\r\n")
        await exchange.reader.read()
        self.left.set()


@pytest.mark.parametrize(
    ("loss", "path", "within"),
    [(end_cal, f"{OPEN}&events", 5), (end_sessions, "/events", 5), (leave_group, "/events", 25)],
)
async def test_event_stream_is_reset_when_its_cal_its_session_or_its_access_ends(
    qlikview: tuple[Gateway, DocumentServer], loss: Loss, path: str, within: float
) -> None:
    gate, server = qlikview
    server.behaviour = stream = Stream()
    cookie = await cookie_of(gate, "bob")
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: gate\r\nCookie: {cookie}\r\n\r\n".encode())
    assert b"event 1" in await asyncio.wait_for(reader.readuntil(b"event 1\r\n"), 10)
    await loss(gate, "bob")
    with contextlib.suppress(ConnectionError):
        assert b"0\r\n\r\n" not in await asyncio.wait_for(reader.read(), within), "the client takes it for whole"
    await asyncio.wait_for(stream.left.wait(), 5)
    writer.close()


async def test_upload_ends_with_its_session(qlikview: tuple[Gateway, DocumentServer]) -> None:
    gate, server = qlikview
    server.seen.clear()
    cookie = await cookie_of(gate, "carol")
    async with slow_post(gate, "/upload", cookie, b"x" * 1000) as finish:
        await end_sessions(gate, "carol")
        assert await finish() == 401
    assert [seen for seen in server.seen if seen.path == "/upload"] == []
