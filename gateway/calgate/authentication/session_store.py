"""The records of sessions in the store: every call that is made on them, by gateways and by commands."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calgate.authentication import unconfirmed
from calgate.authentication.session import Session, hash_id
from calgate.authentication.session_record import from_record, to_record
from calgate.authentication.settings import SessionSection
from calgate.plugin.services import Event, Store
from calgate.plugin.values import as_text, milliseconds

LIBRARY = Path(__file__).with_name("session.lua")
_OUTLIVES = 86_400.0  # seconds that a record outlives its session: it still says whose browser this was
_COOKIES_KEPT = 7 * 86_400.0  # seconds, at least, for which it is known to whom the document server gave a cookie
_SHARED_WITHIN = 30.0  # seconds in which sign-ins that began together can share a new browser id
_LISTED = (
    *("domain", "account", "mechanism", "sid", "person", "name", "address", "browser", "client", "proved"),
    *("created", "idle_until", "expires", "ended"),
)
_READ_AT_ONCE = 500  # sessions in one round trip: about 250 KB
_MOST_OF_A_PERSON = 500


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """A session as administrators see it, and why it has ended ("": it has not)."""

    session: Session
    ended: str


class SessionStore:
    """The records of all sessions. Every method that talks to the store raises Unavailable."""

    def __init__(self, store: Store, section: SessionSection, clock: Callable[[], float]) -> None:
        self._store = store
        self._section = section
        self._clock = clock
        store.library("calgate_session_v1", LIBRARY.read_text())

    def _record(self, key: str) -> str:
        return f"{self._store.prefix}:session:{key}"

    def _index(self, person_key: str) -> str:
        return f"{self._store.prefix}:sessions-of:{person_key}"

    @property
    def _first_idle(self) -> float:
        """Seconds that a session is stored until its cookie comes back once."""
        return min(unconfirmed.LIFE, self._section.idle)

    async def begin(self, session: Session) -> None:
        """Writes a new session."""
        spans = [self._section.lifetime, self._first_idle, unconfirmed.LIFE]
        args: list[str | int | float | bytes] = [milliseconds(span) for span in spans]
        args += [word for pair in to_record(session).items() for word in pair]
        await self._store.call("calgate_session_v1_begin", [self._record(session.key)], args)

    async def read(self, key: str, *, keep: bool) -> tuple[float, Mapping[str, str]]:
        """Returns the store's time in milliseconds and the fields of a record, none if there is no such record.

        `keep` moves the end of the session's idle time.
        """
        idle = milliseconds(self._section.idle) if keep else 0
        reply = await self._store.call("calgate_session_v1_look", [self._record(key)], [idle, milliseconds(_OUTLIVES)])
        record = _text(reply)
        return (float(record[0]), dict(zip(record[1::2], record[2::2], strict=True))) if record else (0.0, {})

    async def enlist(self, session: Session) -> None:
        """Adds a session to the list of its person's sessions."""
        span = milliseconds(self._section.lifetime)
        await self._store.call("calgate_session_v1_enlist", [self._index(session.person_key)], [session.key, span])

    async def finish(self, key: str, reason: str) -> bool:
        """Marks a session as ended; returns False if it had ended before."""
        return bool(
            await self._store.call("calgate_session_v1_finish", [self._record(key)], [reason, milliseconds(_OUTLIVES)])
        )

    async def publish_end(self, key: str, reason: str) -> None:
        """Tells every gateway that a session has ended."""
        await self._store.publish(Event("session-ended", key, reason))

    async def discard(self, key: str) -> None:
        """Removes a session whose cookie has never come back."""
        await self._store.call("calgate_session_v1_discard", [self._record(key)], [milliseconds(self._first_idle)])

    # ------------------------------------------------------------ browsers and cookies

    async def browser(
        self, person_key: str, address: str, presented: str, *, user_agent: str, open_for: float, is_office: bool
    ) -> str:
        """Returns the id of the browser that a person signs in with.

        A browser that restores five tabs signs in five times before it has been given an id; these share one: the
        sign-ins whose connection was open already (for `open_for` seconds) when the id was given out. Office fetches a
        link itself and then opens the browser, which has cookies of its own: it shares the browser's id.
        """
        owner = hash_id(f"{person_key} {address}".encode().decode("latin-1"))
        args: list[str | int | float | bytes] = [
            secrets.token_urlsafe(16),
            presented,
            hash_id(user_agent)[:16],
            milliseconds(open_for),
            int(is_office),
            milliseconds(_SHARED_WITHIN),
            milliseconds(self._section.lifetime),
        ]
        key = f"{self._store.prefix}:browsers-of:{owner}"
        return as_text(await self._store.call("calgate_session_v1_browser", [key], args))

    async def save_cookies(
        self, session: Session, fields: Mapping[str, str], claimed: Sequence[str], given_up: Sequence[str]
    ) -> None:
        """Writes changed cookies to the session's record, and whose they are, at the same time."""
        flat = [word for pair in fields.items() for word in pair]
        saving = [self._store.call("calgate_session_v1_note", [self._record(session.key)], flat)]
        if claimed or given_up:
            args: list[str | int | float | bytes] = [
                milliseconds(2 * _COOKIES_KEPT),
                session.person_key,
                len(given_up),
                *given_up,
                *claimed,
            ]
            saving.append(self._store.call("calgate_session_v1_claim_cookies", [self._cookies_key(0)], args))
        for outcome in await asyncio.gather(*saving, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def foreign_cookies(self, digests: Sequence[str], person_key: str) -> set[str]:
        """Returns the cookies, of these digests, that the document server gave to somebody else."""
        replies = await asyncio.gather(
            *(self._store.execute("HMGET", self._cookies_key(ago), *digests) for ago in (0, 1))
        )
        return {
            digest
            for reply in replies
            for digest, person in zip(digests, reply, strict=True)
            if person is not None and as_text(person) != person_key
        }

    def _cookies_key(self, ago: int) -> str:
        """Returns the key under which this period's, or an earlier period's, cookies and their users are kept."""
        return f"{self._store.prefix}:cookies-set:{int(self._clock() // _COOKIES_KEPT) - ago}"

    # ------------------------------------------------------------ for administrators, and as a session ends

    async def live_of(self, person_key: str) -> list[Session]:
        """Returns the person's live sessions, on all gateways."""
        return [one.session for one in await self.latest_of(person_key) if not one.ended]

    async def latest_of(self, person_key: str) -> list[RecordedSession]:
        """Returns the person's latest sessions, newest first; ended ones too, for as long as a session can last."""
        keys = await self._store.execute("ZREVRANGE", self._index(person_key), 0, _MOST_OF_A_PERSON - 1)
        return await self._listed(_text(keys))

    async def every(self) -> AsyncIterator[Session]:
        """Yields all live sessions. Walks the whole store in steps: for administrators, not for requests."""
        step: list[str] = []
        seen: set[str] = set()
        async for record in self._store.scan(self._record("*")):
            key = record.rpartition(":")[2]
            if key not in seen:
                step.append(key)
                seen.add(key)
            if len(step) >= _READ_AT_ONCE:
                for one in await self._listed(step):
                    if not one.ended:
                        yield one.session
                step.clear()
        for one in await self._listed(step):
            if not one.ended:
                yield one.session

    async def _listed(self, keys: Sequence[str]) -> list[RecordedSession]:
        """Reads sessions in one round trip, without renewing them.

        Omits groups and cookies: a thousand groups would be most of the data.
        """
        replies = await self._store.execute_all([("HMGET", self._record(key), *_LISTED) for key in keys])
        found = []
        for key, values in zip(keys, replies, strict=True):
            fields = {name: as_text(value) for name, value in zip(_LISTED, values, strict=True) if value is not None}
            if "created" in fields:
                found.append(RecordedSession(from_record(key, fields), _ended(fields)))
        return found


def _ended(fields: Mapping[str, str]) -> str:
    """Returns why a session has ended, "" while it is live."""
    if fields.get("ended"):
        return fields["ended"]
    now = time.time() * 1000
    if now >= float(fields.get("expires", 0)):
        return "expired"
    return "" if now < float(fields.get("idle_until", 0)) else "idle"


def _text(values: Sequence[object]) -> list[str]:
    return [as_text(value) for value in values]
