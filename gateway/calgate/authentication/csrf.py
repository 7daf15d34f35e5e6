"""Which requests of another site's pages may sign in. Pure.

Ambient credentials make SameSite void: a cross-site form POST comes without the cookie, gets a 401, and the browser
sends its ticket by itself, whereupon the POST runs. So a request is judged before any handshake, by what a page cannot
forge: Fetch Metadata and the Origin header (RFC 6454). A request with neither does not come from a browser's page and
is allowed.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from calgate.http.headers import RequestHeaders
from calgate.http.origin import normalize_origin
from calgate.plugin.errors import CrossSite

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_OWN_SITE = frozenset({"", "same-origin", "none"})


def demand_own_site(
    method: str, headers: RequestHeaders, own_origins: Collection[str], embed_in: Collection[str], *, websocket: bool
) -> None:
    """Raises CrossSite for an unsafe method or a WebSocket from a foreign or null Origin, with a cookie or without."""
    origin = headers.get(b"origin").lower() if b"origin" in headers.by_name else ""
    if not origin or (method in _SAFE and not websocket):
        return
    normal = normalize_origin(origin)
    if normal and (normal in own_origins or normal in embed_in):
        return
    if origin == "null" and headers.get(b"sec-fetch-site") == "same-origin" and not websocket:
        return  # our own page under a Referrer-Policy of no-referrer
    own = " or ".join(own_origins)
    raise CrossSite(f"{'a WebSocket' if websocket else method} from origin {origin[:100]}, not {own}")


def demand_may_sign_in(method: str, headers: RequestHeaders, embed_in: Collection[str]) -> None:
    """Raises CrossSite for a request that a page of another site made, except a navigation, which may be challenged."""
    if headers.get(b"sec-fetch-site") in _OWN_SITE:
        return
    destination = headers.get(b"sec-fetch-dest")
    if method == "GET" and headers.get(b"sec-fetch-mode") == "navigate":
        if destination == "document":
            return
        if destination in ("iframe", "frame") and _origin_of(headers.get(b"referer")) in embed_in:
            return
    if normalize_origin(headers.get(b"origin")) in embed_in:
        return
    raise CrossSite(f"a {method} for {destination or 'something'} from another site's page")


def _origin_of(url: str) -> str:
    """Returns scheme and host, or "", which is not an origin, where the address cannot be read."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return normalize_origin(f"{parts.scheme}://{parts.netloc}")
