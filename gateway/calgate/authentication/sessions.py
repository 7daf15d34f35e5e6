"""Signed-in browsers: an opaque id in a cookie, the session in the store under the id's hash, a short-lived copy here.

The copy carries what the pipeline found, so that a warm request asks nobody. It is good for a few seconds, and kept
good in the background while it is used; what must be heard at once (sign-out, an administrator's word) comes as news.
"""

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from calgate.authentication import unconfirmed
from calgate.authentication.settings import SessionSection
from calgate.authentication.unconfirmed import UnconfirmedSessions
from calgate.http.cookies import UpstreamCookie
from calgate.plugin.access import Grant
from calgate.plugin.errors import Unavailable
from calgate.plugin.identity import Identity, Person
from calgate.plugin.licensing import Lease
from calgate.plugin.services import Event, Store
from calgate.plugin.values import as_text, milliseconds

logger = logging.getLogger(__name__)

LIBRARY = Path(__file__).with_name("session.lua")
COPY_LIFE = 15.0  # seconds a copy is believed: what a lost message can cost
_KEEP_EVERY = 5.0  # seconds between rounds that keep the copies in use
_OUTLIVES = 86_400.0  # seconds that a record still tells whose the browser was
_LATE_POST = 300.0  # seconds after its end in which a session still serves a POST: nobody's long form is lost


@dataclass(slots=True, eq=False)
class Session:
    """This process's copy of a session. The first fields are the session; the others are what was found for it."""

    key: str  # SHA-256 of the id, in hexadecimal
    identity: Identity
    person_key: str
    name: str
    address: str  # of the client, when the session began: what makes a client machine
    is_browser: bool
    created: float
    ended: str = ""
    lapsed: bool = False  # over, but so recently that it serves a POST
    returned: bool = True  # its cookie came back at least once
    cookies: set[UpstreamCookie] = field(default_factory=set)  # the document server's
    unsaved_cookies: set[UpstreamCookie] = field(default_factory=set)  # those of them that the store does not know yet
    person: Person | None = None
    person_at: float = 0.0
    believed_until: float = 0.0
    used_at: float = 0.0
    grants: dict[tuple[int, str, str, str], Grant] = field(default_factory=dict)  # by route, path, document, address
    grants_rules: object = None  # the rules that gave them; others give others
    leases: dict[tuple[str, str], Lease] = field(default_factory=dict)
    sign_on_headers: dict[int, bytes] = field(
        default_factory=dict
    )  # sign-on headers as sent, by route, where they stay the same
    open_tunnels: set[Callable[[int, str], None]] = field(default_factory=set)
    open_polls: set[Callable[[], None]] = field(default_factory=set)  # requests that wait for something to happen

    @property
    def websockets(self) -> int:
        """How many WebSockets are open."""
        return len(self.open_tunnels)

    def forget_findings(self) -> None:
        """What was found must be found again."""
        self.grants.clear()
        self.leases.clear()
        self.sign_on_headers.clear()
        self.person_at = 0.0

    def close_tunnels(self, code: int, reason: str) -> None:
        """Closes the session's WebSockets (RFC 6455, 7.4)."""
        for close in list(self.open_tunnels):
            close(code, reason)

    def end_polls(self) -> None:
        """Lets the session's long polls wait no longer."""
        for end in list(self.open_polls):
            end()


@lru_cache(4096)
def hash_id(session_id: str) -> str:
    """What the store knows a session by."""
    return hashlib.sha256(session_id.encode("latin-1")).hexdigest()


