"""A dialect that remembers its readings: a browser sends the same few hundred requests over and over.

Commands too: what a page polls with is the same each time, and reading its XML takes longer than everything else about
the request.
"""

from functools import lru_cache

from calgate.dialect.protocol import Dialect, DialectResponse, Use

_REMEMBERED = 2048  # requests of one route
_LONGEST = 1024  # characters and bytes; a longer request is read each time, so that no client can fill the memory


class CachedDialect:
    """The same dialect, up to a hundred times faster for requests that come again."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._classify = lru_cache(_REMEMBERED)(dialect.classify)
        self._needs_body = lru_cache(_REMEMBERED)(dialect.needs_body)
        self.peek_bytes = dialect.peek_bytes

    def needs_body(self, method: str, target: str, content_type: str = "") -> int:
        read = self._needs_body if len(target) + len(content_type) <= _LONGEST else self._dialect.needs_body
        return read(method, target, content_type)

    def classify(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> Use:
        is_short = len(target) + len(content_type) + len(body) <= _LONGEST
        read = self._classify if is_short else self._dialect.classify
        return read(method, target, body, content_type)

    def write_refusal(self, method: str, target: str, message: str) -> DialectResponse | None:
        return self._dialect.write_refusal(method, target, message)

    def document_opened(self, target: str, status: int, body: bytes) -> bool | None:
        return self._dialect.document_opened(target, status, body)

    def reports_missing_cal(self, target: str, body: bytes) -> bool:
        return self._dialect.reports_missing_cal(target, body)
