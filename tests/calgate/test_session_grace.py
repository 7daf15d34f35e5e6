"""Signed-in browsers as one process knows them, on a real store that goes away."""

from pathlib import Path

import pytest

from calgate.contract import Identity, Person
from calgate.refusal import Unavailable
from calgate.session import COPY_LIFE, Sessions, SessionSection
from calgate.store import StoreSection, open_store
from servers import Server

GRACE = 300.0


async def test_with_the_store_away_a_copy_serves_for_the_grace_time_and_no_longer(
    server: Server, tmp_path: Path
) -> None:
    now = 1_768_039_200.0
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        sessions = Sessions(store, SessionSection(), GRACE, clock=lambda: now)
        person = Person("alice", "CORP", "alice", "Alice", frozenset())
        identity = Identity("CORP", "alice", mechanism="ntlm")
        session, cookie = await sessions.begin(identity, person, "192.0.2.1", is_browser=True, cookies=set())
        assert await sessions.find(cookie) is session
        server.stop()
        now += COPY_LIFE + GRACE - 1
        assert await sessions.find(cookie) is session
        now += 1
        with pytest.raises(Unavailable):
            await sessions.find(cookie)
