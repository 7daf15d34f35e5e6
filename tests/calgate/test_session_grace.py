"""Signed-in browsers as one process knows them, on a real store that goes away."""

import asyncio
from pathlib import Path

import pytest

from calgate import session as session_module
from calgate.contract import Identity, Person
from calgate.refusal import Unavailable
from calgate.session import COPY_LIFE, Sessions, SessionSection
from calgate.store import StoreSection, open_store
from servers import Server

GRACE = 300.0
PERSON = Person("alice", "CORP", "alice", "Alice", frozenset())
IDENTITY = Identity("CORP", "alice", mechanism="ntlm")


async def test_with_the_store_away_a_copy_serves_for_the_grace_time_and_no_longer(
    server: Server, tmp_path: Path
) -> None:
    now = 1_768_039_200.0
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        sessions = Sessions(store, SessionSection(), GRACE, clock=lambda: now)
        session, cookie = await sessions.begin(IDENTITY, PERSON, "192.0.2.1", is_browser=True, cookies=set())
        assert await sessions.find(cookie) is session
        server.stop()
        now += COPY_LIFE + GRACE - 1
        assert await sessions.find(cookie) is session
        now += 1
        with pytest.raises(Unavailable):
            await sessions.find(cookie)


async def test_a_websocket_does_not_outlive_the_grace_time_without_the_store(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing could close it later: not a sign-out, not an administrator."""
    monkeypatch.setattr(session_module, "_KEEP_EVERY", 0.02)
    now, closed = 1_768_039_200.0, asyncio.Event()
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        sessions = Sessions(store, SessionSection(), GRACE, clock=lambda: now)
        session, cookie = await sessions.begin(IDENTITY, PERSON, "192.0.2.1", is_browser=True, cookies=set())
        await sessions.find(cookie)
        session.open_tunnels.add(lambda code, reason: closed.set())
        server.stop()
        keeping = asyncio.create_task(sessions.keep())
        now += COPY_LIFE + GRACE - 1
        await asyncio.sleep(0.2)
        assert not closed.is_set()
        now += 2
        await asyncio.wait_for(closed.wait(), 10)
        keeping.cancel()


async def test_a_websocket_whose_upgrade_was_the_sign_in_can_be_ended_however_long_it_is_open(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program's: its cookie never comes back."""
    monkeypatch.setattr(session_module, "_KEEP_EVERY", 0.02)
    now, closed = 1_768_039_200.0, asyncio.Event()
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        sessions = Sessions(store, SessionSection(), GRACE, clock=lambda: now)
        session, _ = await sessions.begin(IDENTITY, PERSON, "192.0.2.1", is_browser=False, cookies=set())
        session.open_tunnels.add(lambda code, reason: closed.set())
        keeping = asyncio.create_task(sessions.keep())
        for _ in range(30):
            now += COPY_LIFE
            await asyncio.sleep(0.05)
        assert not closed.is_set()
        assert [one.key for one in await sessions.live_of(PERSON.key)] == [session.key]
        await sessions.end(session.key, "ended by an administrator")
        assert closed.is_set()
        keeping.cancel()
