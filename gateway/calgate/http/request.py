"""A request as the pipeline sees it: method, target, headers, client address, connection."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from time import perf_counter

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError

from calgate.http.address import client_address, client_host, client_scheme, is_trusted
from calgate.http.connection import ClientConnection, RawRequest
from calgate.http.headers import METHOD_OVERRIDES, Header, RequestHeaderFilter, RequestHeaders
from calgate.http.known_heads import LONGEST_BODY, KnownHead
from calgate.http.origin import own_origins
from calgate.http.target import Target, read_target, to_origin_form
from calgate.plugin.errors import BadRequest, MethodRefused, Refusal, RequestTimeout, TooLarge
from calgate.plugin.settings import Network
from calgate.telemetry import log

_PLAIN_METHODS = frozenset({"GET", "HEAD", "POST"})
_NOT_PLAIN = frozenset(
    {b"authorization", b"expect", b"transfer-encoding", b"upgrade", b"sec-websocket-key", b"proxy-authorization"}
)
_BODY_PATIENCE = 60.0  # seconds without a byte of a body
_PATH_LOGGED = 1000  # characters of a path in the line of a refusal: a stranger must not fill the log
_LONGEST_HOST = 260  # characters: a name has at most 253 (RFC 1035, 2.3.4), and a port follows it


@dataclass(slots=True, eq=False)
class Request:
    """One request. The client chose everything in it except `address`, `scheme` and `behind_proxy`."""

    raw: RawRequest
    connection: ClientConnection
    method: str
    raw_target: str  # as received and as forwarded
    target: Target
    headers: RequestHeaders
    host: str  # of the public address: as in the Host header, in lower case
    scheme: str  # of the public address: also "https" behind a trusted proxy that ends TLS
    address: str  # the client's, as seen through trusted proxies
    behind_proxy: bool
    sign_in_headers: Sequence[Header] = ()  # of the response to a request that signed in, whatever its status
    public_origins: Sequence[str] = ()  # of the settings file
    awaits_continue: bool = False  # the client sends no body before it gets "100 Continue" or a final response
    user: str | None = None  # CORP\\alice, once signed in: for pages and the log
    back_to: str = ""  # on a page of the gateway: the path that the user wanted
    started: float = field(default_factory=perf_counter)

    _arrived: bytes | None = None  # the whole body, once it was taken from the connection
    _reference: str = ""
    _logged: Refusal | None = None  # the refusal that the log has a line for

    def log_refusal(self, event: str, refusal: Refusal, **fields: object) -> None:
        """Writes the log line that the reference number of a refusal leads to; each refusal is logged once."""
        if self._logged is refusal:
            return
        self._logged = refusal
        facts: dict[str, object] = {
            "reference": self.reference,
            "user": self.user,
            "address": self.address,
            "peer": self.connection.address,
            "method": self.method,
            "path": self.target.path[:_PATH_LOGGED],
            "code": refusal.code,
            "rule": getattr(refusal, "rule", None),
            "reason": refusal.detail,
            "ms": self.ms,
        }
        log.decision(event, **(facts | fields))

    @property
    def reference(self) -> str:
        """The reference number of this request in the log and on pages; made when first needed."""
        self._reference = self._reference or log.reference()
        return self._reference

    @property
    def origin(self) -> str:
        """The public origin of the site: scheme, host, and the port where it is not the default one."""
        return self.own_origins[0]

    @property
    def own_origins(self) -> Sequence[str]:
        """The origins that pages of this site can have, normalized."""
        return own_origins(self.scheme, self.host, self.public_origins)

    @property
    def names_websocket(self) -> bool:
        """Whether the request has `Upgrade: websocket`, in whatever form."""
        return self.headers.by_name.get(b"upgrade", b"").strip().lower() == b"websocket"

    @property
    def wants_websocket(self) -> bool:
        """Whether the request is a WebSocket handshake: GET in HTTP/1.1, with Connection and a key (RFC 6455, 4.1)."""
        if not self.names_websocket or self.method != "GET" or self.raw.version < HttpVersion11:
            return False
        if not self.headers.by_name.get(b"sec-websocket-key"):
            return False
        connection = self.headers.by_name.get(b"connection", b"").lower()
        return b"upgrade" in {option.strip() for option in connection.split(b",")}

    @property
    def is_plain(self) -> bool:
        """Whether all of the request is here, and its response is an ordinary one on a connection that stays open."""
        if self.method not in _PLAIN_METHODS or not self.raw.keep_alive or self.raw.version != HttpVersion11:
            return False
        if not _NOT_PLAIN.isdisjoint(self.headers.by_name):
            return False
        return self.length == 0 or self.arrived_body() is not None

    @property
    def is_browser(self) -> bool:
        """Whether a browser sent the request, not a program: browsers send Fetch Metadata, over https at least."""
        return b"sec-fetch-mode" in self.headers.by_name or self.headers.get(b"user-agent").startswith("Mozilla/")

    @property
    def ms(self) -> float:
        """Milliseconds since the request was read."""
        return round((perf_counter() - self.started) * 1000, 1)

    @property
    def length(self) -> int | None:
        """The body's Content-Length in bytes, 0 if there is no body, None for a chunked one."""
        if b"transfer-encoding" in self.headers.by_name:
            return None
        return int(self.headers.by_name.get(b"content-length", b"0"))

    def send_continue(self) -> None:
        """Sends "100 Continue" where the client waits for it: only after sign-in and claim, so aiohttp must not.

        A client that speaks HTTP/1.0 would take it for the final response (RFC 9110, section 10.1.1).
        """
        expects, self.awaits_continue = self.awaits_continue, False
        if expects and self.raw.version >= HttpVersion11 and self.headers.by_name[b"expect"].lower() == b"100-continue":
            self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def arrived_body(self) -> bytes | None:
        """Returns a small body that arrived whole with its head, else None; never waits.

        It is sent in one write with its head: a third less time for 1 KB.
        """
        if self._arrived is not None:
            return self._arrived
        length = self.length
        content = self.raw.content
        if not length or length > LONGEST_BODY or self.awaits_continue or not content.is_eof() or content.exception():
            return None
        self._arrived = content.read_nowait()
        return self._arrived

    def take_body(self, body: bytes) -> None:
        """Gives the request its whole body, which is not in the connection."""
        self._arrived = body

    async def read_body(self, limit: int) -> bytes:
        """Returns the whole body, of at most `limit` bytes. Raises TooLarge, BadRequest, RequestTimeout."""
        body = self._arrived
        if body is None:
            self.send_continue()
            pieces = []
            size = 0
            async for piece in self.body():
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    break
            body = b"".join(pieces)
        if len(body) > limit:
            raise TooLarge(f"the body has more than the {limit} bytes that the gateway reads to find the document")
        return body

    async def body(self) -> AsyncIterator[bytes]:
        """Yields the body in pieces, as they arrive. Raises BadRequest if its framing is broken, RequestTimeout."""
        content = self.raw.content
        self.connection.begin_upload()
        try:
            while True:
                async with asyncio.timeout(_BODY_PATIENCE):
                    piece = await content.readany()
                if not piece:
                    return
                yield piece
        except TimeoutError as error:
            raise RequestTimeout(f"the client sent nothing of its body for {_BODY_PATIENCE:g} s") from error
        except (web.RequestPayloadError, HttpProcessingError) as error:
            raise BadRequest("the body's framing is broken") from error
        finally:
            self.connection.end_upload()


