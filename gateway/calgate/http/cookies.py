"""Cookies: the gateway's, which hold a session id, and the document server's, which belong to a session."""

import hashlib
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from calgate.http.cookie_dates import read_date
from calgate.http.headers import Header
from calgate.http.request import Request

COOKIE_HTTPS = b"__Host-calgate"
COOKIE_HTTP = b"calgate"  # Chromium drops a __Host- cookie on plain http
BROWSER_HTTPS = b"__Host-calgate-browser"
BROWSER_HTTP = b"calgate-browser"
NOTE_HTTPS = b"__Host-calgate-note"
NOTE_HTTP = b"calgate-note"
ANONYMOUS_HTTPS = b"__Host-calgate-anonymous"
ANONYMOUS_HTTP = b"calgate-anonymous"
OUR_COOKIES = frozenset(
    {COOKIE_HTTPS, COOKIE_HTTP, BROWSER_HTTPS, BROWSER_HTTP, NOTE_HTTPS, NOTE_HTTP, ANONYMOUS_HTTPS, ANONYMOUS_HTTP}
)
_NOTE_LIFE = 600  # seconds
_BROWSER_ID = re.compile(rb"[A-Za-z0-9_-]{22}")
_BROWSER_LIFE = 400 * 86_400  # seconds: browsers keep no cookie for longer (RFC 6265bis, section 5.5)
EXPIRY_ROOM = 2500  # bytes of Set-Cookie headers that delete cookies: nginx reads a response's head into 4 KB
_MOST_IDENTITY = 1024  # bytes of a cookie's name, path and domain; the header that deletes it repeats them

_LONGEST_ID = 64  # bytes: ours have 43; strangers send 64 KB, and ids are remembered by their text

