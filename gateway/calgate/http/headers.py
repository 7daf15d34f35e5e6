"""Decides which headers are forwarded, in each direction. Pure; works on raw bytes, which are forwarded as judged.

The order is the point: first the hop-by-hop headers and those that `Connection` names are removed, then every header
that only the gateway may set, in any spelling; only then are the gateway's own headers added (RFC 9110, 7.6.1).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import itemgetter
from typing import Generic, TypeVar

from calgate.plugin.errors import BadRequest, HeadersTooLarge

Header = tuple[bytes, bytes]

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
        b"expect",
    }
)
# headers that only the gateway sets (framing, credentials, client identity); never forwarded as received
_OURS = frozenset(
    {
        b"authorization",
        b"content-length",
        b"host",
        b"forwarded",
        b"via-calgate",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-server",
        b"x-forwarded-prefix",
        b"x-forwarded-user",
        b"x-forwarded",
        b"x-real-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"front-end-https",
        b"x-original-host",
        b"x-host",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-calgate-secret",
        b"x-calgate-console",
        b"x-calgate-token",
        b"x-calgate-change",
        b"x-calgate-live",
        b"x-up-devcap-post-charset",  # ASP.NET would read a body in this charset where the User-Agent begins with "UP"
    }
)
_OUR_PREFIXES = (b"x-forwarded-", b"x-remote-", b"remote-", b"proxy-")
_TOTAL_LIMIT = 256 * 1024  # bytes of all headers: four of the longest; the parser limits each, and their number
_NAMES_REMEMBERED = 1000  # spellings; clients may invent more, which are decided each time
_ORDERS_REMEMBERED = 256  # orders of names; beyond it all are decided again
_ORDER_REMEMBERED = 1024  # bytes of the names in one
_NAME_REMEMBERED = 64  # bytes of a name; longer ones, up to 64 KB, are decided each time
_ONLY_ONCE = frozenset({b"authorization", b"host", b"content-length", b"transfer-encoding", b"origin", b"upgrade"})
_OPTIONS = frozenset({b"", b"close", b"keep-alive", b"upgrade"})  # in Connection, and not the name of a header
_NEVER_DOWN = frozenset({b"persistent-auth", b"alt-svc", b"proxy-authenticate"})


@dataclass(frozen=True, slots=True)
class Cookies:
    """The cookies of a request: the gateway's, and the document server's."""

    ours: Mapping[bytes, bytes]  # by name; empty where two of the same name differ
    names: Sequence[bytes]  # of the document server's
    line: bytes  # the document server's, as they are forwarded
    received: Sequence[bytes] = ()  # all of them, as they came


NO_COOKIES = Cookies({}, (), b"")


@dataclass(frozen=True, slots=True)
class OwnLines:
    """The gateway's own headers of a message to a document server, around those that are forwarded."""

    before: bytes
    after: bytes  # with the empty line that ends the head
    made_of: tuple[object, ...]


@dataclass(slots=True, eq=False)
class RequestHeaders:
    """The headers of a request, sorted into those that are forwarded and those that the gateway reads.

    Never changed once they are sorted: later requests with the same headers share them, and what is made of them.
    """

    forwarded: bytes = b""  # the lines that are forwarded, each with its CRLF
    cookies: Cookies = NO_COOKIES
    by_name: dict[bytes, bytes] = field(default_factory=dict)  # lower-case name -> value, of those that we read
    size: int = 0  # bytes of all headers
    sent: "OwnLines | None" = None  # once they have been sent to a document server without a task

    def get(self, name: bytes) -> str:
        """Returns a header that the gateway reads, as text; "" where it is absent."""
        return self.by_name.get(name, b"").decode("latin-1")

    def as_text(self) -> dict[str, str]:
        """Returns the headers that the gateway reads, by their names as HTTP writes them."""
        return {name.decode("latin-1").title(): value.decode("latin-1") for name, value in self.by_name.items()}


_FORWARD, _READ, _FORWARD_AND_READ, _COOKIE = range(1, 5)  # how a header of a request is handled

METHOD_OVERRIDES = (b"x-http-method-override", b"x-http-method", b"x-method-override")

# headers that are forwarded and that the gateway reads too
_READ_TOO = frozenset(
    {
        b"origin",
        b"accept",
        b"accept-language",
        b"content-type",
        b"sec-fetch-site",
        b"sec-fetch-mode",
        b"sec-fetch-dest",
        b"sec-purpose",
        b"purpose",
        b"x-moz",
        b"referer",
        b"service-worker",
        b"user-agent",
        b"sec-websocket-key",
        b"access-control-request-method",
        b"access-control-request-headers",
        b"access-control-request-private-network",
        *METHOD_OVERRIDES,
    }
)


_name_of, _value_of = itemgetter(0), itemgetter(1)
Order = TypeVar("Order")


