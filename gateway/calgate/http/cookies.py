"""Cookies: the gateway's own, and the document server's."""

from calgate.http.headers import Header
from calgate.http.request import Request

COOKIE_HTTPS = b"__Host-calgate"


COOKIE_HTTP = b"calgate"  # Chromium drops a __Host- cookie on plain http


OUR_COOKIES = frozenset({COOKIE_HTTPS, COOKIE_HTTP})


def session_id_of(ask: Request) -> str:
    """The session's cookie, "" where there is none.

    Over https the plain name is not accepted: anybody on the way may have set it (RFC 6265bis, 4.1.3.2).
    """
    return ask.inbound.cookies.ours.get(COOKIE_HTTPS if ask.scheme == "https" else COOKIE_HTTP, b"").decode("latin-1")


def expire_cookies(cookies: set[bytes]) -> list[Header]:
    """Set-Cookie fields that take the document server's cookies ("name;path;domain") out of the browser."""
    fields = []
    for cookie in sorted(cookies):
        name, path, domain = cookie.split(b";", 2)
        value = name + b"=; Max-Age=0; Path=" + (path or b"/")
        fields.append((b"Set-Cookie", value + b"; Domain=" + domain if domain else value))
    return fields
