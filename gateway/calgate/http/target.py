"""Reads a request target in one way, or not at all."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from calgate.plugin.errors import BadRequest

# A path without escapes, doubled slashes, or segments that begin with a dot: by far the most, and taken as it is.
_PLAIN = re.compile(r"/(?:[A-Za-z0-9_-][A-Za-z0-9_.~!$&'()*+,=:@-]*/)*(?:[A-Za-z0-9_-][A-Za-z0-9_.~!$&'()*+,=:@-]*)?")
_PATH = re.compile(r"/[\x21\x22\x24-\x5b\x5d-\x7e]*")  # visible ASCII but `#` and `\`
_QUERY = re.compile(r"[\x21\x22\x24-\x7e]*")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE)
_WIDE = re.compile(r"%u([0-9A-Fa-f]{4})", re.IGNORECASE)

_LONGEST_REMEMBERED = 512  # characters


@dataclass(frozen=True, slots=True)
class Target:
    """A path, decoded, and a query, as received and without its question mark."""

    path: str
    query: str

    @property
    def segments(self) -> Sequence[str]:
        """The names in the path; the last is empty where it ends with a slash."""
        return self.path.split("/")[1:]


def read_target(raw: str) -> Target:
    """Splits and decodes an origin-form target; raises BadRequest where two servers could read it in two ways.

    Remembered, unless it is long: a browser asks for the same few hundred over and over.

    That is: an encoded slash or backslash, a doubled slash, dot segments, `;`, an escape within an escape, control
    characters, and what is not UTF-8. Servers differ in each of these, and some of them decode twice.
    """
    return _read_again(raw) if len(raw) <= _LONGEST_REMEMBERED else _read(raw)


def _read(raw: str) -> Target:
    path, _, query = raw.partition("?")
    if not _QUERY.fullmatch(query):
        raise BadRequest("the query has characters that must be escaped")
    if _PLAIN.fullmatch(path):
        return Target(path, query)
    if not _PATH.fullmatch(path):
        raise BadRequest("the path has characters that must be escaped")
    if _ESCAPE.search(path):
        raise BadRequest("the path has a broken escape")
    decoded = _decode_utf8(path)
    inner = decoded.split("/")[1:]
    if decoded.count("/") != path.count("/") or "" in inner[:-1] or {".", ".."} & set(inner):
        raise BadRequest("the path has an encoded slash, an empty or a dot segment")
    if set("\\;%") & set(decoded) or not decoded.isprintable():
        raise BadRequest("the path has characters that servers read differently")
    return Target(decoded, query)


_read_again = lru_cache(4096)(_read)


def to_origin_form(raw: str, host: str) -> str:
    """The target as a path: an absolute form is read for this very host only (RFC 9112, section 3.2.2)."""
    if raw.startswith("/"):
        return raw
    match = _ABSOLUTE.fullmatch(raw)
    if match is None or match[1].lower() != host:
        raise BadRequest("the request target is neither a path nor this host's")
    return match[2] if match[2].startswith("/") else f"/{match[2]}"


class Parameters:
    """A query's parameters, by name in any case, as ASP.NET reads them."""

    __slots__ = ("_values",)

    def __init__(self, query: str) -> None:
        self._values: dict[str, list[str]] = {}
        for pair in query.split("&") if query else ():
            name, _, value = pair.partition("=")
            self._values.setdefault(_decode_name(name), []).append(value)

    @property
    def repeated(self) -> bool:
        """Whether any parameter is given more than once."""
        return any(len(values) > 1 for values in self._values.values())

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def raw(self, name: str) -> str | None:
        """The value as received, None where there is none; two are refused: which one counts differs."""
        values = self._values.get(name, [])
        if len(values) > 1:
            raise BadRequest(f"the parameter {name} is given more than once")
        return values[0] if values else None

    def one(self, name: str) -> str | None:
        """The value decoded. `+` is refused: a form reads it as a blank, JavaScript's unescape as itself."""
        raw = self.raw(name)
        if raw is not None and "+" in raw:
            raise BadRequest(f"the parameter {name} has a plus sign; a blank is written %20, a plus sign %2B")
        return None if raw is None else decode_value(raw)


def decode_value(raw: str) -> str:
    """Decodes %XX as UTF-8 and %uXXXX as ASP.NET does; raises BadRequest where that fails."""
    if _ESCAPE.search(_WIDE.sub("", raw)):
        raise BadRequest("a parameter has a broken escape")
    wide = _WIDE.split(raw)  # text, digits, text, digits, …
    return "".join(chr(int(part, 16)) if place % 2 else _decode_utf8(part) for place, part in enumerate(wide))


def decode_escaped(raw: str) -> str:
    """Decodes what JavaScript's escape() wrote: %XX is one character, not one byte."""
    wide = _WIDE.split(raw)
    return "".join(
        chr(int(part, 16)) if place % 2 else unquote_to_bytes(part).decode("latin-1") for place, part in enumerate(wide)
    )


def _decode_name(raw: str) -> str:
    """ASP.NET compares names by culture, blind to case and to characters without width: only ASCII has one reading."""
    name = decode_value(raw.replace("+", " "))
    if not name.isascii() or not name.isprintable():
        raise BadRequest("a parameter's name has characters other than ASCII")
    return name.lower()


def _decode_utf8(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("the target is not UTF-8") from error
