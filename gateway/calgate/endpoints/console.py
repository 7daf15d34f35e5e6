"""The way into the administrators' console: its origin, roles and networks, and the hand-over to its process.

Documents' scripts run in the origin of their route, and nothing stops a script from acting with all rights of its own
origin. So the console has an origin of its own, on which nothing else is served. This module decides who may enter and
in which role; the screens and the changes are the work of the console's process, which only the gateway's user can
connect to.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Literal
from urllib.parse import parse_qs

import aiohttp

from calgate.authentication.session import Session, hash_id
from calgate.authentication.sign_in import SignedIn, SignIn
from calgate.authentication.token import Token
from calgate.endpoints import ADMIN, PREFIX
from calgate.endpoints.console_socket import NAME
from calgate.endpoints.gateway_paths import GatewayPaths
from calgate.endpoints.settings import ConsoleSection
from calgate.endpoints.sign_in_pages import SignInPages
from calgate.http.cookies import session_id_of
from calgate.http.headers import Header
from calgate.http.origin import host_name, normalize_origin
from calgate.http.request import Request
from calgate.http.response import Response, date
from calgate.plugin.errors import CrossSite, Forbidden, MethodRefused, Unavailable
from calgate.plugin.identity import Person
from calgate.plugin.screens import ROLES, ConsoleRole

IDENTITY = "X-Calgate-Console"

_SHARED_PATHS = frozenset({f"{PREFIX}sign-out", f"{PREFIX}signed-out"})
_SIGN_IN = f"{PREFIX}sign-in/"
_SAFE = frozenset({"GET", "HEAD"})
_REFRESH = b"x-calgate-live"  # of an open page: its browser would sign in unseen, which would undo a sign-out
_LARGEST = 1 << 20  # bytes of a form
_WITHIN = 120.0  # seconds for a response of the console's process: a report reads a year of records
_CONNECT_WITHIN = 5.0
_PERSON_REFRESH = 10.0
_PROOF_LIFE = 600.0  # seconds for which a proof of identity lets its session take things away
_PASSED_ON = frozenset(
    {
        *("content-type", "content-disposition", "content-security-policy", "location", "cache-control"),
        *("x-frame-options", "retry-after"),
    }
)


class ConsoleRoles:
    """The roles of people, by groups as the directory last resolved them."""

    def __init__(self, section: ConsoleSection) -> None:
        self.section = section
        self._found: Mapping[str, str | None] | None = None

    def regroup(self, found: Mapping[str, str | None]) -> None:
        self._found = {name: found.get(name) for name in self.section.groups}

    def role_of(self, person: Person) -> ConsoleRole | None:
        """Returns the highest role. Raises Unavailable while a group cannot be resolved: the console is shut then."""
        if self._found is None:
            raise Unavailable("console: its groups are not resolved yet", code="rules-unresolved")
        missing = next((name for name, key in self._found.items() if key is None), None)
        if missing is not None:
            raise Unavailable(f"console: no directory has the group {missing}; correct it", code="rules-unresolved")
        section = self.section
        roles: tuple[tuple[ConsoleRole, tuple[str, ...]], ...] = (
            ("admin", section.admins),
            ("helpdesk", section.helpdesk),
            ("reader", section.readers),
        )
        for role, groups in roles:
            if any(self._found[name] in person.groups for name in groups):
                return role
        return None


Removal = Literal["yes", "prove", "no"]
"""Whether a visitor may take something away: yes, only after they have proved again who they are, or never."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How a visitor enters."""

    role: ConsoleRole
    token: str  # that a change in this session must carry
    removal: Removal
    ways: Sequence[tuple[str, str]]  # label and path of each way to prove who they are


