"""Forwards a request to a document server, and makes the response to the client from what comes back.

Every message gets new framing. Headers about the client were removed in `http/headers.py`; here the gateway adds its
own.
"""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from calgate.http.cookies import SetCookie, may_pass_down, without_domain
from calgate.http.headers import Header, OwnLines
from calgate.http.request import Request
from calgate.http.response import Response, date
from calgate.plugin.errors import BadGateway, GatewayTimeout, Unavailable
from calgate.upstream.balancer import LoadBalancer, Server
from calgate.upstream.connection import UpstreamConnection
from calgate.upstream.location import rewrite_links, rewrite_url
from calgate.upstream.pool import Unreachable, Upstream, UpstreamRequest

_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_CACHING = frozenset({b"cache-control", b"expires", b"pragma", b"cdn-cache-control", b"surrogate-control", b"age"})
_REWRITERS = {
    b"location": rewrite_url,
    b"content-location": rewrite_url,
    b"refresh": rewrite_url,
    b"link": rewrite_links,
}
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(slots=True, eq=False)
class UpstreamResponse:
    """The response of a document server, once its head has arrived."""

    connection: UpstreamConnection
    headers: list[Header]
    cookies_set: list[SetCookie]


@dataclass(slots=True, eq=False)
class Sent:
    """A request that was sent at once, to the first of its document servers; nobody has read the response yet."""

    members: Sequence[Server]
    upstream_request: UpstreamRequest
    connection: UpstreamConnection


@dataclass(frozen=True, slots=True)
class Introduction:
    """Signs the user in at the document server that the request is sent to, each time that it is sent."""

    headers: Callable[[Upstream], Awaitable[bytes]]  # as lines; valid for one request to this server
    owner: str  # the only one who may use the connection afterwards; "": anybody


