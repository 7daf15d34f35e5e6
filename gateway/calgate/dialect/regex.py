"""Document servers whose documents are recognized by regular expressions over the target."""

import re
from collections.abc import Iterator, Sequence

from calgate.dialect.canonical_query import canonical_pairs, other_readings, refuse_unclear
from calgate.dialect.document_names import canonical_host, canonical_name
from calgate.dialect.form import form_as_query, is_form
from calgate.dialect.protocol import DialectResponse, Kind, Use
from calgate.http.target import decode_value, read_target
from calgate.plugin.errors import BadRequest

_MOST_PARAMETERS = 1000  # the limits of ASP.NET (MaxHttpCollectionKeys) and PHP (max_input_vars)
_LARGEST_FORM = 65_536  # bytes: matching takes time in proportion
_QUERY_BEGINS = re.compile(r"\\\?|\[\?\]")
_OPEN_GROUP = re.compile(r"\((?:\?:)?$")


class Patterns:
    """`opens`, `uses` and `polls` of a route; the group `document` of each is the document's name.

    A pattern is matched from the beginning of the canonical target: the decoded path, then `?` and the query where
    there is one. In the query each name and value is decoded as well, except that `% & + = ; ? #` stay escaped where
    they are data, and a `+` that was received as such stays. A group `host`, if there is one, names the server that
    holds the document. Case does not count: a server that ignores case must not be reached past the pattern. A request
    that matches `polls` polls, else one that matches `uses` uses, else one that matches `opens` opens.

    Servers give a program the parameters in any order, and many of them the fields of a form as well. So a pattern that
    reads the query is also matched with each parameter alone, and the fields of a form count as parameters.
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
        self._paths = [path for _, _, pattern in given if pattern for path in _path_before_query(pattern)]
        self._windows = windows

    def needs_body(self, method: str, target: str, content_type: str = "") -> int:
        return _LARGEST_FORM if is_form(content_type) and self._reads_query(read_target(target).path) else 0

    def classify(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> Use:
        read = read_target(target)
        path = read.path.replace("?", "%3F")  # no other character of a path is read as a delimiter
        raw = read.query
        if body and self.needs_body(method, target, content_type):
            raw = "&".join(filter(None, (raw, form_as_query(body, content_type))))
        pairs = canonical_pairs(raw)
        use = self._use_in_any_order(path, pairs, raw)
        for reason, other_path, other_pairs in _other_readings(path, raw, pairs):
            other = self._use_in_any_order(other_path, other_pairs, raw)
            if other.document is not None and other != use:
                raise BadRequest(reason)
        return use

    def _reads_query(self, path: str) -> bool:
        return any(before.fullmatch(path) for before in self._paths)

    def _use_in_any_order(self, path: str, pairs: Sequence[str], raw: str) -> Use:
        use = self._classify(path, pairs, raw)
        if use.document is not None or not pairs or not self._reads_query(path):
            return use
        if len(pairs) > _MOST_PARAMETERS:
            raise BadRequest(f"the request has more than {_MOST_PARAMETERS} parameters")
        alone = (self._classify(path, [pair], raw) for pair in pairs)
        use = next((found for found in alone if found.document is not None), use)
        if use.document is not None:
            refuse_unclear(pairs, raw)
        return use

    def _classify(self, path: str, pairs: Sequence[str], raw: str) -> Use:
        text = _join(path, pairs)
        for kind, pattern in self._patterns:
            found = pattern.match(text)
            if found is None:
                continue
            if any(found.start(name) >= len(path) for name in pattern.groupindex):
                refuse_unclear(pairs, raw)
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


def _path_before_query(pattern: str) -> Sequence[re.Pattern[str]]:
    """Returns what a pattern that reads the query demands of the path; nothing where it reads the path only."""
    begins = _QUERY_BEGINS.search(pattern)
    if begins is None:
        return []
    before = _OPEN_GROUP.sub("", pattern[: begins.start()])
    try:
        return [re.compile(before, re.IGNORECASE | re.DOTALL)]
    except re.error:
        return [re.compile(".*", re.DOTALL)]  # the question mark is within a group


def _other_readings(path: str, raw: str, pairs: Sequence[str]) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Yields path and parameters as some servers read them in place of these, each with what makes them differ."""
    for reason, other in other_readings(raw, pairs):
        yield reason, path, other
    if path.endswith("/") and path != "/":
        yield "the path ends with a slash, which some servers ignore", path.rstrip("/"), pairs


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
    """Raises BadRequest if the pattern would find the group in another parameter, too."""
    named_by = found.string.count("&", len(path), found.start(group))
    others = [pair for number, pair in enumerate(pairs) if number != named_by]
    again = found.re.match(_join(path, others))
    if again is not None and again.start(group) >= len(path):
        raise BadRequest(f"two parameters could name the {group}")