class ConsoleGate:
    """Serves the console's origin."""

    def __init__(
        self,
        roles: ConsoleRoles,
        sign_in: SignIn,
        gateway_paths: GatewayPaths,
        sign_in_pages: SignInPages,
        upstream: "ConsoleClient",
    ) -> None:
        self._roles = roles
        self._section = roles.section
        self._sign_in = sign_in
        self._gateway_paths = gateway_paths
        self._sign_in_pages = sign_in_pages
        self._client = upstream

    def is_console_host(self, request: Request) -> bool:
        """Whether the request names the console's own host."""
        return bool(self._section.host) and host_name(request.host) == self._section.host

    async def serve(self, request: Request) -> Response:
        """Returns the response to a request on the console's origin."""
        request.public_origins = ()  # those of the documents, which the console's own pages do not have
        self._demand_network(request)
        path = request.target.path
        if path in _SHARED_PATHS or path.startswith(_SIGN_IN):
            return await self._gateway_paths.serve(request)
        if path in ("/", ADMIN.rstrip("/")):
            return Response(303, [(b"Location", ADMIN.encode()), (b"Date", date())])
        if not path.startswith(ADMIN):
            return not_found()
        _demand_own_page(request)
        if request.headers.get(_REFRESH) and not await self._sign_in.has_session(request):
            raise Forbidden("console: the session of a page that refreshes itself has ended")
        signed_in = await self._sign_in.find(request)
        request.user = signed_in.session.name
        request.sign_in_headers = signed_in.response_headers
        role = await self._role(signed_in.session)
        if signed_in.session.token is not None:
            role = role_of_token(signed_in.session.token, role)
        body = await request.read_body(_LARGEST) if request.method == "POST" else b""
        if request.method == "POST":
            _demand_intent(request, signed_in.session, body)
        entry = Entry(role, token_of(signed_in.session), *self._removal(request, signed_in.session))
        return await self._client.forward(request, signed_in, entry, body)

    def _removal(self, request: Request, session: Session) -> tuple[Removal, Sequence[tuple[str, str]]]:
        """Returns whether the visitor may take something away, and by which ways they can prove who they are first.

        With Negotiate alone there is no such way: Windows signs people in unseen.
        """
        if session.token is not None:
            return ("yes" if session.token.may_remove else "no"), ()
        ways = self._sign_in_pages.ways_to_prove(request)
        is_proved = not ways or time.time() - session.proved_at < _PROOF_LIFE
        return ("yes" if is_proved else "prove"), ways

    def _demand_network(self, request: Request) -> None:
        try:
            address = ip_address(request.address.partition("%")[0])
        except ValueError:  # a unix socket without a proxy that names the client
            raise Forbidden(
                "console: the client's address is not known, so it is in none of console.networks"
            ) from None
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if not any(address in network for network in self._section.networks):
            raise Forbidden(f"console: {request.address} is in none of console.networks")

    async def _role(self, session: Session) -> ConsoleRole:
        if session.lapsed:
            raise Forbidden("console: the session has expired; open the console again")
        person = await self._sign_in.person(session, time.time(), _PERSON_REFRESH)
        role = self._roles.role_of(person)
        if role is None:
            raise Forbidden("console: the user is in none of its groups")
        return role


def role_of_token(token: Token, role: ConsoleRole) -> ConsoleRole:
    """Returns the role with which an API token enters: its own, but not a higher one than the account has.

    Raises Forbidden for a token that was made without --console.
    """
    own = next((one for one in ROLES if one == token.console), None)
    if own is None:
        raise Forbidden(f"console: API token {token.id} of {token.user} was made without --console")
    return min(role, own, key=ROLES.index)


def not_found() -> Response:
    """Returns a bare 404: nothing here says whether the site has a console."""
    headers = [(b"Content-Type", b"text/plain"), (b"Cache-Control", b"no-store"), (b"Date", date())]
    return Response(404, headers, b"not found\n")


def token_of(session: Session) -> str:
    """Returns the token that a change in this session must carry. Only the holder of the cookie can have seen it."""
    return hmac.new(session.key.encode(), b"calgate console", hashlib.sha256).hexdigest()


