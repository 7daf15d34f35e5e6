"""The contract of a dialect, and the values that it returns."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

Kind = Literal["open", "use", "poll", "other"]


@dataclass(frozen=True, slots=True)
class Use:
    """The effect of a request on a document.

    `open` and `use` need a lease, claim one where none is held, and count as activity. `poll` needs a lease too, but
    neither claims nor renews one: a page left open must not hold a Session CAL for ever. `other` needs none.
    """

    kind: Kind
    document: str | None = None  # canonical: case-folded, "/" between folders; None only with `other`
    host: str = ""  # the server that holds the document, folded; "" where the request names none
    qualified: str | None = field(init=False, repr=False, compare=False)  # `host|document`; `document` without a host

    def __post_init__(self) -> None:
        qualified = f"{self.host}|{self.document}" if self.host and self.document else self.document
        object.__setattr__(self, "qualified", qualified)


@dataclass(frozen=True, slots=True)
class DialectResponse:
    """A refusal in the form that the document server's own client understands."""

    content_type: str
    body: bytes


class Dialect(Protocol):
    """Reads the requests of one kind of document server. Targets are latin-1 text: one character per byte received."""

    peek_bytes: int  # bytes of a response that `document_opened` and `reports_missing_cal` want to see; 0: none

    def needs_body(self, method: str, target: str, content_type: str = "") -> int:
        """Returns the largest body in bytes that `classify` must see whole, or 0 if it needs none."""

    def classify(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> Use:
        """Returns what the request does.

        Raises BadRequest if the request can be read in two ways, Forbidden if it must never be forwarded.
        """

    def write_refusal(self, method: str, target: str, message: str) -> DialectResponse | None:
        """Returns the refusal for a call of the document server's own client.

        Returns None for other requests, which get a page or problem+json.
        """

    def document_opened(self, target: str, status: int, body: bytes) -> bool | None:
        """Returns whether the document server opened the document, or None if only a later response can show it.

        `body` is the beginning of the response's body as far as it has arrived, compressed or not.
        """

    def reports_missing_cal(self, target: str, body: bytes) -> bool:
        """Returns whether a response says that the document server has no CAL of its own for the user.

        `body` is the beginning of the response's body, compressed or not.
        """
