"""Sessions in a real store: how long they live, and under which id. The store's clock decides, so these tests wait."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from calgate.authentication import session_store
from calgate.authentication import sessions as session_module
from calgate.authentication.anonymous import anonymous_session
from calgate.authentication.session import Session
from calgate.authentication.sessions import COPY_LIFE, Sessions
from calgate.authentication.settings import SessionSection
from calgate.authentication.unconfirmed import MOST
from calgate.http.cookies import SetCookie
from calgate.http.headers import Cookies
from calgate.plugin.identity import Identity, Person
from calgate.plugin.services import Store
from calgate.store import StoreSection, open_store
from support.redis_servers import Server
from support.sessions import begin_session
from support.waiting import until

SID = "S-1-5-21-1-2-3-1105"
ALICE = Person(SID, "CORP", "alice", "Alice", frozenset())


@pytest_asyncio.fixture
async def store(server: Server, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(StoreSection(url=server.url), tmp_path) as opened:
        yield opened


async def begin(store: Store, section: SessionSection) -> tuple[Session, str]:
    """Signs alice in at one gateway."""
    identity = Identity("CORP", "alice", "kerberos", sid=SID)
    return await begin_session(Sessions(store, section, 0), identity, ALICE, "192.0.2.7", is_browser=True)


async def lives(store: Store, section: SessionSection, session_id: str) -> bool:
    """Whether a gateway without a copy finds the session alive."""
    session = await Sessions(store, section, 0).find(session_id)
    return session is not None and not session.lapsed


async def test_session_ends_when_idle_and_lives_on_while_it_is_used(store: Store) -> None:
    section = SessionSection(idle=1.2, lifetime=60.0)
    (_, used), (_, unused) = await begin(store, section), await begin(store, section)
    for _ in range(14):
        await asyncio.sleep(0.1)
        assert await lives(store, section, used)
    assert not await lives(store, section, unused)


async def test_session_ends_at_its_lifetime_though_it_is_in_use(store: Store) -> None:
    section = SessionSection(idle=60.0, lifetime=0.5)
    began = time.monotonic()
    _, session_id = await begin(store, section)
    while await lives(store, section, session_id):
        assert time.monotonic() < began + 5, "it never ends"
        await asyncio.sleep(0.05)
    assert time.monotonic() - began >= 0.5


async def test_session_belongs_to_a_sid_and_each_has_an_id_of_its_own(store: Store) -> None:
    section = SessionSection()
    (first, one), (second, other) = await begin(store, section), await begin(store, section)
    assert one != other
    assert first.person_key == second.person_key == SID
    found = await Sessions(store, section, 0).find(one)
    assert found is not None
    assert (found.person_key, found.identity.sid) == (SID, SID)


async def test_late_post_is_served_by_the_gateway_that_had_the_session_as_by_any_other(
    store: Store,
) -> None:
    """A user reads for a while, the session ends, and then the form is sent."""
    now = time.time()
    sessions = Sessions(store, SessionSection(idle=0.3), 300.0, clock=lambda: now)
    identity = Identity("CORP", "alice", "kerberos", sid=SID)
    _, session_id = await begin_session(sessions, identity, ALICE, "192.0.2.7", is_browser=True)
    await sessions.find(session_id)
    await asyncio.sleep(0.4)
    now += COPY_LIFE + 1
    for _ in range(2):
        late = await sessions.find(session_id)
        assert late is not None
        assert late.lapsed


async def test_session_is_listed_though_the_client_disconnects_as_its_cookie_comes_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sign-out of the same user on the same client would take the CAL of a session that is not in the list."""
    sessions = Sessions(store, SessionSection(), 0)
    identity = Identity("CORP", "alice", "kerberos", sid=SID)
    session, session_id = sessions.new(identity, ALICE, "192.0.2.7", is_browser=True)
    await sessions.store(session)
    enlist, is_listing, may_list = session_store.SessionStore.enlist, asyncio.Event(), asyncio.Event()

    async def enlist_late(records: session_store.SessionStore, session: Session) -> None:
        is_listing.set()
        await may_list.wait()
        await enlist(records, session)

    monkeypatch.setattr(session_store.SessionStore, "enlist", enlist_late)
    finding = asyncio.create_task(sessions.find(session_id))
    await is_listing.wait()
    finding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finding
    may_list.set()
    await until(lambda: sessions.live_of(SID))


async def test_groups_of_the_sign_in_are_known_to_every_gateway(store: Store) -> None:
    """Groups of other domains are in the ticket alone: a deny rule that names one must hold at the next worker too."""
    groups = frozenset({"S-1-5-21-11-21-31-1104", "S-1-5-21-11-21-31-513", "S-1-5-21-9-9-9-1", "S-1-18-1"})
    identity = Identity("CORP", "alice", "kerberos", sid=SID, groups=groups)
    section = SessionSection()
    _, session_id = await begin_session(Sessions(store, section, 0), identity, ALICE, "192.0.2.7", is_browser=True)
    found = await Sessions(store, section, 0).find(session_id)
    assert found is not None
    assert found.identity == identity


