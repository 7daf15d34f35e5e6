"""Rewrites URLs in response headers that name the document server, or the gateway by a scheme it does not use. Pure."""

import re
from collections.abc import Collection

from calgate.http.origin import normalize_origin

_URL = re.compile(rb"(?P<before>\s*(?:[0-9.]+\s*[;,]\s*(?:url\s*=\s*)?[\"']?)?)", re.IGNORECASE)
_LINK = re.compile(rb"<([^<>]*)>")
_ABSOLUTE = re.compile(
    rb"(?:(?P<scheme>https?):)?//(?P<authority>[^/?#\\\"'\s]*)(?P<rest>(?:[/?#\"'].*)?)", re.IGNORECASE | re.DOTALL
)


def rewrite_url(value: bytes, upstream: Collection[str], public_origin: str) -> bytes:
    """Returns the value of Location, Content-Location or Refresh with the public origin where it names the server.

    `upstream`: the document server's authorities in lower case. Also replaces http by https for the gateway's own
    name: a document server behind TLS builds its URLs from Host and from its own scheme.
    """
    prefix = _URL.match(value)
    start = prefix.end() if prefix is not None else 0
    match = _ABSOLUTE.fullmatch(value, start)
    if match is None:
        return value
    scheme = (match["scheme"] or b"").decode().lower()
    authority = match["authority"].decode("latin-1").lower().rpartition("@")[2]  # a user is for the document server
    if authority not in upstream and not (scheme == "http" and _is_own(authority, public_origin)):
        return value
    return value[:start] + public_origin.encode("latin-1") + match["rest"]


def rewrite_links(value: bytes, upstream: Collection[str], public_origin: str) -> bytes:
    """Returns the value of Link (RFC 8288, section 3) with the public origin where a target names the server."""
    return _LINK.sub(lambda link: b"<" + rewrite_url(link[1], upstream, public_origin) + b">", value)


def _is_own(authority: str, public_origin: str) -> bool:
    """Whether http://authority is the https site under the scheme of the document server."""
    if not public_origin.startswith("https://"):
        return False
    own = public_origin.removeprefix("https://")
    return authority == own or normalize_origin(f"https://{authority}") == public_origin or authority == f"{own}:80"