class Forwarder:
    """Sends the requests of one route to its document servers."""

    def __init__(self, load_balancer: LoadBalancer, *, keep_host: bool, websockets_per_user: int = 500) -> None:
        self._load_balancer = load_balancer
        self._keep_host = keep_host
        self._websockets_per_user = websockets_per_user
        self._websockets: Counter[str] = Counter()  # open ones, by user

    async def send(
        self,
        request: Request,
        session_key: str,
        cookies: bytes,
        sign_on: bytes,
        body: bytes | None = None,
        *,
        user: str = "",
        sent: Sent | None = None,
        introduction: Introduction | None = None,
    ) -> UpstreamResponse:
        """Sends a request; `body`: the whole body, where it was read already; `user`: whose limit it counts towards.

        `sent`: what `send_at_once` returned for this request. `introduction` makes the sign-on headers instead of
        `sign_on`. Raises BadGateway, GatewayTimeout, Unavailable, and what `introduction` raises.
        """
        if self._websockets[user] >= self._websockets_per_user and request.wants_websocket:
            raise Unavailable(f"this user has {self._websockets_per_user} WebSockets open", code="no-upstream")
        unreachable: Unreachable | None = None
        for member in sent.members if sent is not None else self._load_balancer.candidates(session_key):
            try:
                if sent is not None and member is sent.members[0]:
                    connection = await member.upstream.send(sent.upstream_request, sent.connection)
                else:
                    if introduction is not None:
                        sign_on = await introduction.headers(member.upstream)
                    upstream_request = self._request(request, member.upstream, cookies, sign_on, body, user)
                    if introduction is not None:
                        self._renew_by(introduction, upstream_request, request, member.upstream, cookies, body)
                    connection = await member.upstream.send(upstream_request)
            except Unreachable as error:  # nothing was sent, so the next server can have it
                self._load_balancer.failed(member, error)
                unreachable = error
                continue
            except (BadGateway, GatewayTimeout) as error:
                self._load_balancer.failed(member, error)
                raise
            return self._receive(request, member, connection)
        assert unreachable is not None
        raise unreachable

    @contextmanager
    def open_websocket(self, user: str) -> Iterator[None]:
        """Counts a WebSocket of the user while it is open: one user must not use up the descriptors of all."""
        self._websockets[user] += 1
        try:
            yield
        finally:
            self._websockets[user] -= 1
            if not self._websockets[user]:
                del self._websockets[user]

    def _renew_by(
        self,
        introduction: Introduction,
        upstream_request: UpstreamRequest,
        request: Request,
        upstream: Upstream,
        cookies: bytes,
        body: bytes | None,
    ) -> None:
        """Lets the pool make the message again, with a new introduction, before it is sent a second time."""

        async def renew() -> bytes:
            sign_on = await introduction.headers(upstream)
            return self._request(request, upstream, cookies, sign_on, body, upstream_request.user).message

        upstream_request.owner = introduction.owner
        upstream_request.renew = renew

    def send_at_once(
        self, request: Request, session_key: str, cookies: bytes, sign_on: bytes, body: bytes | None, user: str
    ) -> Sent | None:
        """Sends a request without waiting; None if the session's document server has no idle connection for it.

        There must be no body, or `body`, or one that has arrived. Raises Unavailable.
        """
        members = self._load_balancer.candidates(session_key)
        upstream = members[0].upstream
        if not upstream.has_idle:
            return None
        message = self._message_at_once(request, upstream, cookies, sign_on)
        if body is None:
            body = request.arrived_body()
        upstream_request = UpstreamRequest(request.method, message if body is None else message + body, None, user)
        connection = upstream.send_at_once(upstream_request)
        return None if connection is None else Sent(members, upstream_request, connection)

    def receive(self, request: Request, sent: Sent) -> UpstreamResponse:
        """Returns the response to a request that was sent at once; its head has arrived. Raises BadGateway."""
        return self._receive(request, sent.members[0], sent.connection)

    def _request(
        self, request: Request, upstream: Upstream, cookies: bytes, sign_on: bytes, body: bytes | None, user: str
    ) -> UpstreamRequest:
        if body is None:
            body = request.arrived_body()
        chunked = body is None and request.length is None
        length = len(body) if body is not None else request.length
        message = self._message(request, upstream, cookies, sign_on, chunked=chunked, length=length)
        stream: AsyncIterator[bytes] | None = None
        if body is not None:
            message += body
        elif chunked or length:
            request.send_continue()
            stream = request.body()
        return UpstreamRequest(request.method, message, stream, user, chunked)

    def _receive(self, request: Request, member: Server, connection: UpstreamConnection) -> UpstreamResponse:
        self._load_balancer.served(member)
        if connection.status == 101 and not request.wants_websocket:
            connection.close()
            raise BadGateway("the document server switched protocols without a request to")
        outbound = connection.sorted_headers
        headers = outbound.kept
        if connection.status == 101:
            _check_websocket(request, connection)
        elif not outbound.has_date:
            headers.append((b"Date", date()))  # RFC 9110, 6.6.1
            outbound.has_date = True
        if not outbound.may_need_rewrite:
            return UpstreamResponse(connection, headers, [])
        headers = [header for header in headers if may_pass_down(header)]
        return UpstreamResponse(connection, headers, self._rewrite(headers, request, member.upstream))

    def _message(
        self,
        request: Request,
        upstream: Upstream,
        cookies: bytes,
        sign_on: bytes,
        *,
        chunked: bool,
        length: int | None,
    ) -> bytes:
        before, after = self._own_lines(request, upstream, cookies, sign_on, chunked=chunked, length=length)
        return b"".join((_request_line(request), before, request.headers.forwarded, after))

    def _own_lines(
        self,
        request: Request,
        upstream: Upstream,
        cookies: bytes,
        sign_on: bytes,
        *,
        chunked: bool,
        length: int | None,
    ) -> tuple[bytes, bytes]:
        """Returns the gateway's own headers: those before the forwarded ones, and those after them."""
        host = request.host if self._keep_host and request.host else upstream.authority  # HTTP/1.0 needs no Host
        lines = [b"Cookie: %b\r\n" % cookies] if cookies else []
        lines.append(_forwarded(request.address, request.scheme, request.host, request.raw.version.minor))
        if chunked:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        elif length or request.method not in ("GET", "HEAD", "OPTIONS", "DELETE"):
            lines.append(b"Content-Length: %d\r\n" % (length or 0))
        if request.wants_websocket:
            lines.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
        lines.append(sign_on)
        lines.append(b"\r\n")
        return f"Host: {host}\r\n".encode("latin-1"), b"".join(lines)

    def _message_at_once(self, request: Request, upstream: Upstream, cookies: bytes, sign_on: bytes) -> bytes:
        """Like `_message`, for a plain request; the gateway's own headers are made once for equal ones."""
        headers = request.headers
        made_of = (upstream, request.method, cookies, sign_on, headers.by_name.get(b"content-length"))
        own = headers.sent
        if own is None or own.made_of != made_of:
            length = request.length
            before, after = self._own_lines(request, upstream, cookies, sign_on, chunked=False, length=length)
            own = headers.sent = OwnLines(before, after, made_of)
        return b"".join((_request_line(request), own.before, headers.forwarded, own.after))

    def _rewrite(self, headers: list[Header], request: Request, upstream: Upstream) -> list[SetCookie]:
        """Replaces the document server's name in headers by the gateway's. Returns the cookies that are set."""
        cookies: list[SetCookie] = []
        for index, (name, value) in enumerate(headers):
            lower = name.lower()
            if lower == b"set-cookie":
                headers[index] = (name, without_domain(value, upstream.host.encode()))
                cookies.append(SetCookie.parse(headers[index][1], request.raw_target))
            elif rewrite := _REWRITERS.get(lower):
                headers[index] = (name, rewrite(value, self._load_balancer.authorities, request.origin))
        return cookies

    def response(self, upstream_response: UpstreamResponse, extra: Sequence[Header]) -> Response:
        """Makes the response to the client, with a streamed body."""
        connection = upstream_response.connection
        headers = upstream_response.headers
        if extra:
            headers = [*_uncacheable(headers), *extra]
        return Response(connection.status, headers, reason=connection.reason, body_stream=connection)


