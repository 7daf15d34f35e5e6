"""Who are you? The session cookie, or a handshake completed on this very request; never the connection alone."""

import base64
import binascii
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

from calgate.authentication import csrf
from calgate.authentication.sessions import Session, Sessions
from calgate.authentication.settings import SessionSection
from calgate.http.cookies import COOKIE_HTTP, COOKIE_HTTPS, expire_cookies, session_id_of
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
    answer_headers: list[Header] = field(default_factory=list)


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
        self._by_scheme = {scheme.lower(): (scheme, a) for a in authenticators for scheme in a.schemes}
        self._directory = directory
        self._sessions = sessions
        self._section = section
        self._embed_in = frozenset(origin.lower().rstrip("/") for origin in section.embed_in)
        self._bindings = bindings
        self._metrics = metrics

    @property
    def challenges(self) -> tuple[str, ...]:
        """The bare schemes, in order."""
        return tuple(scheme for scheme, _ in self._by_scheme.values())

    async def find(self, ask: Request) -> SignedIn:
        """The signed-in request. Raises SignInNeeded (the handshake goes on), Unproven, AccountRefused, CrossSite …"""
        csrf.demand_own_site(ask.method, ask.inbound, ask.origin, self._embed_in, websocket=ask.names_websocket)
        session_id = session_id_of(ask)
        session = await self._sessions.find(session_id)
        if session is not None and (not session.lapsed or ask.method not in _SAFE):
            ask.caller.handshake = None
            return SignedIn(session, ask.inbound.cookies.line)
        csrf.demand_may_sign_in(ask.method, ask.inbound, self._embed_in)
        identity, token = await self._shake_hands(ask)
        person = await self._person(ask, identity)
        self._metrics.observe("sign-in", perf_counter() - ask.started)
        return await self._begin(ask, identity, person, session_id, token)

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

    async def _shake_hands(self, ask: Request) -> tuple[Identity, Header | None]:
        handshake, ask.caller.handshake = ask.caller.handshake, None  # whatever comes now, it is stepped once or never
        scheme, token = self._read_authorization(ask)
        if handshake is None:
            handshake = self._start(ask, scheme)
        try:
            result = await handshake.step(scheme, token)
        except Refusal as refusal:
            self._record_failure(ask, scheme, refusal)
            raise
        if isinstance(result, Continue) and ask.behind_proxy:
            raise AuthenticationFailed(
                "a handshake of several legs on a proxy's connection, which may carry many users"
            )
        if isinstance(result, Continue):
            ask.caller.handshake = handshake
            raise SignInNeeded("the handshake goes on", [f"{scheme} {base64.b64encode(result.token).decode()}"])
        last = None
        if result.token:
            last = (b"WWW-Authenticate", f"{scheme} ".encode() + base64.b64encode(result.token))
        return result.identity, last

    def _start(self, ask: Request, scheme: str) -> Handshake:
        binding = self._bindings.binding_of(ask.caller.tls_connection) if self._bindings is not None else None
        peer = Peer(ask.address, ask.behind_proxy, binding if ask.scheme == "https" else None)
        return self._by_scheme[scheme.lower()][1].begin(peer)

    def _read_authorization(self, ask: Request) -> tuple[str, bytes]:
        value = ask.inbound.get(b"authorization")
        scheme, _, text = value.partition(" ")
        known = self._by_scheme.get(scheme.lower())
        if known is None:
            raise SignInNeeded("no proof of identity came with the request", self.challenges)
        if len(text) > _TOKEN_LIMIT:
            raise AuthenticationFailed("the token is longer than any real one")
        try:
            token = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError) as error:
            raise AuthenticationFailed("the token is not base64") from error
        if not token:
            raise SignInNeeded("an empty token", self.challenges)
        return known[0], token

    def _record_failure(self, ask: Request, scheme: str, refusal: Refusal) -> None:
        ask.caller.failures += 1
        log.decision(
            "sign-in failed",
            reference=ask.reference,
            scheme=scheme,
            address=ask.address,
            code=refusal.code,
            reason=refusal.detail,
            ms=ask.ms,
        )

    def challenges_after(self, ask: Request, refusal: Refusal) -> tuple[str, ...]:
        """What a 401 offers: the handshake's next token; after a failure the schemes again, but not without end."""
        if isinstance(refusal, SignInNeeded):
            return refusal.challenges
        return self.challenges if ask.caller.failures <= _CHALLENGES_AFTER_FAILURE else ()

    # ------------------------------------------------------------ from identity to session

    async def _look_up(self, identity: Identity) -> Person:
        person = await self._directory.look_up(identity)
        if person is None:
            raise AccountRefused(f"no directory knows {identity.name}", code="account-unknown")
        return person

    async def _person(self, ask: Request, identity: Identity) -> Person:
        try:
            return await self._look_up(identity)
        except Refusal as refusal:
            log.decision(
                "sign-in refused",
                reference=ask.reference,
                user=identity.name,
                address=ask.address,
                code=refusal.code,
                reason=refusal.detail,
                ms=ask.ms,
            )
            raise

    async def _begin(
        self,
        ask: Request,
        identity: Identity,
        person: Person,
        previous_id: str,
        token: Header | None,
    ) -> SignedIn:
        previous = await self._sessions.owner(previous_id)
        is_same = previous is not None and previous.person_key == person.key
        carried = previous.cookies if previous is not None and is_same else set()
        session, session_id = await self._sessions.begin(
            identity, person, ask.address, is_browser=ask.is_browser, cookies=carried
        )
        if previous is not None and not previous.ended:
            await self._sessions.end(previous.key, "signed in anew")
        self._metrics.count("sign_ins", identity.mechanism)
        log.decision(
            "signed in",
            reference=ask.reference,
            user=person.name,
            mechanism=identity.mechanism,
            address=ask.address,
            ms=ask.ms,
        )
        headers = [self.cookie(ask.scheme, session_id)]
        if token is not None:
            headers.append(token)
        if is_same:
            return SignedIn(session, ask.inbound.cookies.line, headers)
        # a shared PC: the cookies that lie in this browser may be another's session at the document server
        stale = previous.cookies if previous is not None else set()
        headers += expire_cookies(stale | {name + b";/;" for name in ask.inbound.cookies.names})
        return SignedIn(session, b"", headers)

    def cookie(self, scheme: str, session_id: str) -> Header:
        """The Set-Cookie field of a session; an empty id takes it away."""
        name = COOKIE_HTTPS if scheme == "https" else COOKIE_HTTP
        value = name + b"=" + session_id.encode("latin-1") + b"; Path=/; HttpOnly; SameSite="
        value += self._section.same_site.encode()
        if scheme == "https":
            value += b"; Secure"
        return (b"Set-Cookie", value if session_id else value + b"; Max-Age=0")
