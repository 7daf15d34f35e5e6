"""CORS preflights from the origins in `embed_in`: a browser sends them without credentials, so nobody can sign in.

Only the preflight is decided here. The request that follows is signed in and judged like any other, and whether the
page may read its response is for the document server to say (Fetch Standard, "CORS-preflight fetch"). A browser may
also ask whether a page of the Internet may reach an address of the intranet (WICG, "Private Network Access").
"""

import re
from collections.abc import Sequence

from calgate.http.origin import normalize_origin
from calgate.http.request import Request
from calgate.http.response import Response, date

_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,1000}")
_MAX_AGE = b"600"  # seconds that the browser remembers the response


class Preflights:
    """Responds to the preflights of the origins that may embed the site."""

    def __init__(self, embed_in: Sequence[str], methods: Sequence[str]) -> None:
        self._embed_in = frozenset(normalize_origin(origin.rstrip("/")) for origin in embed_in)
        self._methods = ", ".join(methods).encode()

    def response_to(self, request: Request) -> Response | None:
        """Returns the response to a preflight of an allowed origin; None for any other request."""
        if request.method != "OPTIONS" or b"access-control-request-method" not in request.headers.by_name:
            return None
        origin = request.headers.get(b"origin")
        wanted = request.headers.get(b"access-control-request-headers")
        if normalize_origin(origin) not in self._embed_in or not _HEADER_NAMES.fullmatch(wanted):
            return None
        headers = [
            (b"Access-Control-Allow-Origin", origin.encode("latin-1")),
            (b"Access-Control-Allow-Credentials", b"true"),
            (b"Access-Control-Allow-Methods", self._methods),
            (b"Access-Control-Max-Age", _MAX_AGE),
            (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
            (b"Cache-Control", b"no-store"),
            (b"Date", date()),
        ]
        if request.headers.get(b"access-control-request-private-network") == "true":
            headers.append((b"Access-Control-Allow-Private-Network", b"true"))
        if wanted:
            headers.append((b"Access-Control-Allow-Headers", wanted.encode("latin-1")))
        return Response(204, headers)