_DOMAIN = re.compile(rb";\s*domain\s*=\s*([^;]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class UpstreamCookie:
    """A cookie that the document server set: what a browser knows it by (RFC 6265, section 5.3)."""

    name: bytes
    path: bytes = b"/"
    domain: bytes = b""
    partitioned: bool = False  # in a browser's other jar, so it is another cookie than one of the same name without it
    secure: bool = field(default=False, compare=False)  # a deletion must repeat it

    @classmethod
    def named(cls, name: bytes) -> "UpstreamCookie":
        """Describes a cookie of which only the name is known, because the browser sent it."""
        return cls(name, secure=_has_prefix(name))

    @classmethod
    def from_text(cls, text: str) -> "UpstreamCookie":
        """Reads what `to_text` wrote."""
        name, path, domain, flags = text.encode("latin-1").split(b";", 3)
        return cls(name, path, domain, partitioned=b"p" in flags, secure=b"s" in flags)

    def to_text(self) -> str:
        """Writes the cookie as the store keeps it: "name;path;domain;flags"."""
        flags = b"s" * self.secure + b"p" * self.partitioned
        return b";".join((self.name, self.path, self.domain, flags)).decode("latin-1")

    def expiry(self) -> Header:
        """Returns the Set-Cookie header that deletes the cookie in the browser.

        A deletion mirrors the setting: another path or domain would be another cookie, and a browser ignores a
        `__Host-` or `__Secure-` name, or the overwriting of a Secure cookie, without Secure (RFC 6265bis, section 5.7).
        """
        value = self.name + (b"=" if self.name else b"=deleted") + b"; Max-Age=0; Path=" + (self.path or b"/")
        if self.domain:
            value += b"; Domain=" + self.domain
        if self.secure:
            value += b"; Secure"
        if self.partitioned:
            value += b"; Partitioned"
        return (b"Set-Cookie", value)


@dataclass(frozen=True, slots=True)
class SetCookie:
    """One Set-Cookie header of a document server."""

    cookie: UpstreamCookie
    digest: str  # of the pair that the browser will send back
    is_deletion: bool = False
    is_ignored: bool = False  # browsers keep what they have (RFC 6265bis, section 4.1.3)

    @classmethod
    def parse(cls, value: bytes, target: str) -> "SetCookie":
        """Reads the value of the header as a browser does (RFC 6265, section 5.2), for a request of this target."""
        pair, _, rest = value.partition(b";")
        name, equals, content = pair.partition(b"=")
        name, content = (name.strip(), content.strip()) if equals else (b"", pair.strip())
        attributes = _attributes(rest)
        path = attributes.get(b"path", b"")
        secure = b"secure" in attributes
        cookie = UpstreamCookie(
            name,
            path if path.startswith(b"/") else _default_path(target),
            attributes.get(b"domain", b"").lstrip(b".").lower(),
            partitioned=b"partitioned" in attributes,
            secure=secure or _has_prefix(name),
        )
        digest = digest_of(name + b"=" + content if name else content)
        return cls(cookie, digest, _is_deletion(attributes), _has_prefix(name) and not secure)

    @property
    def is_too_long(self) -> bool:
        """Whether the cookie could not be deleted again in the room that a response has for it."""
        return len(self.cookie.name) + len(self.cookie.path) + len(self.cookie.domain) > _MOST_IDENTITY


def _has_prefix(name: bytes) -> bool:
    """Whether browsers accept a cookie of this name with Secure only."""
    return name.lower().startswith((b"__host-", b"__secure-"))


def _attributes(text: bytes) -> dict[bytes, bytes]:
    """Reads attributes by lower-case name; of two with one name the last counts."""
    parts = (part.partition(b"=") for part in text.split(b";"))
    return {name.strip().lower(): value.strip() for name, _, value in parts}


def _default_path(target: str) -> bytes:
    """Returns the path of a cookie that was set without one: the folder of the request (RFC 6265, section 5.1.4)."""
    path = target.partition("?")[0]
    return path[: path.rfind("/")].encode("latin-1") or b"/" if path.startswith("/") else b"/"


def _is_deletion(attributes: dict[bytes, bytes]) -> bool:
    age = attributes.get(b"max-age", b"")
    if re.fullmatch(rb"-?\d+", age):
        return age.startswith(b"-") or not age.strip(b"0")
    expires = read_date(attributes.get(b"expires", b""))
    return expires is not None and expires < time.time()


def digest_of(pair: bytes) -> str:
    """Returns what a cookie's name and value are remembered by: the value itself may be a credential."""
    return hashlib.sha256(pair).hexdigest()[:32]


def expire_cookies(cookies: Sequence[UpstreamCookie]) -> tuple[list[Header], Sequence[UpstreamCookie]]:
    """Returns the headers that delete as many cookies as one response has room for, and the cookies left over."""
    headers: list[Header] = []
    room = EXPIRY_ROOM
    for index, cookie in enumerate(cookies):
        header = cookie.expiry()
        room -= len(header[0]) + len(header[1]) + 4
        if room < 0 and headers:
            return headers, cookies[index:]
        headers.append(header)
    return headers, ()


def cookies_named(names: Iterable[bytes], known: Iterable[UpstreamCookie]) -> list[UpstreamCookie]:
    """Returns the known cookies in order, and after them those of which the browser told only the name."""
    ordered = sorted(known)
    return ordered + sorted({UpstreamCookie.named(name) for name in names} - set(ordered))


def session_id_of(request: Request) -> str:
    """Returns the session id in the request's cookie, "" if there is none or the gateway never issued it.

    Over https the plain name is not accepted: others can have set it over plain http (RFC 6265bis, 4.1.3.2).
    """
    name = COOKIE_HTTPS if request.scheme == "https" else COOKIE_HTTP
    value = request.headers.cookies.ours.get(name, b"")
    return value.decode("latin-1") if len(value) <= _LONGEST_ID else ""


def session_cookie(scheme: str, session_id: str, same_site: str) -> Header:
    """Returns the Set-Cookie header of a session; an empty id deletes the cookie."""
    name = COOKIE_HTTPS if scheme == "https" else COOKIE_HTTP
    value = _own_cookie(name, session_id, scheme, same_site)
    return (b"Set-Cookie", value if session_id else value + b"; Max-Age=0")


def browser_id_of(request: Request) -> str:
    """Returns the id of the browser in the request's cookie, "" if there is none or the gateway never issued it."""
    name = BROWSER_HTTPS if request.scheme == "https" else BROWSER_HTTP
    value = request.headers.cookies.ours.get(name, b"")
    return value.decode("latin-1") if _BROWSER_ID.fullmatch(value) else ""


def browser_cookie(scheme: str, browser_id: str, same_site: str) -> Header:
    """Returns the Set-Cookie header of a browser, which distinguishes it from other browsers of its user."""
    name = BROWSER_HTTPS if scheme == "https" else BROWSER_HTTP
    return (b"Set-Cookie", _own_cookie(name, browser_id, scheme, same_site) + b"; Max-Age=%d" % _BROWSER_LIFE)


def note_of(request: Request) -> bytes:
    """Returns the sealed note in the request's cookie, b"" if there is none."""
    return request.headers.cookies.ours.get(NOTE_HTTPS if request.scheme == "https" else NOTE_HTTP, b"")


def note_cookie(scheme: str, sealed: bytes) -> Header:
    """Returns the Set-Cookie header of a sealed note; an empty one deletes the cookie.

    Lax: a provider's redirect back is a navigation from another site, and must bring the note along.
    """
    name = NOTE_HTTPS if scheme == "https" else NOTE_HTTP
    value = _own_cookie(name, sealed.decode("ascii"), scheme, "Lax")
    return (b"Set-Cookie", value + b"; Max-Age=%d" % (_NOTE_LIFE if sealed else 0))


def anonymous_of(request: Request) -> bytes:
    """Returns the sealed cookie of a browser on a public route, b"" if there is none."""
    return request.headers.cookies.ours.get(ANONYMOUS_HTTPS if request.scheme == "https" else ANONYMOUS_HTTP, b"")


def anonymous_cookie(scheme: str, sealed: bytes, same_site: str) -> Header:
    """Returns the Set-Cookie header of a browser on a public route; an empty value deletes the cookie."""
    name = ANONYMOUS_HTTPS if scheme == "https" else ANONYMOUS_HTTP
    value = _own_cookie(name, sealed.decode("ascii"), scheme, same_site)
    return (b"Set-Cookie", value if sealed else value + b"; Max-Age=0")


def _own_cookie(name: bytes, content: str, scheme: str, same_site: str) -> bytes:
    value = name + b"=" + content.encode("latin-1") + b"; Path=/; HttpOnly; SameSite=" + same_site.encode()
    return value + b"; Secure" if scheme == "https" else value


def may_pass_down(header: Header) -> bool:
    """Whether a document server's header may reach the browser.

    A cookie of the gateway's name could plant somebody else's session. A cookie without a name, `=calgate=…`, comes
    back as one with that name (RFC 6265bis, section 5.8.3). A cookie with a name too long could not be deleted again.
    """
    name, value = header
    if name.lower() != b"set-cookie":
        return True
    cookie = value.partition(b";")[0].lstrip(b"= \t")
    return cookie.partition(b"=")[0].strip() not in OUR_COOKIES and not SetCookie.parse(value, "/").is_too_long


def without_domain(value: bytes, host: bytes) -> bytes:
    """Returns the value of a Set-Cookie header without any Domain that is this host: browsers obey the last one."""
    return _DOMAIN.sub(lambda found: b"" if found[1].strip().lstrip(b".").lower() == host.lower() else found[0], value)
