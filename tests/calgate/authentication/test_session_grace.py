"""One process's copies of the sessions, on a real store that goes away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from calgate.authentication import sessions as session_module
from calgate.authentication.session import Session
from calgate.authentication.sessions import COPY_LIFE, Sessions
from calgate.authentication.settings import SessionSection
from calgate.plugin.errors import Refusal, Unavailable
from calgate.plugin.identity import Identity, Person
from calgate.plugin.licensing import Lease
from calgate.store import StoreSection, open_store
from support.redis_servers import Server
from support.sessions import begin_session

GRACE = 300.0
PERSON = Person("alice", "CORP", "alice", "Alice", frozenset())
IDENTITY = Identity("CORP", "alice", mechanism="ntlm")


class OpenSocket:
    """A WebSocket of a session, and whether it was ended."""

    lease: Lease | None = None
    outlives_expiry = False

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def end(self, refusal: Refusal, reason: str) -> None:
        self.ended.set()

    def close(self, code: int, reason: str) -> None:
        self.ended.set()


class Known(Sessions):
    """The sessions of one process, at a time that the test sets."""

    now = 1_768_039_200.0

    async def begun(self, *, is_browser: bool = True) -> tuple[Session, str]:
        return await begin_session(self, IDENTITY, PERSON, "192.0.2.1", is_browser=is_browser)


@pytest_asyncio.fixture
async def sessions(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Known]:
    monkeypatch.setattr(session_module, "_KEEP_EVERY", 0.02)
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        known = Known(store, SessionSection(), GRACE, clock=lambda: known.now)
        yield known


@pytest_asyncio.fixture
async def kept(sessions: Known) -> AsyncIterator[Known]:
    """The same, renewed in the background."""
    keeping = asyncio.create_task(sessions.keep())
    yield sessions
    keeping.cancel()


async def test_copy_serves_for_the_grace_time_and_no_longer_while_the_store_is_away(
    server: Server, sessions: Known
) -> None:
    session, cookie = await sessions.begun()
    assert await sessions.find(cookie) is session
    server.stop()
    sessions.now += COPY_LIFE + GRACE - 1
    assert await sessions.find(cookie) is session
    sessions.now += 1
    with pytest.raises(Unavailable):
        await sessions.find(cookie)


async def test_websocket_is_closed_after_the_grace_time_while_the_store_is_away(server: Server, kept: Known) -> None:
    """Otherwise nothing could close it later: not a sign-out, not an administrator."""
    socket = OpenSocket()
    session, cookie = await kept.begun()
    await kept.find(cookie)
    session.open_websocket(socket)
    server.stop()
    kept.now += COPY_LIFE + GRACE - 1
    await asyncio.sleep(0.2)
    assert not socket.ended.is_set()
    kept.now += 2
    await asyncio.wait_for(socket.ended.wait(), 10)


async def test_websocket_whose_upgrade_was_the_sign_in_can_be_ended_however_long_it_is_open(kept: Known) -> None:
    """It is a program's: its cookie never comes back."""
    socket = OpenSocket()
    session, _ = await kept.begun(is_browser=False)
    session.open_websocket(socket)
    for _ in range(30):
        kept.now += COPY_LIFE
        await asyncio.sleep(0.05)
    assert not socket.ended.is_set()
    assert [one.key for one in await kept.live_of(PERSON.key)] == [session.key]
    await kept.end(session.key, "ended by an administrator")
    assert socket.ended.is_set()


async def test_requests_that_wait_for_one_session_read_it_from_the_store_once(
    server: Server, sessions: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    store = sessions._store._store
    call = store.call

    async def counted(function: str, *words: Any, **more: Any) -> Any:
        nonlocal reads
        reads += function == "calgate_session_v1_look"
        return await call(function, *words, **more)

    _, cookie = await sessions.begun()
    await sessions.find(cookie)
    sessions.now += COPY_LIFE
    monkeypatch.setattr(store, "call", counted)
    found = await asyncio.gather(*(sessions.find(cookie) for _ in range(200)))
    assert len({id(session) for session in found}) == 1
    assert reads == 1
    sessions.now += COPY_LIFE
    server.stop()
    waiting = [asyncio.create_task(sessions.find(cookie)) for _ in range(200)]
    await asyncio.wait(waiting)
    assert {task.result() for task in waiting} == {found[0]}, "the copy serves them all within the grace time"
    assert reads == 2


async def test_session_is_read_again_after_the_requests_that_waited_for_it_have_gone(sessions: Known) -> None:
    _, cookie = await sessions.begun()
    waiting = asyncio.create_task(sessions.find(cookie))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await sessions.find(cookie) is not None
