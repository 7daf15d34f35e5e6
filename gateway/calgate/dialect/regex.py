"""Document servers whose documents are recognized by regular expressions over the target."""

import re
from collections.abc import Sequence

from calgate.dialect.document_names import canonical_host, canonical_name
from calgate.dialect.protocol import DialectResponse, Kind, Use
from calgate.http.target import decode_value, read_target
from calgate.plugin.errors import BadRequest

_ESCAPES = re.compile(r"((?:%[0-9A-F]{2})+|(?:%u[0-9A-F]{4})+)", re.IGNORECASE)
_BROKEN_ESCAPE = re.compile(r"%(?!u[0-9A-F]{4}|[0-9A-F]{2})", re.IGNORECASE)
_CONTROL = re.compile(r"%[01][0-9A-F]")
_KEPT_ESCAPED = frozenset("%&+=;?#")


class Patterns:
    """`opens`, `uses` and `polls` of a route; the group `document` of each is the document's name.

    A pattern is matched from the beginning of the canonical target: the decoded path, then `?` and the query where
    there is one. In the query each name and value is decoded as well, except that `% & + = ; ? #` stay escaped where
    they are data, and a `+` that was received as such stays. A group `host`, if there is one, names the server that
    holds the document. Case does not count: a server that ignores case must not be reached past the pattern. A request
    that matches `polls` polls, else one that matches `uses` uses, else one that matches `opens` opens.
    """

    peek_bytes = 0

    def __init__(
        self, *, opens: str | None = None, uses: str | None = None, polls: str | None = None, windows: bool = True
    ) -> None:
        """Raises ValueError with a sentence for the administrator."""
        given: tuple[tuple[Kind, str, str | None], ...] = (
            ("poll", "polls", polls),
            ("use", "uses", uses),
            ("open", "opens", opens),
        )
        self._patterns = [(kind, _compile(key, pattern)) for kind, key, pattern in given if pattern]
        self._windows = windows

    def needs_body(self, method: str, target: str) -> int:
        return 0

    def classify(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> Use:
        read = read_target(target)
        path = read.path.replace("?", "%3F")  # no other character of a path is read as a delimiter
        use = self._classify(path, _pairs(read.query, "&"), read.query)
        if ";" in read.query and use != self._classify(path, _pairs(read.query, "&;"), read.query):
            raise BadRequest("the query has a semicolon, at which some servers divide it and others do not")
        return use

    def _classify(self, path: str, pairs: Sequence[str], raw_query: str) -> Use:
        text = _join(path, pairs)
        for kind, pattern in self._patterns:
            found = pattern.match(text)
            if found is None:
                continue
            if any(found.start(name) >= len(path) for name in pattern.groupindex):
                _refuse_unclear(pairs, raw_query)
            document = canonical_name(_named(found, "document", path, pairs), windows=self._windows)
            host = _named(found, "host", path, pairs) if found.groupdict().get("host") else ""
            return Use(kind, document, canonical_host(host))
        return Use("other")

    def write_refusal(self, method: str, target: str, message: str) -> DialectResponse | None:
        return None

    def document_opened(self, target: str, status: int, body: bytes) -> bool | None:
        return status < 400

    def reports_missing_cal(self, target: str, body: bytes) -> bool:
        return False


def _compile(key: str, pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{key} is not a regular expression: {error}") from error
    if "document" not in compiled.groupindex:
        raise ValueError(
            f'{key} must say which part is the document: (?P<document>…), as in "^/docs/(?P<document>[^?]+)"'
        )
    if not pattern.removeprefix("^").startswith("/"):
        raise ValueError(f'{key} must begin as every path does, with "/" or "^/"')
    return compiled


# ---------------------------------------------------------------- the canonical query


def _pairs(query: str, separators: str) -> Sequence[str]:
    """Returns each `name=value` of a query in its canonical form."""
    return [_canonical_pair(pair) for pair in re.split(f"[{separators}]", query)] if query else []


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
    return bytes.fromhex(escapes.replace("%", "")).decode("utf-8", "surrogateescape")


def _escape(text: str, escaped: frozenset[str]) -> str:
    return "".join(_escape_one(character) if _is_escaped(character, escaped) else character for character in text)


def _is_escaped(character: str, escaped: frozenset[str]) -> bool:
    return character in escaped or character < " " or "\udc80" <= character <= "\udcff"


def _escape_one(character: str) -> str:
    return f"%{ord(character) & 0xFF:02X}"  # a byte that is not UTF-8 is U+DC00 and the byte


def _join(path: str, pairs: Sequence[str]) -> str:
    return f"{path}?{'&'.join(pairs)}" if pairs else path


# ---------------------------------------------------------------- the groups of a match


def _named(found: re.Match[str], group: str, path: str, pairs: Sequence[str]) -> str:
    """Returns a group's text, decoded. It ends where the path or the parameter ends that it begins in."""
    begin, end = found.span(group)
    if begin < len(path):
        text = found.string[begin : min(end, len(path))]
    else:
        _refuse_other_parameter(found, group, path, pairs)
        text = found.string[begin:end].partition("&")[0]
        if "+" in text:
            raise BadRequest(f"the {group}'s name has a plus sign; a blank is written %20, a plus sign %2B")
    if not text:
        raise BadRequest(f"the request names no {group}")
    return decode_value(text)


def _refuse_other_parameter(found: re.Match[str], group: str, path: str, pairs: Sequence[str]) -> None:
    """Raises BadRequest where the pattern would find the group in another parameter, too."""
    named_by = found.string.count("&", len(path), found.start(group))
    others = [pair for number, pair in enumerate(pairs) if number != named_by]
    again = found.re.match(_join(path, others))
    if again is not None and again.start(group) >= len(path):
        raise BadRequest(f"two parameters could name the {group}")


def _refuse_unclear(pairs: Sequence[str], raw_query: str) -> None:
    """Raises BadRequest for a query in which servers would find different names."""
    names = [pair.partition("=")[0].casefold() for pair in pairs if pair]
    if len(set(names)) < len(names):
        raise BadRequest("a parameter is given more than once, and only the server knows which one counts")
    if _BROKEN_ESCAPE.search(raw_query):
        raise BadRequest("a parameter has a broken escape")
