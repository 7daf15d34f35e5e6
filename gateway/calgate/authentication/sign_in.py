"""Who are you? The session cookie, or a handshake completed on this very request; never the connection alone."""

import base64
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

from calgate.authentication import csrf
from calgate.authentication.sessions import Session, Sessions
from calgate.authentication.settings import SessionSection
from calgate.http.cookies import COOKIE_HTTP, COOKIE_HTTPS, UpstreamCookie, expire_cookies, session_id_of
from calgate.http.headers import Header
from calgate.http.request import Request
from calgate.plugin.errors import AccountRefused, AuthenticationFailed, Refusal, SignInNeeded
from calgate.plugin.identity import Authenticator, Continue, Directory, Handshake, Identity, Peer, Person
from calgate.telemetry import log
from calgate.telemetry.metrics import Metrics

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_TOKEN_LIMIT = 65_536
_CHALLENGES_AFTER_FAILURE = (
    2  # a connection: with none at all a browser keeps a mistyped password, without end it loops
)


@dataclass(slots=True)
class SignedIn:
    """A signed-in request: the session, its other cookies as they go on, and what the answer must carry."""

    session: Session
    cookies: bytes  # as one field's value; b"" where there are none
    response_headers: list[Header] = field(default_factory=list)


class Bindings(Protocol):
    """Knows which certificate a connection was served with."""

    def binding_of(self, connection: ssl.SSLObject | None) -> bytes | None: ...


