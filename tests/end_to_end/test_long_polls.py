"""Long polls through a running gateway: a waiting request ends with its session and with its CAL."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.gateway_process import DocumentServer, Exchange, Gateway, calgate, cookie_of, curl
from support.shared_gateway import gate, server, shared_server

__all__ = ["gate", "server", "shared_server"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Waiting:
    """A document server that never responds to a poll; records when polls arrive and when they end."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        if not exchange.path.endswith("/poll"):
            await exchange.answer()
            return
        self.came.set()
        await exchange.reader.read()
        self.left.set()


@pytest_asyncio.fixture(loop_scope="module")
async def waiting(server: DocumentServer) -> AsyncIterator[Waiting]:
    server.behaviour = behaviour = Waiting()
    yield behaviour


async def poll(gate: Gateway, waiting: Waiting, user: str) -> "asyncio.Task[tuple[int, str]]":
    """Opens a document and starts a poll; the task returns its status and the code of the refusal."""
    cookie = await cookie_of(gate, user)
    assert (await curl(f"{gate.url}/docs/a", "-b", cookie)).status == 200

    async def ask() -> tuple[int, str]:
        reply = await curl(f"{gate.url}/docs/a/poll", "-b", cookie, "-H", "Accept: application/problem+json")
        return reply.status, str(json.loads(reply.body)["code"])

    task = asyncio.create_task(ask())
    await asyncio.wait_for(waiting.came.wait(), 5)
    return task


async def test_poll_ends_with_its_session(gate: Gateway, waiting: Waiting) -> None:
    task = await poll(gate, waiting, "alice")
    assert (await calgate("sessions", "end", "DEMO\\alice", "-c", str(gate.settings)))[0] == 0
    assert (await asyncio.wait_for(task, 5))[0] == 401
    await asyncio.wait_for(waiting.left.wait(), 5)


async def test_poll_ends_with_its_cal(gate: Gateway, waiting: Waiting) -> None:
    assert (await calgate("cals", "assign", "bob", "-c", str(gate.settings)))[0] == 0
    task = await poll(gate, waiting, "bob")
    assert (await calgate("cals", "remove", "bob", "-c", str(gate.settings)))[0] == 0
    assert await asyncio.wait_for(task, 5) == (403, "no-cal-held")
    await asyncio.wait_for(waiting.left.wait(), 5)
