"""Checks the head of a document server's response, and finds out how its body ends. Pure.

llhttp accepts `gzip, chunked`, repeated lengths that agree, and status codes from 000 to 999; a proxy must not guess
(RFC 9112, section 6.3).
"""

import re

from calgate.http.headers import ResponseHeaders
from calgate.plugin.errors import BadGateway

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def check_status_line(version: str, status: int, reason: bytes) -> None:
    """Raises BadGateway for a status line that is not HTTP/1.0 or 1.1."""
    if version not in ("1.1", "1.0"):
        raise BadGateway(f"the document server speaks HTTP/{version}")
    if not 100 <= status <= 599 or _CONTROL.search(reason):
        raise BadGateway("malformed status line in the document server's response")


def read_framing(headers: ResponseHeaders, version: str) -> tuple[int | None, bool]:
    """Returns the Content-Length, None if there is none, and whether the body is chunked.

    Raises BadGateway for framing that two parsers could read differently.
    """
    lengths, encodings = headers.lengths, headers.encodings
    if encodings and ([*encodings] != [b"chunked"] or lengths or version == "1.0"):
        raise BadGateway("ambiguous framing in the document server's response")
    if len(lengths) > 1 or (lengths and not (lengths[0].isdigit() and lengths[0].isascii())):
        raise BadGateway("ambiguous Content-Length in the document server's response")
    return int(lengths[0]) if lengths else None, bool(encodings)