def read_request(
    raw: RawRequest,
    *,
    header_filter: RequestHeaderFilter,
    trusted: Sequence[Network],
    methods: frozenset[str],
    public_origins: Sequence[str] = (),
) -> Request:
    """Reads a request. Raises BadRequest if it can be read in more than one way, MethodRefused."""
    connection = raw.connection
    headers = connection.sorted_headers(raw.raw_headers, header_filter)
    if raw.version not in (HttpVersion10, HttpVersion11):
        raise BadRequest("not HTTP/1.0 or HTTP/1.1")  # llhttp accepts 0.9 and 2.0
    if raw.method not in methods:
        raise MethodRefused(f"method {raw.method[:20]!r}")
    _demand_no_other_method(headers, methods)
    _demand_plain_framing(raw, headers)
    host = headers.get(b"host").lower()
    if not _is_host(host) and (host or raw.version >= HttpVersion11):  # HTTP/1.0 may leave it out
        raise BadRequest("the Host header is missing or malformed")
    raw_target = to_origin_form(raw.raw_path, host)
    peer = connection.address
    behind_proxy = bool(trusted) and is_trusted(peer, trusted)
    scheme = "https" if connection.is_secure else "http"
    address = peer
    if behind_proxy:
        address = client_address(peer, headers.get(b"x-forwarded-for"), trusted)
        scheme, host = _forwarded_origin(headers, scheme, host)
    return Request(
        raw,
        connection,
        raw.method,
        raw_target,
        read_target(raw_target),
        headers,
        host,
        scheme,
        address,
        behind_proxy,
        public_origins=public_origins,
        awaits_continue=b"expect" in headers.by_name,
    )