class _Orders(Generic[Order]):
    """What becomes of the headers of a message, by their names in their order: a browser sends a few orders only.

    Going through the names of each message took a third of the time of a request.
    """

    def __init__(self, decide: Callable[[Sequence[bytes]], Order]) -> None:
        self._decide = decide
        self._known: dict[tuple[bytes, ...], Order] = {}

    def find(self, names: tuple[bytes, ...]) -> Order:
        """Returns what becomes of these headers. Raises what the decision raises."""
        order = self._known.get(names)
        if order is None:
            order = self._decide(names)
            if sum(map(len, names)) <= _ORDER_REMEMBERED:
                if len(self._known) >= _ORDERS_REMEMBERED:
                    self._known.clear()
                self._known[names] = order
        return order

    def __len__(self) -> int:
        return len(self._known)


@dataclass(frozen=True, slots=True)
class _RequestOrder:
    """What becomes of each header of a request, by its place."""

    size: int  # bytes of the names
    is_forwarded: Sequence[bool]
    lines: bytes  # those that are forwarded, with a place for each value
    is_cookie: Sequence[bool]
    is_read: Sequence[bool]
    read: Sequence[bytes]  # the lower-case names of those that are read
    has_cookies: bool
    has_repeated: bool  # one of those that are read


class RequestHeaderFilter:
    """Sorts the headers of requests. How a name is handled is decided once for each spelling that clients send."""

    def __init__(self, owned: frozenset[bytes], our_cookies: frozenset[bytes]) -> None:
        """`owned`: the lower-case names that sign-on sets; `our_cookies`: those that are never forwarded."""
        self._owned = frozenset(name.replace(b"_", b"-") for name in owned)
        self._our_cookies = our_cookies
        self._known: dict[bytes, tuple[int, bytes]] = {}  # by spelling: the handling, and the name in lower case
        self._orders = _Orders(self._order_of)

    def sort(self, raw_headers: Sequence[Header], last: RequestHeaders | None = None) -> RequestHeaders:
        """Returns the sorted headers. Raises BadRequest, and HeadersTooLarge for too many bytes.

        Refused are: two of a header that may occur once, `_` in a name (CGI reads it as `-`), and a Connection header
        that names one of the gateway's, which would strip what the gateway is there to add. `last`: headers of the
        connection's request before, whose cookies are not split again if they are the same.
        """
        order = self._orders.find(tuple(map(_name_of, raw_headers)))
        values = [*map(_value_of, raw_headers)]
        size = order.size + sum(map(len, values))
        if size > _TOTAL_LIMIT:
            raise HeadersTooLarge(f"headers of more than {_TOTAL_LIMIT} bytes")
        read = zip(order.read, compress(values, order.is_read), strict=True)
        by_name = _joined(read) if order.has_repeated else dict(read)
        if b"connection" in by_name and by_name[b"connection"] != b"keep-alive":
            kept = self._obey_connection(compress(raw_headers, order.is_forwarded), by_name[b"connection"])
            lines = b"".join([name + b": " + value + b"\r\n" for name, value in kept])
        else:
            lines = order.lines % tuple(compress(values, order.is_forwarded))
        cookies = NO_COOKIES
        if order.has_cookies:
            received = [*compress(values, order.is_cookie)]
            is_same = last is not None and last.cookies.received == received
            cookies = last.cookies if is_same and last is not None else _split_cookies(received, self._our_cookies)
        return RequestHeaders(lines, cookies, by_name, size)

    def _order_of(self, names: Sequence[bytes]) -> "_RequestOrder":
        """Decides what becomes of headers with these names, in this order. Raises BadRequest."""
        decided = [self._known.get(name) or self._decide(name) for name in names]
        is_read = [handling in (_READ, _FORWARD_AND_READ) for handling, _ in decided]
        read = [lower for _, lower in compress(decided, is_read)]
        is_forwarded = [handling in (_FORWARD, _FORWARD_AND_READ) for handling, _ in decided]
        is_cookie = [handling is _COOKIE for handling, _ in decided]
        return _RequestOrder(
            sum(map(len, names)),
            is_forwarded,
            b"".join(name.replace(b"%", b"%%") + b": %b\r\n" for name in compress(names, is_forwarded)),
            is_cookie,
            is_read,
            read,
            has_cookies=any(is_cookie),
            has_repeated=len(set(read)) < len(read),
        )

    def _decide(self, name: bytes) -> tuple[int, bytes]:
        """Returns how a header is handled, and its name in lower case. Raises BadRequest for `_` in a name."""
        lower = name.lower()
        handling = _FORWARD
        if lower == b"cookie":
            handling = _COOKIE
        elif self._is_ours(lower):
            handling = _READ
        elif b"_" in lower:
            raise BadRequest("a header name with an underscore")
        elif lower in _READ_TOO:
            handling = _FORWARD_AND_READ
        if len(self._known) < _NAMES_REMEMBERED and len(name) <= _NAME_REMEMBERED:
            self._known[name] = (handling, lower)
        return handling, lower

    def _is_ours(self, lower: bytes) -> bool:
        stays = lower in _HOP_BY_HOP or lower in _OURS or lower.replace(b"_", b"-") in self._owned
        return stays or lower == b"cookie" or lower.startswith(_OUR_PREFIXES)

    def _obey_connection(self, kept: Iterable[Header], connection: bytes) -> Iterable[Header]:
        named = {token.strip().lower() for token in connection.split(b",")}
        named -= _OPTIONS
        if not named:
            return kept
        if any((self._is_ours(name) and name not in _HOP_BY_HOP) or name in _READ_TOO for name in named):
            raise BadRequest("Connection names a header that a client must not remove")
        return [(name, value) for name, value in kept if name.lower() not in named]