class Sessions:
    """Every signed-in browser that this process knows of; the store is the truth."""

    def __init__(
        self, store: Store, section: SessionSection, grace: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._section = section
        self._grace = grace
        self._clock = clock
        self._known: dict[str, Session] = {}
        self._unreturned = UnconfirmedSessions(clock)
        store.library("calgate_session_v1", LIBRARY.read_text())
        store.listen(self._on_event)

    def _place(self, key: str) -> str:
        return f"{self._store.prefix}:session:{key}"

    @property
    def _first_idle(self) -> float:
        """Seconds that a session is stored until its cookie comes back once."""
        return min(unconfirmed.LIFE, self._section.idle)

    def _index(self, person_key: str) -> str:
        return f"{self._store.prefix}:sessions-of:{person_key}"

    # ------------------------------------------------------------ the request's path

    async def find(self, session_id: str) -> Session | None:
        """The session of a cookie: live, or lapsed within the last five minutes; None where there is none.

        No round trip while the copy is believed; with the store away, the copy serves on for the grace time.
        """
        if not session_id:
            return None
        key = hash_id(session_id)
        now = self._clock()
        copy = self._known.get(key)
        if copy is not None and now < copy.believed_until and copy.returned:
            copy.used_at = now
            return copy
        try:
            session = await self._look(key)
        except Unavailable:
            if copy is not None and now < copy.believed_until + self._grace:
                return copy
            raise
        if session is None or session.ended:
            return None
        if not session.returned:
            await self._note_return(session)
        session.used_at = now
        return session

    async def _note_return(self, session: Session) -> None:
        session.returned = True
        self._unreturned.remove((session.person_key, session.address), session.key)
        await self._enlist(session)

    async def owner(self, session_id: str) -> Session | None:
        """Whose browser this was: the session of a cookie even after its end, as long as its record is kept."""
        return await self._look(hash_id(session_id)) if session_id else None

    async def begin(
        self, identity: Identity, person: Person, address: str, *, is_browser: bool, cookies: set[UpstreamCookie]
    ) -> tuple[Session, str]:
        """A new session under a new id (always: an id known before sign-in could be somebody else's plant)."""
        session_id = secrets.token_urlsafe(32)
        key = hash_id(session_id)
        now = self._clock()
        session = Session(
            key, identity, person.key, person.name, address, is_browser, now, cookies=set(cookies), person=person
        )
        session.returned = False
        session.person_at = session.used_at = now
        session.believed_until = now + COPY_LIFE
        spans = [self._section.lifetime, self._first_idle, unconfirmed.LIFE]
        args: list[str | int | float | bytes] = [milliseconds(span) for span in spans]
        args += [word for pair in _to_record(session).items() for word in pair]
        await self._store.call("calgate_session_v1_begin", [self._place(key)], args)
        self._known[key] = session
        surplus = self._unreturned.add((person.key, address), key)
        if surplus is not None:
            self._known.pop(surplus, None)
        return session, session_id

    async def _look(self, key: str, *, keep: bool = True) -> Session | None:
        idle = milliseconds(self._section.idle) if keep else 0
        answer = await self._store.call("calgate_session_v1_look", [self._place(key)], [idle, milliseconds(_OUTLIVES)])
        record = _text(answer)
        if not record:
            self._drop(key, "expired")
            return None
        now_ms = float(record[0])
        found = dict(zip(record[1::2], record[2::2], strict=True))
        over = min(float(found["idle_until"]), float(found["expires"]))
        ended = found.get("ended", "") or ("expired" if now_ms >= over + milliseconds(_LATE_POST) else "")
        lapsed = not ended and now_ms >= over
        if ended or lapsed:
            self._drop(key, ended or "expired")  # what the copy let in is over; a late POST has one of its own
        session = self._known.get(key) or _from_record(key, found)
        session.ended, session.lapsed = ended, lapsed
        session.cookies |= {UpstreamCookie.from_text(name[2:]) for name in found if name.startswith("c:")}
        if not (ended or lapsed):
            session.believed_until = self._clock() + COPY_LIFE
            if key not in self._known:
                self._known[key] = session
                await self._enlist(session)
        return session

    async def _enlist(self, session: Session) -> None:
        span = milliseconds(self._section.lifetime)
        await self._store.call("calgate_session_v1_enlist", [self._index(session.person_key)], [session.key, span])

    async def note_cookie(self, session: Session, cookie: UpstreamCookie) -> None:
        """The document server set a cookie: it is this session's, and goes with it.

        With the store away this worker alone knows it, until the session is looked at again: an answer that is there
        already is not lost for it.
        """
        session.cookies.add(cookie)
        session.unsaved_cookies.add(cookie)
        with suppress(Unavailable):
            await self._note_cookies(session)

    async def _note_cookies(self, session: Session) -> None:
        noting = list(session.unsaved_cookies)
        fields = [word for cookie in noting for word in (f"c:{cookie.to_text()}", "1")]
        await self._store.call("calgate_session_v1_note", [self._place(session.key)], fields)
        session.unsaved_cookies.difference_update(noting)

    # ------------------------------------------------------------ the end

    async def end(self, key: str, reason: str) -> bool:
        """Ends a session on every gateway at once; False if it had ended before."""
        ended = await self._store.call(
            "calgate_session_v1_finish", [self._place(key)], [reason, milliseconds(_OUTLIVES)]
        )
        self._drop(key, reason)
        await self._store.publish(Event("session-ended", key, reason))
        return bool(ended)

    async def live_of(self, person_key: str) -> list[Session]:
        """The person's sessions that live, on all gateways."""
        keys = _text(await self._store.execute("ZRANGE", self._index(person_key), 0, -1))
        sessions = [await self._peek(key) for key in keys]
        return [session for session in sessions if session is not None]

    async def _peek(self, key: str) -> Session | None:
        """As stored, without keeping it alive."""
        record = await self._store.execute("HGETALL", self._place(key))
        found = {as_text(name): as_text(value) for name, value in record.items()}
        over = min(float(found.get("idle_until", 0)), float(found.get("expires", 0))) / 1000
        return _from_record(key, found) if found and not found.get("ended") and time.time() < over else None

    async def every(self) -> list[Session]:
        """All sessions that live. Walks the whole store in steps: for administrators, not for requests."""
        places = self._store.redis.scan_iter(match=self._place("*"), count=500)
        found = [await self._peek(as_text(place).rpartition(":")[2]) async for place in places]
        return [session for session in found if session is not None]

    def _drop(self, key: str, reason: str) -> None:
        session = self._known.pop(key, None)
        if session is not None:
            session.ended = session.ended or reason
            session.believed_until = 0.0
            session.close_tunnels(1008, "the session has ended")
            session.end_polls()

    def _on_event(self, event: Event) -> None:
        if event.topic == "session-ended":
            self._drop(event.subject, event.reason)
        elif event.topic == "store-back":  # messages may have been missed
            now = self._clock()
            for session in self._known.values():
                session.believed_until = min(session.believed_until, now)  # the grace time still counts from here

    def known(self) -> Sequence[Session]:
        """This process's copies."""
        return list(self._known.values())

    def of_person(self, person_key: str) -> Sequence[Session]:
        """This process's copies for one person."""
        return [session for session in self._known.values() if session.person_key == person_key]

    # ------------------------------------------------------------ in the background

    async def keep(self) -> None:
        """Keeps the copies in use, and lets go of the others; runs until cancelled."""
        last = self._clock()
        while True:
            await asyncio.sleep(_KEEP_EVERY)
            now = self._clock()
            used = [
                s for s in self._known.values() if s.open_tunnels or s.open_polls or (s.returned and s.used_at >= last)
            ]
            last = now
            with suppress(Unavailable):  # said once by the store; the copies live on for the grace time
                for session in used:
                    if not session.returned:  # what is open needs no cookie to be in use
                        await self._note_return(session)
                    await self._look(session.key, keep=session.used_at >= last - _KEEP_EVERY)
                    if session.unsaved_cookies:
                        await self._note_cookies(session)
            for key, session in list(self._known.items()):
                if now > session.believed_until + self._grace:
                    self._drop(key, "not known any more")  # with what is open: nobody could close it later
            with suppress(Unavailable):
                for key in self._unreturned.take_surplus():
                    await self._store.call(
                        "calgate_session_v1_discard", [self._place(key)], [milliseconds(self._first_idle)]
                    )


def _to_record(session: Session) -> Mapping[str, str]:
    """The fields that a session is stored as, beside its times."""
    identity = session.identity
    return {
        "domain": identity.domain,
        "account": identity.account,
        "mechanism": identity.mechanism,
        "sid": identity.sid or "",
        "groups": _pack(identity.groups),
        "person": session.person_key,
        "name": session.name,
        "address": session.address,
        "browser": "1" if session.is_browser else "",
    } | {f"c:{cookie.to_text()}": "1" for cookie in session.cookies}


def _from_record(key: str, found: Mapping[str, str]) -> Session:
    groups = _unpack(found.get("groups", ""))  # records of an older gateway have none
    identity = Identity(found["domain"], found["account"], found["mechanism"], found["sid"] or None, groups)
    return Session(
        key,
        identity,
        found["person"],
        found["name"],
        found["address"],
        bool(found["browser"]),
        float(found["created"]) / 1000,
    )


def _pack(groups: Iterable[str]) -> str:
    """SIDs by their domain, whose own is said once: a thousand take 8 KB in place of 46."""
    by_domain: dict[str, list[str]] = {}
    for group in sorted(groups):
        domain, dash, relative = group.rpartition("-")
        by_domain.setdefault(domain + dash, []).append(relative)
    return json.dumps(by_domain, separators=(",", ":")) if by_domain else ""


def _unpack(packed: str) -> frozenset[str]:
    by_domain: dict[str, list[str]] = json.loads(packed) if packed else {}
    return frozenset(domain + relative for domain, relatives in by_domain.items() for relative in relatives)


def _text(values: Sequence[object]) -> list[str]:
    return [as_text(value) for value in values]