def _request_line(request: Request) -> bytes:
    return f"{request.method} {request.raw_target} HTTP/1.1\r\n".encode("latin-1")


@lru_cache(4096)
def _forwarded(address: str, scheme: str, host: str, minor_version: int) -> bytes:
    forwarded = f"X-Forwarded-For: {address}\r\nX-Forwarded-Proto: {scheme}\r\nX-Forwarded-Host: {host}\r\n"
    return f"{forwarded}Via: 1.{minor_version} calgate\r\n".encode()  # RFC 9110, 7.6.3


def _check_websocket(request: Request, connection: UpstreamConnection) -> None:
    """Raises BadGateway for a 101 that does not prove that the server has read this handshake (RFC 6455, 4.1)."""
    key = request.headers.by_name.get(b"sec-websocket-key", b"").strip()
    proof = base64.b64encode(hashlib.sha1(key + _WEBSOCKET, usedforsecurity=False).digest())
    answers = [value.strip() for name, value in connection.headers if name.lower() == b"sec-websocket-accept"]
    upgrades = [value.strip().lower() for name, value in connection.headers if name.lower() == b"upgrade"]
    if answers != [proof] or upgrades != [b"websocket"]:
        connection.close()
        raise BadGateway("the document server's 101 response does not fit the WebSocket handshake")


def _uncacheable(headers: Sequence[Header]) -> list[Header]:
    """The headers of a response that carries a session cookie: no cache may pass it on to other users."""
    kept = [header for header in headers if header[0].lower() not in _CACHING]
    return [*kept, (b"Cache-Control", b"no-store")]


def encode_headers(values: Mapping[str, str]) -> bytes:
    """Returns sign-on headers as lines, each with its CRLF. Raises ValueError for control characters."""
    lines = []
    for name, text in values.items():
        value = text.encode("latin-1")
        if _CONTROL.search(value):
            raise ValueError(f"a control character in the value of {name}")
        lines.append(name.encode("ascii") + b": " + value + b"\r\n")
    return b"".join(lines)
