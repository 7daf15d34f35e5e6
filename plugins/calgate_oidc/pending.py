"""A sign-in that was begun: what the browser keeps, sealed, until the provider sends it back. Pure."""

import base64
import hashlib
import json
import secrets
from dataclasses import asdict, dataclass

_LONGEST_PATH = 1000  # characters; a note must fit into a cookie


@dataclass(frozen=True, slots=True)
class Pending:
    """The values that the provider's response is compared with."""

    state: str
    nonce: str
    verifier: str
    back_to: str
    begun: float  # Unix time
    is_fresh: bool  # the provider must make the user prove again who they are

    @property
    def challenge(self) -> str:
        """The code challenge by S256 (RFC 7636, section 4.2)."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()

    def to_note(self) -> bytes:
        """Returns the form that the browser keeps."""
        return json.dumps(asdict(self)).encode()


def begin(back_to: str, now: float, *, is_fresh: bool) -> Pending:
    """Begins a sign-in with random values of 256 bits."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return Pending(state, nonce, verifier, back_to if len(back_to) <= _LONGEST_PATH else "/", now, is_fresh)


def from_note(note: bytes) -> Pending | None:
    """Returns what `to_note` wrote; the core has opened the seal. None: nothing was begun in this browser."""
    return Pending(**json.loads(note)) if note else None