class SignIn:
    """Finds the session of a request, or makes one by a handshake."""

    def __init__(
        self,
        authenticators: Sequence[Authenticator],
        directory: Directory,
        sessions: Sessions,
        section: SessionSection,
        bindings: "Bindings | None",
        metrics: Metrics,
    ) -> None:
        self._by_scheme = {_name_of(scheme).lower(): (scheme, a) for a in authenticators for scheme in a.schemes}
        self._directory = directory
        self._sessions = sessions
        self._section = section
        self._embed_in = frozenset(origin.lower().rstrip("/") for origin in section.embed_in)
        self._bindings = bindings
        self._metrics = metrics

    @property
    def challenges(self) -> tuple[str, ...]:
        """The schemes as they are offered, in order."""
        return tuple(scheme for scheme, _ in self._by_scheme.values())

    async def find(self, request: Request) -> SignedIn:
        """The signed-in request. Raises SignInNeeded (the handshake goes on), Unproven, AccountRefused, CrossSite …"""
        csrf.demand_own_site(
            request.method, request.headers, request.origin, self._embed_in, websocket=request.names_websocket
        )
        session_id = session_id_of(request)
        session = await self._sessions.find(session_id)
        if session is not None and (not session.lapsed or request.method not in _SAFE):
            request.connection.take_handshake()
            return SignedIn(session, request.headers.cookies.line)
        csrf.demand_may_sign_in(request.method, request.headers, self._embed_in)
        identity, token = await self._shake_hands(request)
        person = await self._person(request, identity)
        self._metrics.observe("sign-in", perf_counter() - request.started)
        return await self._begin(request, identity, person, session_id, token)

    async def person(self, session: Session, now: float, refresh: float) -> Person:
        """The session's person, asked of the directory (which has a cache) anew every `refresh` seconds."""
        person = session.person
        if person is None or now - session.person_at > refresh:
            person = await self._look_up(session.identity)
            if person != session.person:
                session.forget_findings()
            session.person = person
            session.person_at = now
        return person

    # ------------------------------------------------------------ the handshake

    async def _shake_hands(self, request: Request) -> tuple[Identity, Header | None]:
        handshake = request.connection.take_handshake()
        scheme, credentials = self._read_authorization(request)
        if handshake is None:
            handshake = self._start(request, scheme)
        try:
            result = await handshake.step(scheme, credentials)
        except Refusal as refusal:
            self._record_failure(request, scheme, refusal)
            raise
        if isinstance(result, Continue) and request.behind_proxy:
            raise AuthenticationFailed(
                "a handshake of several legs on a proxy's connection, which may carry many users"
            )
        if isinstance(result, Continue):
            request.connection.keep_handshake(handshake)
            raise SignInNeeded("the handshake goes on", [f"{scheme} {base64.b64encode(result.token).decode()}"])
        last = None
        if result.token:
            last = (b"WWW-Authenticate", f"{scheme} ".encode() + base64.b64encode(result.token))
        return result.identity, last

    def _start(self, request: Request, scheme: str) -> Handshake:
        binding = self._bindings.binding_of(request.connection.tls_connection) if self._bindings is not None else None
        peer = Peer(request.address, request.behind_proxy, binding if request.scheme == "https" else None)
        return self._by_scheme[scheme.lower()][1].begin(peer)

    def _read_authorization(self, request: Request) -> tuple[str, str]:
        """Returns the scheme and its credentials as they came: only their authenticator knows how to read them."""
        value = request.headers.get(b"authorization")
        scheme, _, credentials = value.partition(" ")
        known = self._by_scheme.get(scheme.lower())
        if known is None:
            raise SignInNeeded("no proof of identity came with the request", self.challenges)
        if len(credentials) > _TOKEN_LIMIT:
            raise AuthenticationFailed("the credentials are longer than any real ones")
        credentials = credentials.strip()
        if not credentials:
            raise SignInNeeded("a scheme without credentials", self.challenges)
        return _name_of(known[0]), credentials

    def _record_failure(self, request: Request, scheme: str, refusal: Refusal) -> None:
        request.connection.count_failed_sign_in()
        log.decision(
            "sign-in failed",
            reference=request.reference,
            scheme=scheme,
            address=request.address,
            code=refusal.code,
            reason=refusal.detail,
            ms=request.ms,
        )

    def challenges_after(self, request: Request, refusal: Refusal) -> tuple[str, ...]:
        """What a 401 offers: the handshake's next token; after a failure the schemes again, but not without end."""
        if isinstance(refusal, SignInNeeded):
            return refusal.challenges
        return self.challenges if request.connection.failed_sign_ins <= _CHALLENGES_AFTER_FAILURE else ()

    # ------------------------------------------------------------ from identity to session

    async def _look_up(self, identity: Identity) -> Person:
        person = await self._directory.look_up(identity)
        if person is None:
            raise AccountRefused(f"no directory knows {identity.name}", code="account-unknown")
        return person

    async def _person(self, request: Request, identity: Identity) -> Person:
        try:
            return await self._look_up(identity)
        except Refusal as refusal:
            log.decision(
                "sign-in refused",
                reference=request.reference,
                user=identity.name,
                address=request.address,
                code=refusal.code,
                reason=refusal.detail,
                ms=request.ms,
            )
            raise

    async def _begin(
        self,
        request: Request,
        identity: Identity,
        person: Person,
        previous_id: str,
        token: Header | None,
    ) -> SignedIn:
        previous = await self._sessions.owner(previous_id)
        is_same = previous is not None and previous.person_key == person.key
        carried = previous.cookies if previous is not None and is_same else set()
        session, session_id = await self._sessions.begin(
            identity, person, request.address, is_browser=request.is_browser, cookies=carried
        )
        if previous is not None and not previous.ended:
            await self._sessions.end(previous.key, "signed in anew")
        self._metrics.count("sign_ins", identity.mechanism)
        log.decision(
            "signed in",
            reference=request.reference,
            user=person.name,
            mechanism=identity.mechanism,
            address=request.address,
            ms=request.ms,
        )
        headers = [self.cookie(request.scheme, session_id)]
        if token is not None:
            headers.append(token)
        if is_same:
            return SignedIn(session, request.headers.cookies.line, headers)
        # a shared PC: the cookies that lie in this browser may be another's session at the document server
        stale = previous.cookies if previous is not None else set()
        headers += expire_cookies(stale | {UpstreamCookie(name) for name in request.headers.cookies.names})
        return SignedIn(session, b"", headers)

    def cookie(self, scheme: str, session_id: str) -> Header:
        """The Set-Cookie field of a session; an empty id takes it away."""
        name = COOKIE_HTTPS if scheme == "https" else COOKIE_HTTP
        value = name + b"=" + session_id.encode("latin-1") + b"; Path=/; HttpOnly; SameSite="
        value += self._section.same_site.encode()
        if scheme == "https":
            value += b"; Secure"
        return (b"Set-Cookie", value if session_id else value + b"; Max-Age=0")


def _name_of(scheme: str) -> str:
    """The name of a scheme that is offered with parameters, such as 'Basic realm="calgate"'."""
    return scheme.partition(" ")[0]
