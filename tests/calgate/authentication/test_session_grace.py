"""Signed-in browsers as one process knows them, on a real store that goes away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from calgate.authentication import sessions as session_module
from calgate.authentication.sessions import COPY_LIFE, Session, Sessions
from calgate.authentication.settings import SessionSection
from calgate.plugin.errors import Unavailable
from calgate.plugin.identity import Identity, Person
from calgate.store import StoreSection, open_store
from support.redis_servers import Server

GRACE = 300.0
PERSON = Person("alice", "CORP", "alice", "Alice", frozenset())
IDENTITY = Identity("CORP", "alice", mechanism="ntlm")


class Known(Sessions):
    """The sessions of one process, at a time of the test's."""

    now = 1_768_039_200.0

    async def begun(self, *, is_browser: bool = True) -> tuple[Session, str]:
        return await self.begin(IDENTITY, PERSON, "192.0.2.1", is_browser=is_browser, cookies=set())


@pytest_asyncio.fixture
async def sessions(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Known]:
    monkeypatch.setattr(session_module, "_KEEP_EVERY", 0.02)
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        known = Known(store, SessionSection(), GRACE, clock=lambda: known.now)
        yield known


@pytest_asyncio.fixture
async def kept(sessions: Known) -> AsyncIterator[Known]:
    """They are kept good in the background."""
    keeping = asyncio.create_task(sessions.keep())
    yield sessions
    keeping.cancel()


async def test_with_the_store_away_a_copy_serves_for_the_grace_time_and_no_longer(
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


async def test_a_websocket_does_not_outlive_the_grace_time_without_the_store(server: Server, kept: Known) -> None:
    """Else nothing could close it later: not a sign-out, not an administrator."""
    closed = asyncio.Event()
    session, cookie = await kept.begun()
    await kept.find(cookie)
    session.open_tunnels.add(lambda code, reason: closed.set())
    server.stop()
    kept.now += COPY_LIFE + GRACE - 1
    await asyncio.sleep(0.2)
    assert not closed.is_set()
    kept.now += 2
    await asyncio.wait_for(closed.wait(), 10)


async def test_a_websocket_whose_upgrade_was_the_sign_in_can_be_ended_however_long_it_is_open(kept: Known) -> None:
    """A program's: its cookie never comes back."""
    closed = asyncio.Event()
    session, _ = await kept.begun(is_browser=False)
    session.open_tunnels.add(lambda code, reason: closed.set())
    for _ in range(30):
        kept.now += COPY_LIFE
        await asyncio.sleep(0.05)
    assert not closed.is_set()
    assert [one.key for one in await kept.live_of(PERSON.key)] == [session.key]
    await kept.end(session.key, "ended by an administrator")
    assert closed.is_set()
