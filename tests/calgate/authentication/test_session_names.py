"""Names of sessions in a real store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from calgate.authentication import session_names
from calgate.authentication.session_names import SessionNames
from calgate.authentication.sessions import Sessions
from calgate.authentication.settings import SessionSection
from calgate.plugin.identity import Identity, Person
from calgate.store import RedisStore, StoreSection, open_store
from support.redis_servers import Server

ALICE = Person("S-1-5-21-1-2-3-1104", "CORP", "alice", "Alice", frozenset())


@pytest_asyncio.fixture
async def store(server: Server, tmp_path: Path) -> AsyncIterator[RedisStore]:
    """Opens a store."""
    async with open_store(StoreSection(url=server.url), tmp_path) as opened:
        yield opened


async def test_session_is_found_by_its_names_for_as_long_as_it_can_last(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_names, "MOST", 2)
    sessions = Sessions(store, SessionSection(), 0)
    names = SessionNames(store, sessions, 3600)
    identity = Identity("CORP", "alice", "oidc")
    begun = [sessions.new(identity, ALICE, "192.0.2.7", is_browser=True) for _ in range(3)]
    for session, _ in begun:
        await sessions.store(session)
    keys = [session.key for session, _ in begun]
    for key in keys[:2]:
        await names.add("oidc", ["sid 1", "sub a"], key)
    assert await names.sessions("oidc", "sid 1") == keys[:2]
    assert await names.sessions("other", "sid 1") == []
    assert await names.sessions("oidc", "sub b") == []
    stored = [key async for key in store.redis.scan_iter(match=f"{store.prefix}:sessions-named:*")]
    assert len(stored) == 2
    assert 3500 < await store.redis.ttl(stored[0]) <= 3600

    await names.add("oidc", ["sub a"], keys[2])
    assert await names.sessions("oidc", "sub a") == keys[1:]
    assert [await sessions.find(one) is not None for _, one in begun] == [False, True, True], "the oldest has ended"
