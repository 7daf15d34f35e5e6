"""Reads a request target in exactly one way, or refuses it. Pure."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from calgate.plugin.errors import BadRequest

# A path without escapes, doubled slashes, or segments that begin with a dot: most paths, which need no decoding.
_PLAIN = re.compile(r"/(?:[A-Za-z0-9_-][A-Za-z0-9_.~!$&'()*+,=:@-]*/)*(?:[A-Za-z0-9_-][A-Za-z0-9_.~!$&'()*+,=:@-]*)?")
_PATH = re.compile(r"/[\x21\x22\x24-\x5b\x5d-\x7e]*")  # visible ASCII except `#` and `\`
_QUERY = re.compile(r"[\x21\x22\x24-\x7e]*")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE)
_WIDE = re.compile(r"%u([0-9A-Fa-f]{4})", re.IGNORECASE)

_MEMO_LIMIT = 512  # characters; a longer target is read each time

# A file's 8.3 name: at most eight characters that end with a tilde and a number, and an extension of at most three.
_SHORT_NAME = re.compile(r"(?=[^.]{1,8}(?:\.|$))[^. ]{0,6}~[0-9]{1,6}(?:\.[^. ]{1,3})?")
# a device, whatever follows the first dot
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\xb9\xb2\xb3]) *(?:\..*)?", re.IGNORECASE)
_DEVICES = frozenset({"con", "prn", "aux", "nul", "com", "lpt"})
_NOT_IN_WINDOWS_NAMES = frozenset(':*?"<>|')


@dataclass(frozen=True, slots=True)
class Target:
    """A decoded path, and a query as received, without its question mark."""

    path: str
    query: str
    windows_alias: str = ""  # why Windows might open another file than the path names, "" where it would not

    @property
    def segments(self) -> Sequence[str]:
        """The names in the path; the last is empty where the path ends with a slash."""
        return self.path.split("/")[1:]


def read_target(raw: str) -> Target:
    """Splits and decodes an origin-form target. Raises BadRequest if two servers could read it in two ways.

    That covers an encoded slash or backslash, a doubled slash, dot segments, `;`, an escape within an escape, control
    characters, and bytes that are not UTF-8: servers differ in each of these, and some of them decode twice. Results
    are remembered, because a browser requests the same few hundred targets over and over.
    """
    return _read_remembered(raw) if len(raw) <= _MEMO_LIMIT else _read(raw)


def _read(raw: str) -> Target:
    path, _, query = raw.partition("?")
    if not _QUERY.fullmatch(query):
        raise BadRequest("the query has characters that must be escaped")
    if _PLAIN.fullmatch(path):
        return Target(path, query, _windows_alias_in(path))
    if not _PATH.fullmatch(path):
        raise BadRequest("the path has characters that must be escaped")
    if _ESCAPE.search(path):
        raise BadRequest("the path has a broken escape")
    decoded = _decode_utf8(path)
    inner = decoded.split("/")[1:]
    if decoded.count("/") != path.count("/") or "" in inner[:-1] or {".", ".."} & set(inner):
        raise BadRequest("the path has an encoded slash, an empty or a dot segment")
    if set("\\;%") & set(decoded) or not all(map(_is_visible, decoded)):
        raise BadRequest("the path has characters that servers read differently")
    return Target(decoded, query, _windows_alias_in(decoded))


_read_remembered = lru_cache(4096)(_read)


def _is_visible(character: str) -> bool:
    # isprintable() excludes every blank but U+0020; U+00A0 and U+3000 are ordinary in French and Japanese file names
    return character.isprintable() or unicodedata.category(character) == "Zs"


def refuse_windows_alias(target: Target) -> None:
    """Raises BadRequest for a path that Windows might resolve to another file than the one that was judged."""
    if target.windows_alias:
        raise BadRequest(f"the path has a name that Windows reads in another way: {target.windows_alias}")


def _windows_alias_in(path: str) -> str:
    return next((reason for reason in map(windows_alias, path.split("/")) if reason), "")


def windows_alias(name: str) -> str:
    """Returns why Windows might open another file than `name` (one segment of a path) says, or "".

    Windows drops dots and blanks at the end of a name, knows SALES~1.QVW for a longer name, reads what follows a colon
    as a stream of the same file, takes `*?"<>` for wildcards, and opens a device for NUL.txt ("Naming Files, Paths, and
    Namespaces", Microsoft).
    """
    if name.endswith((".", " ")):
        return "it ends with a dot or a blank"
    if not _NOT_IN_WINDOWS_NAMES.isdisjoint(name):
        return 'it has one of the characters : * ? " < > |'
    if "~" in name and _SHORT_NAME.fullmatch(name):
        return "it has the form of an 8.3 name"
    if name[:3].lower() in _DEVICES and _DEVICE.fullmatch(name):
        return "it is the name of a device"
    return ""


def to_origin_form(raw: str, host: str) -> str:
    """Returns the target as a path. Raises BadRequest for the absolute form of another host (RFC 9112, 3.2.2)."""
    if raw.startswith("/"):
        return raw
    match = _ABSOLUTE.fullmatch(raw)
    if match is None or match[1].lower() != host:
        raise BadRequest("the request target is neither a path nor a URL of this host")
    return match[2] if match[2].startswith("/") else f"/{match[2]}"


class Parameters:
    """The parameters of a query, by lower-case name, as ASP.NET reads them."""

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
        """Returns the value as received, or None. Raises BadRequest for two: servers differ in which one counts."""
        values = self._values.get(name, [])
        if len(values) > 1:
            raise BadRequest(f"the parameter {name} is given more than once")
        return values[0] if values else None

    def one(self, name: str) -> str | None:
        """Returns the decoded value, or None.

        Raises BadRequest for a `+`: a form reads it as a blank, JavaScript's unescape as itself.
        """
        raw = self.raw(name)
        if raw is not None and "+" in raw:
            raise BadRequest(f"the parameter {name} has a plus sign; a blank is written %20, a plus sign %2B")
        return None if raw is None else decode_value(raw)


def decode_value(raw: str) -> str:
    """Decodes %XX as UTF-8 and %uXXXX as ASP.NET does. Raises BadRequest if that fails."""
    if _ESCAPE.search(_WIDE.sub("", raw)):
        raise BadRequest("a parameter has a broken escape")
    wide = _WIDE.split(raw)  # text, digits, text, digits, …
    text = "".join(chr(int(part, 16)) if index % 2 else _decode_utf8(part) for index, part in enumerate(wide))
    return text if text.isascii() else _pair_surrogates(text)


def decode_escaped(raw: str) -> str:
    """Decodes the output of JavaScript's escape(): %XX is one character, not one byte."""
    wide = _WIDE.split(raw)
    text = "".join(
        chr(int(part, 16)) if index % 2 else unquote_to_bytes(part).decode("latin-1") for index, part in enumerate(wide)
    )
    return _pair_surrogates(text)


def _pair_surrogates(text: str) -> str:
    """Joins what two %uXXXX wrote for one character. Raises BadRequest for half of one, which is no text at all."""
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise BadRequest("a parameter has half of a character") from error


def _decode_name(raw: str) -> str:
    """Decodes a parameter's name. Raises BadRequest unless it is ASCII.

    ASP.NET compares names by culture, ignoring case and characters without width: only ASCII has one reading.
    """
    name = decode_value(raw.replace("+", " "))
    if not name.isascii() or not name.isprintable():
        raise BadRequest("a parameter's name has characters other than ASCII")
    return name.lower()


def _decode_utf8(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("the target is not UTF-8") from error
