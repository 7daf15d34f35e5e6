"""Which header fields cross the gateway, each way. Pure; works on raw bytes, because what is judged is what is sent.

Order matters and is the point: hop-by-hop fields and those that `Connection` names go first, then everything that
only the gateway may say, in any spelling; only then are the gateway's own fields added (RFC 9110, section 7.6.1).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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
# framing is made anew, sign-in ends here, and who the client is, is ours to say
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
        b"x-real-ip",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-calgate-secret",
        b"x-up-devcap-post-charset",  # ASP.NET would read a body in this charset where the User-Agent begins with "UP"
    }
)
_OUR_PREFIXES = (b"x-forwarded-", b"x-remote-", b"remote-", b"proxy-")
_TOTAL_LIMIT = 256 * 1024  # bytes of all fields: four of the longest; the parser limits each, and their number
_NAMES_REMEMBERED = 1000  # spellings; a client may invent more, which are decided each time
_ONLY_ONCE = frozenset({b"authorization", b"host", b"content-length", b"transfer-encoding", b"origin", b"upgrade"})
_OPTIONS = frozenset({b"close", b"keep-alive", b"upgrade"})  # in Connection, and no field's name
_NEVER_DOWN = frozenset({b"persistent-auth", b"alt-svc", b"proxy-authenticate"})


@dataclass(frozen=True, slots=True)
class Cookies:
    """A request's cookies: ours, and the document server's."""

    ours: Mapping[bytes, bytes]  # by name; of two that differ none counts
    names: Sequence[bytes]  # of the others
    line: bytes  # the others, as they go on


NO_COOKIES = Cookies({}, (), b"")


@dataclass(slots=True, eq=False)
class RequestHeaders:
    """A request's header fields, sorted: what goes on, and what the gateway itself reads.

    Never changed once it is sorted: the connection's next request may have the very same.
    """

    forwarded: bytes = b""  # of the fields that go on, each ended, as they are sent
    cookies: Cookies = NO_COOKIES
    by_name: dict[bytes, bytes] = field(default_factory=dict)  # lower-case name -> value, of those that are read here
    size: int = 0  # bytes of all fields

    def get(self, name: bytes) -> str:
        """A field that is read here, as text; "" where it is absent."""
        return self.by_name.get(name, b"").decode("latin-1")

    def as_text(self) -> dict[str, str]:
        """The fields that the gateway reads, by name as HTTP writes them."""
        return {name.decode("latin-1").title(): value.decode("latin-1") for name, value in self.by_name.items()}


# fields that go on and that the gateway reads as well
_READ_TOO = frozenset(
    {
        b"origin",
        b"accept",
        b"content-type",
        b"sec-fetch-site",
        b"sec-fetch-mode",
        b"sec-fetch-dest",
        b"sec-purpose",
        b"purpose",
        b"x-moz",
        b"referer",
        b"user-agent",
    }
)


class RequestHeaderFilter:
    """Sorts requests' fields. What becomes of a name is decided once and remembered under the spelling it came in."""

    def __init__(self, owned: frozenset[bytes], our_cookies: frozenset[bytes]) -> None:
        """`owned`: the names (lower case) that sign-on sets; `our_cookies`: those that never go on."""
        self._owned = frozenset(name.replace(b"_", b"-") for name in owned)
        self._our_cookies = our_cookies
        self._known: dict[bytes, _Handling] = {}

    def sort(self, fields: Iterable[Header]) -> RequestHeaders:
        """Raises BadRequest for what must not be, HeadersTooLarge for too much of it.

        That is: two of a field that may stand once, `_` in a name (a CGI reads it as `-`), and a Connection field that
        names one of ours, which asks us to strip what we are there to add.
        """
        by_name: dict[bytes, bytes] = {}
        kept: list[Header] = []
        cookies: list[bytes] = []
        size = 0
        for name, value in fields:
            size += len(name) + len(value)
            fate = self._known.get(name) or self._decide(name)
            if fate.is_forwarded:
                kept.append((name, value))
            if fate.lower == b"cookie":
                cookies.append(value)
            elif fate.is_read:
                _note(by_name, fate.lower, value)
        if size > _TOTAL_LIMIT:
            raise HeadersTooLarge(f"header fields of more than {_TOTAL_LIMIT} bytes")
        if b"connection" in by_name:
            kept = self._obey_connection(kept, by_name[b"connection"])
        lines = b"".join([b"%b: %b\r\n" % field for field in kept])
        return RequestHeaders(
            lines, _split_cookies(cookies, self._our_cookies) if cookies else NO_COOKIES, by_name, size
        )

    def _decide(self, name: bytes) -> "_Handling":
        lower = name.lower()
        if self._is_ours(lower):
            fate = _Handling(lower, is_forwarded=False, is_read=True)
        elif b"_" in lower:
            raise BadRequest("a header name with an underscore")
        else:
            fate = _Handling(lower, is_forwarded=True, is_read=lower in _READ_TOO)
        if len(self._known) < _NAMES_REMEMBERED:
            self._known[name] = fate
        return fate

    def _is_ours(self, lower: bytes) -> bool:
        stays = lower in _HOP_BY_HOP or lower in _OURS or lower.replace(b"_", b"-") in self._owned
        return stays or lower == b"cookie" or lower.startswith(_OUR_PREFIXES)

    def _obey_connection(self, kept: list[Header], connection: bytes) -> list[Header]:
        named = {token.strip().lower() for token in connection.split(b",")}
        named -= {b"close", b"keep-alive", b"upgrade", b""}
        if not named:
            return kept
        if any((self._is_ours(name) and name not in _HOP_BY_HOP) or name in _READ_TOO for name in named):
            raise BadRequest("Connection names a field that is not the client's to remove")
        return [(name, value) for name, value in kept if name.lower() not in named]