def _demand_own_page(request: Request) -> None:
    """Raises CrossSite for requests of pages of other origins, also of the document server's under the same name.

    A navigation by GET shows a page in its own window, which changes nothing.
    """
    if request.method not in (*_SAFE, "POST"):
        raise MethodRefused(f"method {request.method} in the console", ("GET", "HEAD", "POST"))
    headers = request.headers
    site = headers.get(b"sec-fetch-site")
    is_navigation = headers.get(b"sec-fetch-mode") == "navigate" and headers.get(b"sec-fetch-dest") == "document"
    if site in ("", "same-origin", "none") or (request.method == "GET" and is_navigation):
        return
    raise CrossSite(f"console: {request.method} from a page of another origin ({site})")


def _demand_intent(request: Request, session: Session, body: bytes) -> None:
    """Demands that a change was meant: our own origin, and the session's token.

    A program that signs in with each request has no session that could have a token. It sends X-Calgate-Change, which
    no page of another origin can do without a preflight, and the console allows none.
    """
    origin = request.headers.get(b"origin")
    if normalize_origin(origin) not in request.own_origins:
        raise CrossSite(f"console: a change from origin {origin[:100] or '(none)'}, not {request.origin}")
    session_id = session_id_of(request)
    if not session_id:
        if not request.headers.get(b"x-calgate-change"):
            raise CrossSite("console: a change without a session needs the header X-Calgate-Change")
        return
    shown = request.headers.get(b"x-calgate-token") or _token_in(request, body)
    if hash_id(session_id) != session.key or not hmac.compare_digest(shown.encode(), token_of(session).encode()):
        raise CrossSite("console: the change does not carry the token of this session; open the page again")


def _token_in(request: Request, body: bytes) -> str:
    if not request.headers.get(b"content-type").lower().startswith("application/x-www-form-urlencoded"):
        return ""
    try:
        return parse_qs(body.decode("ascii"), max_num_fields=10_000).get("token", [""])[0]
    except ValueError:
        return ""


class ConsoleClient:
    """The connection to the console's process."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def forward(self, request: Request, signed_in: SignedIn, entry: Entry, body: bytes) -> Response:
        """Returns the response of the console's process. Raises Unavailable while none runs."""
        session = signed_in.session
        identity = {
            "name": session.name,
            "key": session.person_key,
            "role": entry.role,
            "address": request.address,
            "token": entry.token,
            "removal": entry.removal,
            "ways": entry.ways,
            "reference": request.reference,
            "host": request.host,
        }
        headers = {IDENTITY: json.dumps(identity), "Accept": request.headers.get(b"accept") or "application/json"}
        if content_type := request.headers.get(b"content-type"):
            headers["Content-Type"] = content_type
        try:
            response = await self._http.request(
                request.method,
                f"http://console{request.raw_target}",
                headers=headers,
                data=body or None,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"console: its process does not respond: {error}", code="starting") from error
        kept: list[Header] = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in response.headers.items()
            if name.lower() in _PASSED_ON
        ]
        fixed = [(b"X-Content-Type-Options", b"nosniff"), (b"Referrer-Policy", b"same-origin"), (b"Date", date())]
        stream = _Body(response)
        return Response(response.status, [*kept, *fixed, *signed_in.response_headers], body_stream=stream)


class _Body:
    """The body of a response of the console's process; fills `ResponseBody`."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.length = response.content_length

    async def read(self) -> bytes:
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable("console: its process ended within a response", code="starting") from error

    def take_whole(self) -> bytes | None:
        return None

    def close(self) -> None:
        self._response.close()


@contextlib.asynccontextmanager
async def open_client(state_dir: str | os.PathLike[str]) -> AsyncIterator[ConsoleClient]:
    """Opens the connection; the process may start later, end and come back."""
    await asyncio.to_thread(os.makedirs, state_dir, 0o700, exist_ok=True)
    folder = await asyncio.to_thread(os.open, state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # by the folder's descriptor: a socket's address is at most 107 bytes long
        connector = aiohttp.UnixConnector(f"/proc/self/fd/{folder}/{NAME}", limit=16, limit_per_host=16)
        timeout = aiohttp.ClientTimeout(total=_WITHIN, connect=_CONNECT_WITHIN)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        ) as http:
            yield ConsoleClient(http)
    finally:
        os.close(folder)
