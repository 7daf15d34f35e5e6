"""`Authorization: Basic` (RFC 7617) for programs: accepted over https, and offered to nobody.

A browser that is challenged by Basic opens a dialog of its own, and sends the password with every later request.
"""

import base64
import binascii

from calgate.plugin import Authenticated, AuthenticationFailed, Peer
from calgate_negotiate.password_attempts import PasswordAttempts


class BasicHandshake:
    """The `Handshake` of one request: there is one step only."""

    def __init__(self, attempts: PasswordAttempts, peer: Peer, *, needs_https: bool) -> None:
        self._attempts = attempts
        self._peer = peer
        self._needs_https = needs_https

    async def step(self, scheme: str, credentials: str) -> Authenticated:
        if self._needs_https and self._peer.scheme != "https":
            raise AuthenticationFailed("Basic is accepted over https only, and this password was sent in clear text")
        user, password = read(credentials)
        return Authenticated((await self._attempts.verify(user, password, self._peer.address)).identity)


def read(credentials: str) -> tuple[str, str]:
    """Returns name and password; the name ends at the first colon. Raises AuthenticationFailed."""
    try:
        text = base64.b64decode(credentials, validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:  # UnicodeDecodeError is one
        raise AuthenticationFailed("Basic: the credentials are not base64 of UTF-8") from error
    user, colon, password = text.partition(":")
    if not colon:
        raise AuthenticationFailed("Basic: the credentials have no colon")
    return user, password
