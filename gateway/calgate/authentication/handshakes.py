"""Sign-in handshakes: the credentials of a request go to their authenticator, one step after the other.

A handshake belongs to one connection and to nothing else: not to an address, not to a cookie (RFC 4559, section 6).
"""

import base64
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn, Protocol

from calgate.authentication import passed_authorization
from calgate.authentication.token import token_in
from calgate.http.headers import Header
from calgate.http.request import Request
from calgate.plugin.errors import (
    AccountRefused,
    AuthenticationFailed,
    Refusal,
    SignInNeeded,
    TooManySignIns,
    Unavailable,
)
from calgate.plugin.identity import Authenticator, Continue, Handshake, Identity, Peer, schemes_for, unoffered_schemes

_TOKEN_LIMIT = 65_536
# On one connection. Without any challenge a browser keeps a mistyped password; with one after every failure it loops.
_CHALLENGES_AFTER_FAILURE = 2
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FORM = "Calgate-Form"  # a 401 must have a challenge (RFC 9110, 15.5.2); browsers show the page for an unknown one


class Bindings(Protocol):
    """Knows the certificate that a connection was served with."""

    def binding_of(self, connection: ssl.SSLObject | None) -> bytes | None: ...


class Handshakes:
    """Starts and continues the handshakes of all authenticators."""

    def __init__(
        self, authenticators: Sequence[Authenticator], bindings: Bindings | None, *, has_pages: bool = False
    ) -> None:
        """`has_pages`: whether a client that is offered no scheme can sign in on a page."""
        self._authenticators = tuple(authenticators)
        self._offered = {name_of(scheme).lower(): (scheme, a) for a in authenticators for scheme in a.schemes}
        self._by_scheme = self._offered | {
            scheme.lower(): (scheme, one) for one in authenticators for scheme in unoffered_schemes(one)
        }
        self._bindings = bindings
        self._without_scheme = (FORM,) if has_pages else ()

    def challenges(self, request: Request) -> tuple[str, ...]:
        """Returns the schemes that are offered to this client, in order."""
        peer = self.peer(request)
        return tuple(scheme for one in self._authenticators for scheme in schemes_for(one, peer))

    @property
    def schemes(self) -> Sequence[str]:
        """The schemes without parameters, in order."""
        return [name_of(scheme) for scheme, _ in self._offered.values()]

    def scheme_named(self, name: str) -> str:
        """Returns the scheme that a path names in lower case, "" for an unknown one."""
        known = self._offered.get(name)
        return name_of(known[0]) if known is not None else ""

    def has_credentials(self, request: Request) -> bool:
        """Whether the request carries credentials of a scheme that an authenticator knows."""
        value = request.headers.by_name.get(b"authorization")
        return value is not None and value.partition(b" ")[0].decode("latin-1").lower() in self._by_scheme

    async def demand_form(self, request: Request) -> None:
        """Challenges a client that holds its form back, where nobody has to sign in. Raises SignInNeeded.

        A client that has signed in by NTLM begins its next POST on a new connection with an empty body and a first
        token, whatever the path, and sends the form after the challenge. Credentials that need none are ignored here.
        """
        if request.length == 0 and request.method not in SAFE and self.has_credentials(request):
            with suppress(AuthenticationFailed, AccountRefused, TooManySignIns, Unavailable):
                await self.shake_hands(request)

    def passes(self, value: bytes) -> bool:
        """Whether an Authorization header is the application's own, so that a route may forward it."""
        return passed_authorization.is_applications(value, self._by_scheme.keys())

    async def shake_hands(self, request: Request) -> tuple[Identity, Header | None]:
        """Takes the next step; returns who the client proved to be, and the header that proves the gateway in turn.

        Raises SignInNeeded with the next challenge while the handshake goes on, AuthenticationFailed, AccountRefused,
        TooManySignIns or Unavailable.
        """
        handshake = request.connection.take_handshake()
        scheme, credentials = self._read_authorization(request)
        if handshake is None:
            handshake = self._start(request, scheme)
        try:
            result = await handshake.step(scheme, credentials)
        except Refusal as refusal:
            self._record_failure(request, scheme, refusal)
            raise
        if isinstance(result, Continue):
            self._continue(request, handshake, scheme, result)
        last = None
        if result.token:
            last = (b"WWW-Authenticate", f"{scheme} ".encode() + base64.b64encode(result.token))
        return result.identity, last

    def _continue(self, request: Request, handshake: Handshake, scheme: str, result: Continue) -> NoReturn:
        if request.behind_proxy:
            raise AuthenticationFailed(
                "a handshake of several round trips on a proxy's connection, which may carry many users"
            )
        request.connection.keep_handshake(handshake)
        request.send_continue()  # without it the connection, and the handshake with it, would have to be closed
        raise SignInNeeded("the handshake goes on", [f"{scheme} {base64.b64encode(result.token).decode()}"])

    def _start(self, request: Request, scheme: str) -> Handshake:
        return self._by_scheme[scheme.lower()][1].begin(self.peer(request))

    def peer(self, request: Request) -> Peer:
        binding = self._bindings.binding_of(request.connection.tls_connection) if self._bindings is not None else None
        bound = binding if request.scheme == "https" else None
        return Peer(request.address, request.behind_proxy, bound, request.scheme)

    def _read_authorization(self, request: Request) -> tuple[str, str]:
        """Returns the scheme and its credentials as they came: only their authenticator knows how to read them."""
        value = request.headers.get(b"authorization")
        scheme, _, credentials = value.partition(" ")
        known = self._by_scheme.get(scheme.lower())
        if known is None:
            raise SignInNeeded("no proof of identity came with the request")
        if len(credentials) > _TOKEN_LIMIT:
            raise AuthenticationFailed("the credentials are longer than any real ones")
        credentials = credentials.strip()
        if not credentials:
            raise SignInNeeded("a scheme without credentials")
        return name_of(known[0]), credentials

    def _record_failure(self, request: Request, scheme: str, refusal: Refusal) -> None:
        request.connection.count_failed_sign_in()
        request.log_refusal("sign-in failed", refusal, scheme=scheme)

    def challenges_after(self, request: Request, refusal: Refusal) -> tuple[str, ...]:
        """Returns the challenges of a 401: the handshake's next token, or the schemes.

        The schemes are offered again after a failure, but not without end.
        """
        if token_in(request.headers.by_name.get(b"authorization")) is not None:
            return ('Bearer realm="calgate", error="invalid_token"',)  # RFC 6750, section 3
        if isinstance(refusal, SignInNeeded):
            return refusal.challenges or self.challenges(request) or self._without_scheme
        return self.challenges(request) if request.connection.failed_sign_ins <= _CHALLENGES_AFTER_FAILURE else ()


def name_of(scheme: str) -> str:
    """Returns a scheme without the parameters that it is offered with."""
    return scheme.partition(" ")[0]
