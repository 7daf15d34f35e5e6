"""Who are you? The session cookie, or a handshake completed on this very request; never the connection alone."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter

from calgate.authentication import csrf
from calgate.authentication.anonymous import AnonymousBrowsers, anonymous_session
from calgate.authentication.completion import complete, start
from calgate.authentication.handshakes import SAFE, Handshakes
from calgate.authentication.session import Session, hash_id
from calgate.authentication.sessions import Sessions
from calgate.authentication.settings import SessionSection
from calgate.authentication.token import token_in
from calgate.authentication.tokens import Tokens
from calgate.http.cookies import (
    anonymous_of,
    browser_cookie,
    browser_id_of,
    cookies_named,
    session_cookie,
    session_id_of,
)
from calgate.http.headers import Header
from calgate.http.origin import normalize_origin
from calgate.http.request import Request
from calgate.plugin.errors import AccountRefused, AuthenticationFailed, CrossSite, Refusal, Unavailable
from calgate.plugin.identity import Directory, Identity, Person
from calgate.plugin.tasks import start_task
from calgate.telemetry import log
from calgate.telemetry.metrics import Metrics

_OFFICE = "office"  # in the User-Agent of Word and Excel, which fetch a link themselves before they open the browser
_AGE_BEHIND_PROXY = 1.0  # seconds; a proxy's connection is older than the request on it
# Codes of credentials that cannot succeed here for any user; with a live session they are ignored.
_KINDS_NOT_ACCEPTED = frozenset({"ntlm-off", "ntlm-behind-proxy", "binding-missing"})


@dataclass(slots=True)
class SignedIn:
    """A signed-in request: its session, its other cookies as they are forwarded, and headers for the response."""

    session: Session
    cookies: bytes  # the value of one Cookie header; b"" for none
    response_headers: list[Header] = field(default_factory=list)
    storing: "asyncio.Task[None] | None" = None  # writes a new session; nothing is forwarded before it has succeeded


class SignIn:
    """Finds the session of a request, or begins one with a handshake."""

    def __init__(
        self,
        handshakes: Handshakes,
        directory: Directory,
        sessions: Sessions,
        tokens: Tokens,
        section: SessionSection,
        metrics: Metrics,
        browsers: AnonymousBrowsers,
        *,
        tracks_browsers: bool = False,
    ) -> None:
        """`tracks_browsers`: whether a license counts browsers, so that each needs an id that outlives its sessions."""
        self._browsers = browsers
        self.on_left: Callable[[Session], Coroutine[None, None, None]] | None = None  # an anonymous browser signed in
        self._handshakes = handshakes
        self._directory = directory
        self._sessions = sessions
        self._tokens = tokens
        self._section = section
        self._embed_in = frozenset(normalize_origin(origin.rstrip("/")) for origin in section.embed_in)
        self._metrics = metrics
        self._tracks_browsers = tracks_browsers
        self._refreshing: set[asyncio.Task[None]] = set()

    async def find(self, request: Request, *, stores_later: bool = False) -> SignedIn:
        """Returns the signed-in request. `stores_later`: the caller waits for `SignedIn.storing` of a new session.

        Raises SignInNeeded (also while the handshake goes on), AuthenticationFailed, AccountRefused, CrossSite,
        TooManySignIns or Unavailable.
        """
        self._demand_own_site(request)
        if _has_token(request):
            return await self._by_token(request)
        session_id = session_id_of(request)
        session = await self._sessions.find(session_id)
        if session is None or (session.lapsed and request.method in SAFE):
            csrf.demand_may_sign_in(request.method, request.headers, self._embed_in)
            return await self._sign_in(request, session_id, None, stores_later=stores_later)
        if self._handshakes.has_credentials(request) and not session.was_proved_by(_credentials(request)):
            return await self._sign_in_again(request, session_id, session)
        return self._with_cookies(request, session) or await self._by_session(request, session)

    async def has_session(self, request: Request) -> bool:
        """Returns whether the request's cookie has a live session; nobody is signed in for it. Raises Unavailable."""
        session = await self._sessions.find(session_id_of(request))
        return session is not None and not session.lapsed

    def session_named_by(self, request: Request) -> str:
        """Returns the key of the session in the request's cookie; "" for none, and for an API token. Raises CrossSite.

        It says nothing of the session itself, and depends on nothing but the request.
        """
        self._demand_own_site(request)
        session_id = "" if _has_token(request) else session_id_of(request)
        return hash_id(session_id) if session_id else ""

    def remembered(self, request: Request, key: str) -> SignedIn | None:
        """Signs a request in from this process's copy of the session that it names; None if that needs more."""
        session = self._sessions.remembered(key)
        if session is None or session.ended or session.lapsed:
            return None
        if self._handshakes.has_credentials(request) and not session.was_proved_by(_credentials(request)):
            return None
        return self._with_cookies(request, session)

    async def nobody(self, request: Request) -> SignedIn:
        """Returns a request on a public route: no cookie and no credentials identify anybody.

        Raises CrossSite, or SignInNeeded for a form that its client holds back. An unsafe request of a foreign page is
        refused here, too: the browser adds the document server's own cookies, which a webhook's sender does not have. A
        webhook comes from a server, which sends no Origin.
        """
        self._demand_own_site(request)
        await self._handshakes.demand_form(request)
        request.connection.take_handshake()
        session = anonymous_session(request.address)
        return SignedIn(session, await self._sessions.cookies_up(session, request.headers.cookies, unjudged=False))

    def passed_authorization(self, request: Request) -> bytes:
        """Returns the client's Authorization header as a line to forward; b"" if it is not the application's."""
        value = request.headers.by_name.get(b"authorization", b"")
        return b"Authorization: %b\r\n" % value if self._handshakes.passes(value) else b""

    def _demand_own_site(self, request: Request) -> None:
        headers = request.headers
        if b"origin" not in headers.by_name:
            return
        # forward-auth: a proxy takes Upgrade off, as a hop-by-hop header, and leaves Sec-WebSocket-Key
        websocket = request.names_websocket or b"sec-websocket-key" in headers.by_name
        csrf.demand_own_site(request.method, headers, request.own_origins, self._embed_in, websocket=websocket)

    async def _by_token(self, request: Request) -> SignedIn:
        """Signs a request in by its API token alone: a session that its cookie names is neither used nor touched."""
        request.connection.take_handshake()
        session = await self._tokens.session(request)
        return SignedIn(session, await self._sessions.cookies_up(session, request.headers.cookies))

    def _with_cookies(self, request: Request, session: Session) -> SignedIn | None:
        """Signs a request in by its session; None where its cookies need the store or a further header."""
        cookies = request.headers.cookies
        line = session.cookies.forwarded(cookies) if cookies.line else b""
        if line is None or session.cookies.has_stale:
            return None
        request.connection.take_handshake()
        return SignedIn(session, line)

    async def _sign_in_again(self, request: Request, session_id: str, session: Session) -> SignedIn:
        """Serves a request with a live session and with credentials.

        A client that signed in by NTLM begins its next POST on a new connection with an empty body and a first token,
        and sends the form after the challenge; a Kerberos client may demand that the gateway proves itself each time.
        """
        try:
            csrf.demand_may_sign_in(request.method, request.headers, self._embed_in)
            return await self._sign_in(request, session_id, session)
        except CrossSite:
            pass
        except Unavailable:
            if request.length == 0 and request.method not in SAFE:
                raise  # the client holds its form back until it is challenged
        except AuthenticationFailed as refusal:
            if refusal.code not in _KINDS_NOT_ACCEPTED:
                raise
        return await self._by_session(request, session)

    async def _by_session(self, request: Request, session: Session, *headers: Header) -> SignedIn:
        request.connection.take_handshake()
        response_headers = [*headers, *session.cookies.take_expiries()] if session.cookies.has_stale else [*headers]
        return SignedIn(session, await self._sessions.cookies_up(session, request.headers.cookies), response_headers)

    async def _sign_in(
        self, request: Request, session_id: str, live: Session | None, *, stores_later: bool = False
    ) -> SignedIn:
        """Takes the next step of the handshake; once it is complete, keeps the same person's live session."""
        identity, token = await self._handshakes.shake_hands(request)
        person = await self._person_of(request, identity)
        self._metrics.observe("sign-in", perf_counter() - request.started)
        if live is not None and not live.lapsed and live.person_key == person.key:
            live.remember_proof(_credentials(request))
            return await self._by_session(request, live, *([token] if token is not None else []))
        beginning = self._begin(request, identity, person, session_id, token, stores_later=stores_later)
        # once begun, the storing is carried out; there is more only where another session, or a browser's CAL, ends
        is_first = stores_later and not session_id and not anonymous_of(request)
        signed_in = await (beginning if is_first else complete(beginning))
        signed_in.session.remember_proof(_credentials(request))
        return signed_in

    async def begin(self, request: Request, identity: Identity, *, is_fresh: bool) -> SignedIn:
        """Begins a session for a user whom a sign-in method proved; ends the one that the browser had.

        `is_fresh`: the user was made to prove who they are for this sign-in.
        """
        person = await self._person_of(request, identity)
        self._metrics.observe("sign-in", perf_counter() - request.started)
        return await complete(self._begin(request, identity, person, session_id_of(request), None, is_fresh=is_fresh))

    async def by_handshake(self, request: Request) -> SignedIn:
        """Takes the next step of a handshake for a new session, whatever session the browser has."""
        csrf.demand_may_sign_in(request.method, request.headers, self._embed_in)
        return await self._sign_in(request, session_id_of(request), None)

    async def person(self, session: Session, now: float, refresh: float) -> Person:
        """Returns the session's person, as the directory (which has a cache) said at most `refresh` seconds ago."""
        if session.person is None or session.needs_person(now, refresh):
            if session.token is not None:
                session.token.demand_valid(now)
            person = await self._look_up(session.identity)
            if session.token is not None and person.key != session.person_key:
                raise AccountRefused(f"{session.name} is another account than the token's", code="account-unknown")
            session.remember_person(person, now)
        assert session.person is not None
        return session.person

    def refresh_person(self, session: Session) -> None:
        """Looks the session's person up again in the background, once for each time that they were looked up.

        Otherwise all open requests would wait for the same query when the time is over.
        """
        if session.begin_refresh():
            task = start_task(self._refresh(session), "sign-in: refreshing a person")
            self._refreshing.add(task)
            task.add_done_callback(self._refreshing.discard)

    async def _refresh(self, session: Session) -> None:
        with suppress(Refusal):  # the first request after the time is over gets the same refusal
            await self.person(session, time.time(), 0)

    # ------------------------------------------------------------ from identity to session

    async def _look_up(self, identity: Identity) -> Person:
        person = await self._directory.look_up(identity)
        if person is None:
            raise AccountRefused(f"no directory knows {identity.name}", code="account-unknown")
        return person

    async def _person_of(self, request: Request, identity: Identity) -> Person:
        try:
            return await self._look_up(identity)
        except Refusal as refusal:
            request.log_refusal("sign-in refused", refusal, user=identity.name)
            raise

    async def _begin(
        self,
        request: Request,
        identity: Identity,
        person: Person,
        previous_id: str,
        token: Header | None,
        *,
        stores_later: bool = False,
        is_fresh: bool = False,
    ) -> SignedIn:
        """Begins the session and ends the one before it: two steps in the store that belong together."""
        previous = await self._sessions.owner(previous_id)
        is_same = previous is not None and previous.person_key == person.key
        carried = previous.cookies.known if previous is not None and is_same else None
        browser_id = await self._browser(request, person)
        session, session_id = self._sessions.new(
            identity,
            person,
            request.address,
            is_browser=request.is_browser,
            cookies=carried,
            browser=hash_id(browser_id) if browser_id else "",
            is_fresh=is_fresh,
        )
        storing = start(self._store(request, session, previous))
        if not stores_later:
            await storing
        headers = [*self._cookies(request, session_id, browser_id), *([token] if token is not None else [])]
        headers += await self._leave_anonymity(request)
        if is_same:
            cookies = await self._sessions.cookies_up(session, request.headers.cookies)
            return SignedIn(session, cookies, headers, storing if stores_later else None)
        # a shared PC: the cookies in this browser may be another user's session at the document server
        left_behind = previous.cookies.known if previous is not None else ()
        session.cookies.set_stale(cookies_named(request.headers.cookies.names, left_behind))
        headers += session.cookies.take_expiries()
        return SignedIn(session, b"", headers, storing if stores_later else None)

    def _cookies(self, request: Request, session_id: str, browser_id: str) -> Iterator[Header]:
        """Yields the cookies of a new session, and of a browser that has not been told its id."""
        yield session_cookie(request.scheme, session_id, self._section.same_site)
        if browser_id and browser_id != browser_id_of(request):
            yield browser_cookie(request.scheme, browser_id, self._section.same_site)

    async def _leave_anonymity(self, request: Request) -> Sequence[Header]:
        """Gives back the CAL that the browser had on a public route: the user is signed in now."""
        try:
            left, headers = await self._browsers.leave(request)
        except Unavailable:  # its CAL then comes back by the idle timeout
            return ()
        if left is not None and self.on_left is not None:
            start(self.on_left(left))
        return headers

    async def _store(self, request: Request, session: Session, previous: Session | None) -> None:
        await self._sessions.store(session)
        if previous is not None and not previous.ended:
            await self._sessions.end(previous.key, "signed in again")
        self._metrics.count("sign_ins", session.identity.mechanism)
        log.decision(
            "signed in",
            reference=request.reference,
            user=session.name,
            mechanism=session.identity.mechanism,
            address=request.address,
            ms=request.ms,
        )

    async def _browser(self, request: Request, person: Person) -> str:
        """Returns the id of the browser that signs in, "" for a program, which its address identifies."""
        is_office = _OFFICE in request.headers.get(b"user-agent").lower()
        if not self._tracks_browsers or not (request.is_browser or is_office):
            return ""
        open_for = _AGE_BEHIND_PROXY if request.behind_proxy else time.time() - request.connection.opened_at
        return await self._sessions.browser(
            person.key,
            request.address,
            browser_id_of(request),
            user_agent=request.headers.get(b"user-agent"),
            open_for=open_for,
            is_office=is_office,
        )


def _has_token(request: Request) -> bool:
    return b"authorization" in request.headers.by_name and token_in(_credentials(request)) is not None


def _credentials(request: Request) -> bytes:
    return request.headers.by_name.get(b"authorization", b"")
