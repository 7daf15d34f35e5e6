"""How a request goes on to the document server, and how its answer comes back.

Every message is framed anew. What the client said of itself was taken out before (`headers.py`); here the gateway
says it.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from calgate.authentication.sessions import Session
from calgate.http.cookies import OUR_COOKIES
from calgate.http.headers import Header, sort_outbound
from calgate.http.request import Request
from calgate.http.response import Response
from calgate.plugin.errors import BadGateway, GatewayTimeout
from calgate.upstream.balancer import LoadBalancer
from calgate.upstream.connection import UpstreamConnection
from calgate.upstream.pool import Unreachable, Upstream, UpstreamRequest

_DOMAIN = re.compile(rb";\s*domain\s*=\s*([^;]*)", re.IGNORECASE)
_PATH = re.compile(rb";\s*path\s*=\s*([^;]*)", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(slots=True, eq=False)
class UpstreamResponse:
    """The document server's answer, with what it asks of us."""

    wire: UpstreamConnection
    headers: list[Header]
    new_cookies: list[bytes]  # "name;path;domain" of cookies not yet known to be the session's


class Forwarder:
    """One route's way to its document servers."""

    def __init__(self, balance: LoadBalancer, *, keep_host: bool) -> None:
        self._balance = balance
        self._keep_host = keep_host

    async def send(
        self, ask: Request, session: Session, cookies: bytes, sign_on: bytes, body: bytes | None = None
    ) -> UpstreamResponse:
        """Sends the request; `body` where it was read already. Raises BadGateway, GatewayTimeout, Unavailable."""
        unreachable: Unreachable | None = None
        for member in self._balance.candidates(session.key):
            try:
                wire = await self._send(ask, member.upstream, cookies, sign_on, body)
            except Unreachable as error:  # nothing was sent, so another may be asked
                self._balance.failed(member, error)
                unreachable = error
                continue
            except (BadGateway, GatewayTimeout) as error:
                self._balance.failed(member, error)
                raise
            self._balance.served(member)
            return self._receive(ask, session, member.upstream, wire)
        assert unreachable is not None
        raise unreachable

    async def _send(
        self, ask: Request, upstream: Upstream, cookies: bytes, sign_on: bytes, body: bytes | None
    ) -> UpstreamConnection:
        chunked = body is None and ask.length is None
        length = len(body) if body is not None else ask.length
        message = self._message(ask, upstream, cookies, sign_on, chunked=chunked, length=length)
        stream: AsyncIterator[bytes] | None = None
        if body is not None:
            message += body
        elif chunked or length:
            ask.go_on()
            stream = ask.body()
        return await upstream.send(UpstreamRequest(ask.method, message, stream, chunked=chunked))

    def _receive(
        self, ask: Request, session: Session, upstream: Upstream, wire: UpstreamConnection
    ) -> UpstreamResponse:
        if wire.status == 101 and not ask.wants_websocket:
            wire.close()
            raise BadGateway("the document server switched protocols unasked")
        outbound = sort_outbound(wire.headers)
        headers = outbound.kept
        if not outbound.names_us:
            return UpstreamResponse(wire, headers, [])
        headers = [field for field in headers if not _sets_our_cookie(field)]
        cookies_set = self._rewrite(headers, ask, upstream)
        return UpstreamResponse(wire, headers, [cookie for cookie in cookies_set if cookie not in session.cookies])

    def _message(
        self,
        ask: Request,
        upstream: Upstream,
        cookies: bytes,
        sign_on: bytes,
        *,
        chunked: bool,
        length: int | None,
    ) -> bytes:
        host = ask.host if self._keep_host and ask.host else upstream.authority  # HTTP/1.0 may come without
        lines = [f"{ask.method} {ask.raw_target} HTTP/1.1\r\nHost: {host}\r\n".encode("latin-1"), ask.inbound.lines]
        if cookies:
            lines.append(b"Cookie: %b\r\n" % cookies)
        lines.append(_forwarded(ask.address, ask.scheme, ask.host))
        if chunked:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        elif length or ask.method not in ("GET", "HEAD", "OPTIONS", "DELETE"):
            lines.append(b"Content-Length: %d\r\n" % (length or 0))
        if ask.wants_websocket:
            lines.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
        lines.append(sign_on)
        lines.append(b"\r\n")
        return b"".join(lines)

    def _rewrite(self, fields: list[Header], ask: Request, upstream: Upstream) -> list[bytes]:
        """Location and Set-Cookie that name the document server name the gateway instead; the cookies that are set."""
        cookies: list[bytes] = []
        for place, (name, value) in enumerate(fields):
            lower = name.lower()
            if lower == b"set-cookie":
                fields[place] = (name, _rewrite_cookie(value, upstream.host.encode()))
                cookies.append(_cookie_place(fields[place][1]))
            elif lower in (b"location", b"content-location"):
                fields[place] = (name, _rewrite_location(value, ask, upstream))
        return cookies

    def answer(self, sent: UpstreamResponse, extra: Sequence[Header]) -> Response:
        """The answer to the client, its body streamed."""
        wire = sent.wire
        return Response(wire.status, [*sent.headers, *extra], reason=wire.reason, source=wire)


@lru_cache(4096)
def _forwarded(address: str, scheme: str, host: str) -> bytes:
    return f"X-Forwarded-For: {address}\r\nX-Forwarded-Proto: {scheme}\r\nX-Forwarded-Host: {host}\r\n".encode()


def _rewrite_location(value: bytes, ask: Request, upstream: Upstream) -> bytes:
    text = value.decode("latin-1")
    for scheme in (upstream.scheme, "http", "https"):
        start = f"{scheme}://{upstream.authority}"
        rest = text[len(start) :]
        if text[: len(start)].lower() == start.lower() and (not rest or rest[0] in "/?#"):
            return f"{ask.origin}{rest}".encode("latin-1")
    return value


def _rewrite_cookie(value: bytes, upstream_host: bytes) -> bytes:
    match = _DOMAIN.search(value)
    if match is None or match[1].strip().lstrip(b".").lower() != upstream_host.lower():
        return value
    return value[: match.start()] + value[match.end() :]


def _sets_our_cookie(field: Header) -> bool:
    """A session is the gateway's to give: whoever sets its cookie could plant another's.

    A cookie without a name, `=calgate=…`, comes back as one with it (RFC 6265bis, section 5.8.3).
    """
    name, value = field
    cookie = value.partition(b";")[0].lstrip(b"= \t")
    return name.lower() == b"set-cookie" and cookie.partition(b"=")[0].strip() in OUR_COOKIES


def _cookie_place(value: bytes) -> bytes:
    name = value.partition(b"=")[0].strip()
    path = _PATH.search(value)
    domain = _DOMAIN.search(value)
    parts = (name, path[1].strip() if path else b"/", domain[1].strip() if domain else b"")
    return b";".join(part.replace(b";", b"") for part in parts)


def encode_headers(values: Mapping[str, str]) -> bytes:
    """Sign-on headers as they are sent, each line ended. Raises ValueError for bytes that would break the message."""
    lines = []
    for name, text in values.items():
        value = text.encode("latin-1")
        if _CONTROL.search(value):
            raise ValueError(f"a control character in the value of {name}")
        lines.append(name.encode("ascii") + b": " + value + b"\r\n")
    return b"".join(lines)
