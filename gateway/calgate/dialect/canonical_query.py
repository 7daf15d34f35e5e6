"""The canonical form of a query or a form, which patterns are matched against, and its other readings. Pure."""

import re
from collections.abc import Iterator, Sequence

from calgate.http.target import decode_value
from calgate.plugin.errors import BadRequest

_ESCAPES = re.compile(r"((?:%[0-9A-F]{2})+|(?:%u[0-9A-F]{4})+)", re.IGNORECASE)
_BROKEN_ESCAPE = re.compile(r"%(?!u[0-9A-F]{4}|[0-9A-F]{2})", re.IGNORECASE)
_ESCAPED_ESCAPE = re.compile(r"%25(?=u[0-9A-F]{4}|[0-9A-F]{2})", re.IGNORECASE)
_OVERLONG = re.compile(rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]")  # RFC 3629, section 3
_CONTROL = re.compile(r"%[01][0-9A-F]")
_KEPT_ESCAPED = frozenset("%&+=;?#")
_IN_PHP_NAMES = str.maketrans(". ", "__")  # PHP manual, "Variables From External Sources"


def canonical_pairs(query: str, separators: str = "&") -> Sequence[str]:
    """Returns each `name=value` of a query, decoded, except that `% & + = ; ? #` stay escaped where they are data."""
    return [_canonical_pair(pair) for pair in re.split(f"[{separators}]", query) if pair]


def refuse_unclear(pairs: Sequence[str], raw: str) -> None:
    """Raises BadRequest for a query or form in which servers would find different names."""
    names = [name_of(pair).casefold() for pair in pairs]
    if len(set(names)) < len(names):
        raise BadRequest("a parameter is given more than once, and only the server knows which one counts")
    if _BROKEN_ESCAPE.search(raw):
        raise BadRequest("a parameter has a broken escape")


def other_readings(query: str, pairs: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yields what some servers read in place of these pairs, each with what makes them differ."""
    if ";" in query:
        yield (
            "the query has a semicolon, at which some servers divide it and others do not",
            canonical_pairs(query, "&;"),
        )
    if _ESCAPED_ESCAPE.search(query):
        yield (
            "a parameter has an escape within an escape, which some servers decode twice",
            canonical_pairs(_ESCAPED_ESCAPE.sub("%", query)),
        )
    for pair in pairs:
        name = name_of(pair)
        for other in sorted({_without_brackets(name), _as_in_php(name)} - {name}):
            yield (
                "a parameter's name has a blank, a dot or a bracket, which some servers drop or replace",
                [other + pair[len(name) :]],
            )


def name_of(pair: str) -> str:
    """Returns the name in a canonical pair."""
    return pair.partition("=")[0]


def _without_brackets(name: str) -> str:
    return name.partition("[")[0].strip(" ")


def _as_in_php(name: str) -> str:
    return _without_brackets(name).translate(_IN_PHP_NAMES)


def _canonical_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    canonical = _canonical_text(name.replace("+", " "))
    # ASP.NET compares names without the characters that have no width
    if not canonical.isprintable() or _CONTROL.search(canonical):
        raise BadRequest("a parameter's name has characters that cannot be seen")
    return canonical + equals + _canonical_text(value)


def _canonical_text(raw: str) -> str:
    parts = _ESCAPES.split(raw)  # text, escapes, text, escapes, …
    return "".join(
        _escape(_decode(part), _KEPT_ESCAPED) if index % 2 else _escape(part, _KEPT_ESCAPED - {"+"})
        for index, part in enumerate(parts)
    )


def _decode(escapes: str) -> str:
    if escapes[1] in "uU":
        return decode_value(escapes)
    octets = bytes.fromhex(escapes.replace("%", ""))
    if _OVERLONG.search(octets):
        raise BadRequest("a parameter has an overlong form of UTF-8, which some servers decode")
    return octets.decode("utf-8", "surrogateescape")


def _escape(text: str, escaped: frozenset[str]) -> str:
    return "".join(_escape_one(character) if _is_escaped(character, escaped) else character for character in text)


def _is_escaped(character: str, escaped: frozenset[str]) -> bool:
    return character in escaped or character < " " or "\udc80" <= character <= "\udcff"


def _escape_one(character: str) -> str:
    return f"%{ord(character) & 0xFF:02X}"  # a byte that is not UTF-8 is U+DC00 and the byte