def _forwarded_origin(headers: RequestHeaders, scheme: str, host: str) -> tuple[str, str]:
    """Returns scheme and host as the client sees them: a trusted proxy may name others than it uses itself."""
    if b"x-forwarded-proto" in headers.by_name:
        scheme = client_scheme(headers.get(b"x-forwarded-proto"))
    if b"x-forwarded-host" in headers.by_name:
        host = client_host(headers.get(b"x-forwarded-host"))
        if not _is_host(host):
            raise BadRequest("X-Forwarded-Host of a trusted proxy is malformed")
    return scheme, host


def known_request(raw: RawRequest, known: KnownHead, public_origins: Sequence[str]) -> Request:
    """Makes a request of headers that were read before. Raises BadRequest for a target that can be read in two ways."""
    request = Request(
        raw,
        raw.connection,
        raw.method,
        raw.raw_path,
        read_target(raw.raw_path),
        known.headers,
        known.host,
        known.scheme,
        known.address,
        known.behind_proxy,
        public_origins=public_origins,
    )
    if raw.body:
        request.take_body(raw.body)
    return request


def _demand_no_other_method(headers: RequestHeaders, methods: frozenset[str]) -> None:
    """Raises MethodRefused where some servers would take the request for one of a method that is not accepted."""
    for name in METHOD_OVERRIDES:
        if name in headers.by_name and (method := headers.get(name).strip().upper()) not in methods:
            raise MethodRefused(f"method {method[:20]!r} in {name.decode()}")


def _demand_plain_framing(raw: RawRequest, headers: RequestHeaders) -> None:
    """Raises BadRequest for framing that aiohttp accepts and other servers read differently.

    That is `gzip, chunked`, chunks in HTTP/1.0, and an upgrade with a body.
    """
    encoding = headers.by_name.get(b"transfer-encoding")
    if encoding is not None and (encoding.strip().lower() != b"chunked" or raw.version < HttpVersion11):
        raise BadRequest("a Transfer-Encoding other than chunked, or in HTTP/1.0")
    has_body = encoding is not None or headers.by_name.get(b"content-length", b"0") != b"0"
    if has_body and b"upgrade" in headers.by_name:
        raise BadRequest("an Upgrade with a body")


def _is_host(host: str) -> bool:
    return len(host) <= _LONGEST_HOST and _has_host_form(host)  # the length first: the cache must hold short keys only


@lru_cache(1024)
def _has_host_form(host: str) -> bool:
    name = host[1:].replace("]", "", 1) if host.startswith("[") else host
    return bool(host) and all(c.isalnum() or c in ".-:_" for c in name) and host.isascii()
