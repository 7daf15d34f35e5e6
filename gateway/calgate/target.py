"""Which request targets are read, and how. Pure.

What is judged is exactly what is forwarded: the raw bytes, never decoded and encoded again. A document server may read
`%2F`, a backslash, `..`, `;` or `//` in another way than an access rule did, so the default policy of a route refuses them.

| refused | why |
|---|---|
| not starting with `/`, or an absolute form for another host than `Host` | RFC 9112, 3.2.2 and 3.3 |
| `#`, control characters, blanks, bytes above 0x7E | not a URI (RFC 3986, 2) |
| `%` without two hexadecimal digits, `%00` | RFC 3986, 2.1 |
| encoded `/` or `\\`, encoded `.`, `\\`, `;`, `//`, a segment `.` or `..` (policy `strict`) | read differently by different servers |
"""

import re
from dataclasses import dataclass

from calgate.refusal import BadRequest

_URI = re.compile(r"[\x21\x22\x24-\x7e]+")  # printable ASCII without blank and "#"
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_UNCLEAN = re.compile(r"%2f|%5c|%2e|%3b|\\|;|//|/\.{1,2}(?:/|$)", re.IGNORECASE)
_ABSOLUTE = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """A request target as it is forwarded, and its two halves around the first `?`."""

    raw: str
    path: str
    query: str


def read_target(raw: str, host: str) -> Target:
    """Splits a request target. Raises BadRequest for what no policy allows."""
    if not raw.startswith("/"):
        raw = _relative(raw, host)
    if _URI.fullmatch(raw) is None:
        raise BadRequest("the request target holds a character that is not a URI's")
    if "%" in raw and _BAD_ESCAPE.search(raw):
        raise BadRequest("a percent sign in the request target that escapes nothing")
    path, _, query = raw.partition("?")
    return Target(raw, path, query)


def _relative(raw: str, host: str) -> str:
    match = _ABSOLUTE.fullmatch(raw)
    if match is None or match[1].lower() != host.lower():
        raise BadRequest("the request target is neither a path nor this host's")
    rest = match[2]
    return rest if rest.startswith("/") else f"/{rest}"


def demand_clean(target: Target) -> None:
    """The policy `strict`: raises BadRequest for a path that two servers may read in two ways."""
    if _UNCLEAN.search(target.path):
        raise BadRequest("the path holds what servers read in different ways: an encoded slash, `..`, `//`, `;` or a backslash")
