"""Requests on routes without sign-in: they have no user. A cookie identifies a browser, for its CAL alone.

The cookie is sealed, so that no client can make one, and names the address that it was given to. Nothing is stored
for it: a browser exists here from the first request that brings the cookie back until its lifetime is over.
"""

import secrets
import time
from collections.abc import Callable, Sequence

from calgate.authentication.notes import Notes
from calgate.authentication.session import Session
from calgate.authentication.settings import SessionSection
from calgate.http.cookies import anonymous_cookie, anonymous_of
from calgate.http.headers import Header
from calgate.http.request import Request
from calgate.plugin.identity import Identity, Person
from calgate.plugin.licensing import ANONYMOUS_KEYS, NoCal

ANONYMOUS = Person("anonymous", "", "anonymous", "", frozenset())
"""Stands for the user if there is none: no directory has such a key, and no rule matches it."""

_IDENTITY = Identity("", "anonymous", "none")
_OWNER = "anonymous browser"  # of the sealed notes; the name of a sign-in method has no blank
_MOST_KNOWN = 4096  # browsers; one that is forgotten claims its CAL again, which changes nothing


def cookie_needed(license: str = "", document: str = "") -> NoCal:
    """Makes the refusal for a browser that has not sent its cookie back."""
    return NoCal(
        "the browser has not sent the cookie back that its CAL is tied to",
        license=license,
        document=document.rpartition("|")[2],
        pools=(),
        code="cookie-needed",
    )


def anonymous_session(address: str) -> Session:
    """Makes a session for one request. It is in no store, and no cookie leads to it.

    Its key keeps an address with one document server, and its user is the address: no client can have more connections
    to a document server than `connections_per_user`.
    """
    return _session(address, "anonymous", f"anonymous {address}", ANONYMOUS, time.time())


class AnonymousBrowsers:
    """The browsers on public routes whose cookie came back to this process."""

    def __init__(self, notes: Notes, section: SessionSection, clock: Callable[[], float] = time.time) -> None:
        self._notes = notes
        self._lifetime = section.lifetime
        # a strict cookie would not come with a link from another site, which is how visitors arrive
        self._same_site = "None" if section.same_site == "None" else "Lax"
        self._clock = clock
        self._known: dict[bytes, Session] = {}  # by the sealed cookie, the least recently used first

    @property
    def sessions(self) -> Sequence[Session]:
        return list(self._known.values())

    async def find(self, request: Request) -> Session | None:
        """Returns the session of the browser whose cookie came back; None without one, or with one that is not ours.

        Raises Unavailable.
        """
        sealed = anonymous_of(request)
        session = self._known.pop(sealed, None) if sealed else None
        if session is None and sealed:
            note = await self._notes.open(_OWNER, sealed, self._lifetime)
            session = self._known.pop(sealed, None) or self._read(note)  # another request may have been first
        if session is None or self._clock() >= session.created + self._lifetime:
            return None
        if len(self._known) >= _MOST_KNOWN:
            self._forget_oldest()
        self._known[sealed] = session
        return session

    def _read(self, note: bytes) -> Session | None:
        begun, _, rest = note.decode().partition(" ")
        browser, _, address = rest.partition(" ")
        if not address:
            return None
        name = f"anonymous-{browser[:6]}"
        person = Person(f"{ANONYMOUS_KEYS}{browser}", "", name, "", frozenset())
        return _session(address, name, person.key, person, float(begun))

    def _forget_oldest(self) -> None:
        """Forgets one browser, but never one with an open exchange, which must end together with its CAL."""
        oldest = next((sealed for sealed, session in self._known.items() if not session.is_open), None)
        if oldest is not None:
            del self._known[oldest]

    async def new_cookie(self, request: Request) -> Header:
        """Returns the header that gives the browser a cookie of its own. Raises Unavailable."""
        note = f"{self._clock():.3f} {secrets.token_hex(8)} {request.address}"
        sealed = await self._notes.seal(_OWNER, note.encode())
        return anonymous_cookie(request.scheme, sealed, self._same_site)

    async def leave(self, request: Request) -> tuple[Session | None, Sequence[Header]]:
        """Forgets a browser whose user signs in or out; returns its session, and headers that delete the cookie."""
        sealed = anonymous_of(request)
        if not sealed:
            return None, ()
        session = await self.find(request)
        self._known.pop(sealed, None)
        return session, [anonymous_cookie(request.scheme, b"", self._same_site)]


def _session(address: str, name: str, person_key: str, person: Person, created: float) -> Session:
    return Session(
        f"anonymous {address}",
        _IDENTITY,
        person_key,
        name,
        address,
        is_browser=False,
        created=created,
        person=person,
        is_anonymous=True,
    )