def _joined(read: Iterable[Header]) -> dict[bytes, bytes]:
    """Returns the values by name; repeated ones as one list. Raises BadRequest for two of what may occur once."""
    by_name: dict[bytes, bytes] = {}
    for name, value in read:
        if name not in by_name:
            by_name[name] = value
        elif name in _ONLY_ONCE:
            raise BadRequest(f"two {name.decode('latin-1')} headers")
        else:
            by_name[name] += b", " + value
    return by_name


@dataclass(slots=True, eq=False)
class ResponseHeaders:
    """The headers of a response, sorted into those that go to the client and those that frame the body."""

    kept: list[Header]
    may_need_rewrite: bool = False  # one of them may name the document server
    has_date: bool = False
    lengths: Sequence[bytes] = ()  # the values of Content-Length
    encodings: Sequence[bytes] = ()  # the values of Transfer-Encoding


@dataclass(frozen=True, slots=True)
class _ResponseOrder:
    """One place for each header of the response."""

    is_kept: Sequence[bool]
    is_length: Sequence[bool]
    is_encoding: Sequence[bool]
    is_connection: Sequence[bool]
    may_need_rewrite: bool
    has_date: bool
    has_offer: bool


def sort_outbound(raw_headers: Sequence[Header]) -> ResponseHeaders:
    """Removes hop-by-hop headers, those that Connection names, framing, and offers of Negotiate and NTLM."""
    order = _outbound_orders.find(tuple(map(_name_of, raw_headers)))
    kept = [*compress(raw_headers, order.is_kept)]
    for value in map(_value_of, compress(raw_headers, order.is_connection)):
        if value != b"keep-alive":
            kept = _without_named(kept, value)
    if order.has_offer:
        kept = [header for header in kept if not _is_offer(header)]
    return ResponseHeaders(
        kept,
        order.may_need_rewrite,
        order.has_date,
        [*map(_value_of, compress(raw_headers, order.is_length))],
        [*map(_value_of, compress(raw_headers, order.is_encoding))],
    )


def _without_named(kept: Iterable[Header], connection: bytes) -> list[Header]:
    named = {token.strip().lower() for token in connection.split(b",")} - _OPTIONS
    return [(name, value) for name, value in kept if name.lower() not in named]


def _is_offer(header: Header) -> bool:
    """Whether it offers Negotiate or NTLM: they belong to a connection, and the upstream one is not the browser's."""
    name, value = header
    return name.lower() == b"www-authenticate" and value.strip().lower().startswith((b"negotiate", b"ntlm"))


_KEEP, _DROP, _REWRITE, _OFFER, _CONNECTION, _DATE, _LENGTH, _ENCODING = range(1, 9)
_outbound_handling: dict[bytes, int] = {}  # by spelling; bounded too, because document servers choose the names
_OUTBOUND = {
    b"connection": _CONNECTION,
    b"content-length": _LENGTH,
    b"transfer-encoding": _ENCODING,
    b"date": _DATE,
    b"www-authenticate": _OFFER,
    **dict.fromkeys((b"set-cookie", b"location", b"content-location", b"refresh", b"link"), _REWRITE),
}


def _outbound_order(names: Sequence[bytes]) -> _ResponseOrder:
    decided = [_outbound_handling.get(name) or _decide_outbound(name) for name in names]
    return _ResponseOrder(
        [handling in (_KEEP, _REWRITE, _DATE, _OFFER) for handling in decided],
        [handling is _LENGTH for handling in decided],
        [handling is _ENCODING for handling in decided],
        [handling is _CONNECTION for handling in decided],
        may_need_rewrite=_REWRITE in decided,
        has_date=_DATE in decided,
        has_offer=_OFFER in decided,
    )


_outbound_orders = _Orders(_outbound_order)


def _decide_outbound(name: bytes) -> int:
    lower = name.lower()
    is_dropped = lower in _HOP_BY_HOP or lower in _NEVER_DOWN
    handling = _OUTBOUND.get(lower, _DROP if is_dropped else _KEEP)
    if len(_outbound_handling) < _NAMES_REMEMBERED and len(name) <= _NAME_REMEMBERED:
        _outbound_handling[name] = handling
    return handling


def _split_cookies(lines: Sequence[bytes], ours: frozenset[bytes]) -> Cookies:
    own_cookies: dict[bytes, bytes] = {}
    names: list[bytes] = []
    pairs: list[bytes] = []
    for line in lines:
        for part in line.split(b";"):
            pair = part.strip()
            name, _, value = pair.partition(b"=")
            if name not in ours:
                if pair:
                    names.append(name)
                    pairs.append(pair)
            elif own_cookies.setdefault(name, value) != value:
                own_cookies[name] = b""
    return Cookies(own_cookies, names, b"; ".join(pairs), lines)
