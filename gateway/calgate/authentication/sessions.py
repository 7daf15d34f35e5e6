"""Sessions: an opaque id in a cookie, the session in the store under the id's hash, a short-lived copy in this process.

The copy carries what the pipeline found, so that a warm request needs no round trip. It is valid for some seconds and
is renewed in the background while it is used. A sign-out and an administrator's command reach every copy as an event.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from calgate.authentication.completion import complete, start
from calgate.authentication.document_cookies import DocumentCookies
from calgate.authentication.session import EXPIRED, Session, hash_id
from calgate.authentication.session_record import from_record
from calgate.authentication.session_store import RecordedSession, SessionStore
from calgate.authentication.settings import SessionSection
from calgate.authentication.shared_calls import SharedCalls
from calgate.authentication.unconfirmed import UnconfirmedSessions
from calgate.http.cookies import SetCookie, UpstreamCookie
from calgate.http.headers import Cookies
from calgate.plugin.errors import SignInNeeded, Unavailable
from calgate.plugin.identity import Identity, Person
from calgate.plugin.services import Event, Store
from calgate.plugin.values import milliseconds

COPY_LIFE = 15.0  # seconds a copy is believed: what a lost message can cost
_KEEP_EVERY = 5.0  # seconds between rounds that renew the copies in use
_RENEWED_AT_ONCE = 50  # one after the other would take a turn of the loop each: half a second under heavy load
_LATE_POST = 300.0  # seconds after its end in which a session still serves a POST, so that a long form is not lost


class Sessions:
    """Every session that this process knows of; the store holds the truth."""

    def __init__(
        self, store: Store, section: SessionSection, grace: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = SessionStore(store, section, clock)
        self._grace = grace
        self._clock = clock
        self._known: dict[str, Session] = {}
        self._reading: SharedCalls[Session | None] = SharedCalls()
        self._judging: SharedCalls[None] = SharedCalls()
        self._unconfirmed = UnconfirmedSessions(clock)
        self.further: Callable[[], Sequence[Session]] = tuple  # returns those that no cookie leads to: API tokens
        self.on_drop: Callable[[str], None] = lambda _: None  # called with the key of a session that is forgotten
        store.listen(self._on_event)

    # ------------------------------------------------------------ on the request path

    async def find(self, session_id: str) -> Session | None:
        """Returns the session of a cookie: live, or lapsed within the last five minutes; None if there is none.

        Makes no round trip while the copy is believed. While the store is away, the copy serves for the grace time.
        """
        if not session_id:
            return None
        key = hash_id(session_id)
        session = self.remembered(key)
        if session is not None:
            return session
        now = self._clock()
        copy = self._known.get(key)
        try:
            session = await self._read_once(key)
        except Unavailable:
            if copy is not None and now < copy.believed_until + self._grace:
                return copy
            raise
        if session is None or session.ended:
            return None
        if not session.confirmed:
            await self._confirm(session)
        session.note_use(now)
        return session

    def remembered(self, key: str) -> Session | None:
        """Returns the session of a key, if this process has a copy of it that is still believed."""
        copy = self._known.get(key)
        now = self._clock()
        if copy is None or now >= copy.believed_until or not copy.confirmed:
            return None
        copy.note_use(now)
        return copy

    async def demand_live(self, session: Session) -> Session:
        """Returns the session as it is now, for a request whose body took its time. Raises SignInNeeded if it ended."""
        is_believed = self._clock() < session.believed_until or not session.confirmed
        if is_believed and not (session.ended or session.lapsed):
            return session
        try:
            now = await self._read_once(session.key)
        except Unavailable:
            if not session.ended and self._clock() < session.believed_until + self._grace:
                return session
            raise
        if now is None or now.ended:
            raise SignInNeeded("the session ended before the request's body had come")
        return now

    async def _confirm(self, session: Session) -> None:
        session.confirm()
        self._unconfirmed.remove((session.person_key, session.address), session.key)
        await complete(self._store.enlist(session))

    async def owner(self, session_id: str) -> Session | None:
        """Returns the session a cookie belonged to, even if it has ended, as long as the store keeps its record."""
        return await self._read_once(hash_id(session_id)) if session_id else None

    async def of_key(self, key: str) -> Session | None:
        """Returns the session of a key, even if it has ended, as long as the store keeps its record."""
        return await self._read(key, keep=False)

    def new(
        self,
        identity: Identity,
        person: Person,
        address: str,
        *,
        is_browser: bool,
        cookies: Mapping[UpstreamCookie, str] | None = None,
        browser: str = "",
        is_fresh: bool = False,
    ) -> tuple[Session, str]:
        """Makes a session, which is valid once `store` has written it, and its id.

        The id is always a new one: somebody else may have planted an id known before sign-in.
        """
        session_id = secrets.token_urlsafe(32)
        key = hash_id(session_id)
        now = self._clock()
        session = Session(
            key,
            identity,
            person.key,
            person.name,
            address,
            is_browser,
            now,
            person,
            person_at=now,
            confirmed=False,
            believed_until=now + COPY_LIFE,
            used_at=now,
            cookies=DocumentCookies(cookies),
            browser=browser,
            proved_at=now if is_fresh else 0.0,
        )
        return session, session_id

    async def store(self, session: Session) -> None:
        """Writes a new session to the store. Raises Unavailable."""
        key = session.key
        await self._store.begin(session)
        self._known[key] = session
        excess = self._unconfirmed.add((session.person_key, session.address), key)
        if excess is not None:
            self._known.pop(excess, None)

    async def browser(
        self, person_key: str, address: str, presented: str, *, user_agent: str, open_for: float, is_office: bool
    ) -> str:
        """Returns the id of the browser that a person signs in with, see `SessionStore`."""
        return await self._store.browser(
            person_key, address, presented, user_agent=user_agent, open_for=open_for, is_office=is_office
        )

    async def _read_once(self, key: str) -> Session | None:
        """Reads a session, with one round trip for all requests that wait for the same one."""
        return await self._reading.result(key, partial(self._read, key))

    async def _read(self, key: str, *, keep: bool = True) -> Session | None:
        """Reads a session from the store; `keep` moves the end of its idle time."""
        now_ms, found = await self._store.read(key, keep=keep)
        if not found:
            self._drop(key, EXPIRED)
            return None
        over = min(float(found["idle_until"]), float(found["expires"]))
        ended = found.get("ended", "") or (EXPIRED if now_ms >= over + milliseconds(_LATE_POST) else "")
        lapsed = not ended and now_ms >= over
        if ended or lapsed:
            self._drop(key, ended or EXPIRED)  # closes what is open; a late POST gets a fresh Session object
        session = self._known.get(key) or from_record(key, found)
        session.set_state(ended=ended, lapsed=lapsed)
        session.cookies.merge(found)
        if not (ended or lapsed):
            session.believe(self._clock() + COPY_LIFE)
            if key not in self._known:
                self._known[key] = session
                await self._store.enlist(session)
        return session

    # ------------------------------------------------------------ the document server's cookies

    async def note_cookies(self, session: Session, headers: Sequence[SetCookie]) -> None:
        """Notes cookies that the document server set: they belong to this session and end with it.

        The response waits only where a cookie is new, for all of its cookies together; a value that changes is saved in
        the background. While the store is away, only this worker knows the cookies until it is back: a response that
        has arrived is not lost because of that.
        """
        if session.cookies.note(headers):
            with suppress(Unavailable):
                await complete(self._save_cookies(session))

    async def _save_cookies(self, session: Session) -> None:
        fields, claimed, given_up = session.cookies.take_unsaved()
        try:
            await self._store.save_cookies(session, fields, claimed, given_up)
        except BaseException:
            session.cookies.put_back(fields)
            raise

    async def cookies_up(self, session: Session, cookies: Cookies, *, unjudged: bool = True) -> bytes:
        """Returns the Cookie header to forward: without those that the document server gave to another user.

        A cookie that it never set (a script's, a parent domain's) is forwarded. `unjudged`: whether cookies are
        forwarded while the store cannot say whose they are.
        """
        if not cookies.line:
            return b""
        while (line := session.cookies.forwarded(cookies)) is None:
            digests = session.cookies.unjudged(cookies)
            try:
                # by the object, not by its key: each request on a public route has a session of its own
                await self._judging.result((session, *digests), partial(self._judge, session, digests))
            except Unavailable:
                return cookies.line if unjudged else b""
        return line

    async def _judge(self, session: Session, digests: Sequence[str]) -> None:
        """Notes which of these cookies the document server gave to another user."""
        session.cookies.judge(digests, await self._store.foreign_cookies(digests, session.person_key))

    # ------------------------------------------------------------ the end

    async def end(self, key: str, reason: str) -> bool:
        """Ends a session on every gateway at once; returns False if it had ended before."""
        ended = await self._store.finish(key, reason)
        self._drop(key, reason)
        await self._store.publish_end(key, reason)
        return ended

    async def live_of(self, person_key: str) -> list[Session]:
        """Returns the person's live sessions, on all gateways."""
        return await self._store.live_of(person_key)

    async def latest_of(self, person_key: str) -> list[RecordedSession]:
        """Returns the person's sessions on all gateways, newest first; also ended ones, as long as one can last."""
        return await self._store.latest_of(person_key)

    async def every(self) -> list[Session]:
        """Returns all live sessions. Walks the whole store in steps: for administrators, not for requests."""
        return [session async for session in self._store.every()]

    def _drop(self, key: str, reason: str) -> None:
        session = self._known.pop(key, None)
        self.on_drop(key)
        if session is not None:
            if session.cookies.has_unsaved:
                start(self._save_last_cookies(session))
            session.end(reason, SignInNeeded("the session ended while the request was open"))

    async def _save_last_cookies(self, session: Session) -> None:
        with suppress(Unavailable):
            await self._save_cookies(session)

    def _on_event(self, event: Event) -> None:
        if event.topic == "session-ended":
            self._drop(event.subject, event.reason)
        elif event.topic == "store-back":  # events may have been missed
            now = self._clock()
            for session in self._known.values():
                session.doubt(now)

    def known(self) -> Sequence[Session]:
        """Returns this process's copies."""
        return [*self._known.values(), *self.further()]

    def of_person(self, person_key: str) -> Sequence[Session]:
        """Returns this process's copies for one person."""
        return [session for session in self.known() if session.person_key == person_key]

    # ------------------------------------------------------------ in the background

    async def keep(self) -> None:
        """Renews the copies in use and drops the others; runs until cancelled."""
        last = self._clock()
        while True:
            await asyncio.sleep(_KEEP_EVERY)
            now = self._clock()
            used = [s for s in self._known.values() if self._is_in_use(s, last)]
            last = now
            with suppress(Unavailable):  # the store itself logs it once; the copies live on for the grace time
                for at in range(0, len(used), _RENEWED_AT_ONCE):
                    some = used[at : at + _RENEWED_AT_ONCE]
                    await asyncio.gather(*(self._renew(s, was_used=s.used_at >= last - _KEEP_EVERY) for s in some))
            for key, session in list(self._known.items()):
                if now > session.believed_until + self._grace:
                    self._drop(key, "not known any more")  # with its open exchanges: nothing could close them later
            with suppress(Unavailable):
                for key in self._unconfirmed.take_excess():
                    await self._store.discard(key)

    def _is_in_use(self, session: Session, last: float) -> bool:
        """Whether a copy is renewed. A single request of a client without cookies is not reason enough."""
        if session.confirmed:
            return session.is_open or session.used_at >= last
        return session.is_open and self._clock() >= session.used_at + _KEEP_EVERY

    async def _renew(self, session: Session, *, was_used: bool) -> None:
        if not session.confirmed:  # an open exchange shows that the session is in use, even without a cookie
            await self._confirm(session)
        await self._read(session.key, keep=was_used)
        if session.cookies.has_unsaved:
            await self._save_cookies(session)