def _note(by_name: dict[bytes, bytes], lower: bytes, value: bytes) -> None:
    if lower not in by_name:
        by_name[lower] = value
    elif lower in _ONLY_ONCE:
        raise BadRequest(f"two {lower.decode('latin-1')} fields")
    else:
        by_name[lower] += b", " + value


@dataclass(frozen=True, slots=True)
class _Handling:
    """What becomes of a field."""

    lower: bytes
    is_forwarded: bool
    is_read: bool


@dataclass(slots=True, eq=False)
class ResponseHeaders:
    """A reply's fields that go to the client."""

    kept: list[Header]
    may_need_rewrite: bool  # there is a Location or a Set-Cookie, which may name the document server


def sort_outbound(fields: Sequence[Header]) -> ResponseHeaders:
    """A reply's fields without the hop-by-hop ones, those Connection names, framing, and sign-in offers."""
    kept: list[Header] = []
    outbound = ResponseHeaders(kept, may_need_rewrite=False)
    named: frozenset[bytes] = frozenset()
    for header in fields:
        name, value = header
        fate = _outbound_fates.get(name) or _decide_outbound(name)
        if fate == _KEEP:
            kept.append(header)
        elif fate == _REWRITE:
            kept.append(header)
            outbound.may_need_rewrite = True
        elif fate == _OFFER:
            # Negotiate and NTLM belong to a connection, and this one is not the browser's
            if not value.strip().lower().startswith((b"negotiate", b"ntlm")):
                kept.append(header)
        elif fate == _CONNECTION and value.lower() != b"keep-alive":
            named |= {token.strip().lower() for token in value.split(b",")} - _OPTIONS
    if named:
        outbound.kept = [(name, value) for name, value in kept if name.lower() not in named]
    return outbound


_KEEP, _DROP, _REWRITE, _OFFER, _CONNECTION = range(1, 6)
_outbound_fates: dict[bytes, int] = {}  # by spelling; names come from document servers, so the number is bounded too


def _decide_outbound(name: bytes) -> int:
    lower = name.lower()
    fate = _KEEP
    if lower == b"connection":
        fate = _CONNECTION
    elif lower in _HOP_BY_HOP or lower in _NEVER_DOWN or lower == b"content-length":
        fate = _DROP
    elif lower in (b"set-cookie", b"location", b"content-location"):
        fate = _REWRITE
    elif lower == b"www-authenticate":
        fate = _OFFER
    if len(_outbound_fates) < _NAMES_REMEMBERED:
        _outbound_fates[name] = fate
    return fate


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
    return Cookies(own_cookies, names, b"; ".join(pairs))
