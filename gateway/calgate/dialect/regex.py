"""Document servers that are told apart by regular expressions over the target."""

import re

from calgate.dialect.document_names import canonical
from calgate.dialect.protocol import DialectResponse, Kind, Use
from calgate.http.target import Parameters, Target, decode_value, read_target
from calgate.plugin.errors import BadRequest


class Patterns:
    """`opens`, `uses` and `polls` of a route; the group `document` of each is the document's name.

    A pattern is matched from the beginning of the decoded path, which is followed by `?` and the query as received
    where there is one. Case does not count: a server that ignores case must not be reached past the pattern. What
    matches `polls` polls, else what matches `uses` uses, else what matches `opens` opens.
    """

    peek_bytes = 0

    def __init__(self, *, opens: str | None = None, uses: str | None = None, polls: str | None = None) -> None:
        """Raises ValueError with a sentence for the administrator."""
        given: tuple[tuple[Kind, str, str | None], ...] = (
            ("poll", "polls", polls),
            ("use", "uses", uses),
            ("open", "opens", opens),
        )
        self._patterns = [(kind, _compile(key, pattern)) for kind, key, pattern in given if pattern]

    def needs_body(self, method: str, target: str) -> int:
        return 0

    def classify(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> Use:
        read = read_target(target)
        text = f"{read.path}?{read.query}" if read.query else read.path
        for kind, pattern in self._patterns:
            if found := pattern.match(text):
                return Use(kind, _document(found, read))
        return Use("other")

    def write_refusal(self, method: str, target: str, words: str) -> DialectResponse | None:
        return None

    def document_opened(self, target: str, status: int, answer: bytes) -> bool | None:
        return status < 400

    def reports_missing_cal(self, target: str, answer: bytes) -> bool:
        return False


def _compile(key: str, pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{key} is no regular expression: {error}") from error
    if "document" not in compiled.groupindex:
        raise ValueError(
            f'{key} must say which part is the document: (?P<document>…), as in "^/docs/(?P<document>[^?]+)"'
        )
    if not pattern.removeprefix("^").startswith("/"):
        raise ValueError(f'{key} must begin as every path does, with "/" or "^/"')
    return compiled


def _document(found: re.Match[str], read: Target) -> str:
    name = found["document"]
    if not name:
        raise BadRequest("the request names no document")
    if found.end("document") <= len(read.path):
        return canonical(name)
    if Parameters(read.query).repeated:
        raise BadRequest("a parameter is given more than once, and only the server knows which one counts")
    if "+" in name:
        raise BadRequest("the document's name has a plus sign; a blank is written %20, a plus sign %2B")
    return canonical(decode_value(name))
