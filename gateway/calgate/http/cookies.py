"""Cookies: the gateway's, which hold a session id, and the document server's, which belong to a session."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from calgate.http.headers import Header
from calgate.http.request import Request

COOKIE_HTTPS = b"__Host-calgate"
COOKIE_HTTP = b"calgate"  # Chromium drops a __Host- cookie on plain http
OUR_COOKIES = frozenset({COOKIE_HTTPS, COOKIE_HTTP})

_DOMAIN = re.compile(rb";\s*domain\s*=\s*([^;]*)", re.IGNORECASE)
_PATH = re.compile(rb";\s*path\s*=\s*([^;]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class UpstreamCookie:
    """A cookie that the document server set: what a browser knows it by (RFC 6265, section 5.3)."""

    name: bytes
    path: bytes = b"/"
    domain: bytes = b""

    @classmethod
    def parse(cls, value: bytes) -> "UpstreamCookie":
        """Reads the value of a Set-Cookie header."""
        path = _PATH.search(value)
        domain = _DOMAIN.search(value)
        return cls(
            value.partition(b"=")[0].strip().replace(b";", b""),
            path[1].strip() if path else b"/",
            domain[1].strip() if domain else b"",
        )

    @classmethod
    def from_text(cls, text: str) -> "UpstreamCookie":
        """Reads what `to_text` wrote."""
        name, path, domain = text.encode("latin-1").split(b";", 2)
        return cls(name, path, domain)

    def to_text(self) -> str:
        """As the store keeps it: "name;path;domain"."""
        return b";".join((self.name, self.path, self.domain)).decode("latin-1")

    def expiry(self) -> Header:
        """The Set-Cookie header that takes the cookie out of the browser."""
        value = self.name + b"=; Max-Age=0; Path=" + (self.path or b"/")
        return (b"Set-Cookie", value + b"; Domain=" + self.domain if self.domain else value)


def expire_cookies(cookies: Iterable[UpstreamCookie]) -> list[Header]:
    """Set-Cookie headers that take the document server's cookies out of the browser."""
    return [cookie.expiry() for cookie in sorted(set(cookies))]


def session_id_of(request: Request) -> str:
    """The session id in the request's cookie, "" where there is none.

    Over https the plain name is not accepted: anybody on the way may have set it (RFC 6265bis, 4.1.3.2).
    """
    name = COOKIE_HTTPS if request.scheme == "https" else COOKIE_HTTP
    return request.headers.cookies.ours.get(name, b"").decode("latin-1")


def sets_gateway_cookie(header: Header) -> bool:
    """Whether a document server's header sets a cookie of the gateway's: it could plant somebody else's session.

    A cookie without a name, `=calgate=…`, comes back as one with it (RFC 6265bis, section 5.8.3).
    """
    name, value = header
    cookie = value.partition(b";")[0].lstrip(b"= \t")
    return name.lower() == b"set-cookie" and cookie.partition(b"=")[0].strip() in OUR_COOKIES


def without_domain(value: bytes, host: bytes) -> bytes:
    """The value of a Set-Cookie header without its Domain, where that is this host."""
    match = _DOMAIN.search(value)
    if match is None or match[1].strip().lstrip(b".").lower() != host.lower():
        return value
    return value[: match.start()] + value[match.end() :]
