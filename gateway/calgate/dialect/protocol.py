"""What a dialect answers, and what it is asked."""

from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["open", "use", "poll", "other"]


@dataclass(frozen=True, slots=True)
class Use:
    """What a request does with a document.

    `open` and `use` need a lease, take one where there is none, and are activity. `poll` needs one too, but neither
    takes one nor keeps it: a page left open must not hold a Session CAL for ever. `other` needs none.
    """

    kind: Kind
    document: str | None = None  # canonical: case-folded, "/" between folders; None only with `other`


@dataclass(frozen=True, slots=True)
class DialectResponse:
    """A refusal in the form that the caller's own program understands."""

    content_type: str
    body: bytes


class Dialect(Protocol):
    """Knows how one kind of document server is spoken to. Targets are latin-1 text: one character a byte received."""

    peek_bytes: int  # first bytes of an answer that `document_opened` and `reports_missing_cal` want to see; 0: none

    def needs_body(self, method: str, target: str) -> int:
        """How many bytes the body may have at most, as `classify` must see it whole; 0: it need not see it."""

    def classify(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> Use:
        """What the request does. Raises BadRequest where that is not sure, Forbidden where it must not be done."""

    def write_refusal(self, method: str, target: str, words: str) -> DialectResponse | None:
        """The refusal for a call of the document server's own client; None: a page or problem+json does."""

    def document_opened(self, target: str, status: int, answer: bytes) -> bool | None:
        """Whether the document server gave the document; None where this answer cannot tell, and a later one will.

        `answer` is how the body begins, as far as it is here, compressed or not.
        """

    def reports_missing_cal(self, target: str, answer: bytes) -> bool:
        """Whether an answer of the document server says that it has no CAL of its own for the user.

        `answer` is how the body begins, compressed or not.
        """