async def test_sign_ins_without_cookies_end_no_session_that_another_worker_serves(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser signed in here and came back at the other worker; a script of the same user runs at the same time."""
    monkeypatch.setattr(session_module, "_KEEP_EVERY", 0.02)
    section = SessionSection()
    here, there = Sessions(store, section, 0), Sessions(store, section, 0)
    identity = Identity("CORP", "alice", "kerberos", sid=SID)
    _, browsers = await begin_session(here, identity, ALICE, "192.0.2.7", is_browser=True)
    assert await there.find(browsers) is not None
    scripts = [(await begin_session(here, identity, ALICE, "192.0.2.7", is_browser=False))[1] for _ in range(MOST + 1)]
    keeping = asyncio.create_task(here.keep())
    await asyncio.sleep(0.3)
    keeping.cancel()
    assert await lives(store, section, browsers)
    assert not await lives(store, section, scripts[0])
    assert await lives(store, section, scripts[-1])


async def test_requests_with_the_same_cookies_ask_once_whose_they_are(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = await begin(store, SessionSection())
    sessions = Sessions(store, SessionSection(), 0)
    commands: list[object] = []
    execute = store.execute

    async def noted(*command: str | int | float | bytes) -> object:
        commands.append(command[0])
        return await execute(*command)

    monkeypatch.setattr(store, "execute", noted)
    cookies = Cookies({}, (b"a", b"b"), b"a=1; b=2")
    lines = await asyncio.gather(*(sessions.cookies_up(session, cookies) for _ in range(20)))
    assert lines == [b"a=1; b=2"] * 20
    assert commands == ["HMGET"] * 2
    strangers = [anonymous_session("192.0.2.7") for _ in range(3)]
    assert await asyncio.gather(*(sessions.cookies_up(one, cookies) for one in strangers)) == [b"a=1; b=2"] * 3


async def test_cookies_of_a_response_are_saved_together_and_known_ones_keep_no_response_waiting(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = await begin(store, SessionSection())
    sessions = Sessions(store, SessionSection(), 0)
    functions: list[str] = []
    call = store.call

    async def noted(function: str, *args: Any, **options: Any) -> Any:
        functions.append(function.rpartition("_v1_")[2])
        return await call(function, *args, **options)

    monkeypatch.setattr(store, "call", noted)
    cookies = [SetCookie.parse(b"c%d=1" % number, "/portal") for number in range(50)]
    await sessions.note_cookies(session, cookies)
    assert sorted(functions) == ["claim_cookies", "note"]
    await sessions.note_cookies(session, cookies)
    await sessions.note_cookies(session, [SetCookie.parse(b"c1=2", "/portal")])
    assert len(functions) == 2


async def test_copies_in_use_are_renewed_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, two hundred would take longer under load than a copy is believed."""
    monkeypatch.setattr(session_module, "_KEEP_EVERY", 0.02)
    sessions = Sessions(store, SessionSection(), 0)
    identity = Identity("CORP", "alice", "kerberos", sid=SID)
    ids = [(await begin_session(sessions, identity, ALICE, "192.0.2.7", is_browser=True))[1] for _ in range(5)]
    for one in ids:
        assert await sessions.find(one) is not None
    under_way = most = 0
    call = store.call

    async def noted(function: str, *args: Any, **options: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await call(function, *args, **options)
        finally:
            under_way -= 1

    monkeypatch.setattr(store, "call", noted)
    keeping = asyncio.create_task(sessions.keep())
    async with asyncio.timeout(5):
        while most < 5:
            for session in sessions.known():
                session.note_use(time.time())
            await asyncio.sleep(0.005)
    keeping.cancel()


async def test_all_sessions_are_listed_a_step_at_a_time_without_their_groups(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_store, "_READ_AT_ONCE", 3)
    section = SessionSection()
    identity = Identity("CORP", "alice", "kerberos", sid=SID, groups=frozenset({"S-1-5-21-1-2-3-513"}))
    sessions = Sessions(store, section, 0)
    begun = [(await begin_session(sessions, identity, ALICE, "192.0.2.7", is_browser=True))[0] for _ in range(7)]
    await sessions.end(begun[0].key, "signed out")
    listed = await sessions.every()
    assert {session.key for session in listed} == {session.key for session in begun[1:]}
    assert len(listed) == 6
    assert (listed[0].name, listed[0].address, listed[0].identity.groups) == ("CORP\\alice", "192.0.2.7", frozenset())


async def test_latest_sessions_of_a_person_say_how_the_ended_ones_ended(store: Store) -> None:
    sessions = Sessions(store, SessionSection(idle=0.2), 0)
    identity = Identity("CORP", "alice", "kerberos", sid=SID)
    begun = [(await begin_session(sessions, identity, ALICE, "192.0.2.7", is_browser=True))[0] for _ in range(2)]
    for session in begun:
        await session_store.SessionStore(store, SessionSection(), time.time).enlist(session)  # their cookies came back
    await sessions.end(begun[0].key, "signed out")
    while await sessions.live_of(SID):
        await asyncio.sleep(0.02)
    latest = await sessions.latest_of(SID)
    assert [(one.session.key, one.ended) for one in latest] == [(begun[1].key, "idle"), (begun[0].key, "signed out")]
