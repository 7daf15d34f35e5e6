"""Notes: what a sign-in method keeps in a browser between two requests, sealed so that no browser can read or make one.

The cookies of browsers on public routes are sealed in the same way.

The key is in the store, so that every gateway can open the notes of every other; it is made by the first that needs it.
"""

import base64
import time
from collections.abc import Callable

from cryptography.fernet import Fernet, InvalidToken

from calgate.plugin.services import Store

LIFETIME = 600  # seconds
LONGEST = 3000  # bytes of a sealed note: a browser keeps 4 KB with the name and attributes (RFC 6265bis, 5.6)


class Notes:
    """Seals and opens notes; each belongs to one sign-in method."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._fernet: Fernet | None = None

    async def seal(self, method: str, note: bytes) -> bytes:
        """Returns the value of the cookie. Raises ValueError for a note that no cookie can carry, and Unavailable."""
        sealed = (await self._key()).encrypt_at_time(method.encode() + b"\0" + note, int(self._clock()))
        if len(sealed) > LONGEST:
            raise ValueError(f"a note of {len(note)} bytes does not fit into a cookie")
        return sealed

    async def open(self, method: str, sealed: bytes, lifetime: float = LIFETIME) -> bytes:
        """Returns the note; b"" for one that is older than its lifetime in seconds, another method's, or not ours."""
        if not sealed or len(sealed) > LONGEST or not _is_canonical(sealed):
            return b""
        try:
            opened = (await self._key()).decrypt_at_time(sealed, int(lifetime), int(self._clock()))
        except InvalidToken:
            return b""
        owner, _, note = opened.partition(b"\0")
        return note if owner == method.encode() else b""

    async def _key(self) -> Fernet:
        if self._fernet is None:
            name = f"{self._store.prefix}:note-key"
            await self._store.execute("SET", name, Fernet.generate_key(), "NX")
            self._fernet = Fernet(await self._store.execute("GET", name))
        return self._fernet


def _is_canonical(sealed: bytes) -> bool:
    """Whether this is the one spelling of what it decodes to: the decoder skips characters that it does not know."""
    try:
        return base64.urlsafe_b64encode(base64.urlsafe_b64decode(sealed)) == sealed
    except ValueError:
        return False
