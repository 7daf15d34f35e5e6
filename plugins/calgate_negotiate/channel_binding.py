"""Whether a sign-in belongs to the TLS connection that it came over (extended protection, RFC 5929).

A relay in the middle has a connection of its own to us, so the client's binding is to another certificate; `require`
refuses that, and a client that says nothing about it.
"""

import asyncio
import hmac
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from calgate.plugin import AuthenticationFailed, Peer, certificate_binding
from calgate_negotiate.ntlm_messages import binding_hash

_log = logging.getLogger(__name__)
Mode = Literal["off", "allow", "require"]

_LOOK_AGAIN = 5.0  # seconds
_NOTHING = bytes(16)  # how NTLM says that there is no binding (MS-NLMP 2.2.2.1)


@dataclass(frozen=True, slots=True)
class ExpectedBinding:
    """What one sign-in must be bound to. `channel`: None where the certificate that the client saw is not known."""

    mode: Mode
    channel: bytes | None

    def check_ntlm(self, sent: bytes | None) -> None:
        """`sent`: MsvAvChannelBindings of the client; raises Unproven."""
        if self.mode == "off":
            return
        if sent is None or sent == _NOTHING:
            self.check_missing()
        elif self.channel is None:
            self.check_missing("the certificate that the client saw is not known: set negotiate.binding_certificate")
        elif not hmac.compare_digest(sent, binding_hash(self.channel)):
            raise AuthenticationFailed(OTHER_CHANNEL)

    def check_missing(self, why: str = "the client did not bind its sign-in to the TLS connection") -> None:
        """There is no binding, or none that could be compared: raises Unproven where one is required."""
        if self.mode == "require":
            raise AuthenticationFailed(why, code="binding-missing")


OTHER_CHANNEL = (
    "the sign-in is bound to another TLS connection: it was relayed, or a terminator in front has a certificate that"
    " negotiate.binding_certificate does not name"
)


class ChannelBindingPolicy:
    """Knows the certificate that clients saw: the listener's, or a terminator's in front, whose file it follows."""

    def __init__(self, mode: Mode, terminator: Path | None) -> None:
        """Raises ValueError where the terminator's certificate cannot be read."""
        self._mode = mode
        self._terminator = terminator
        self._stamp = 0
        self._channel: bytes | None = None
        if terminator is not None:
            try:
                self._read(terminator)
            except (OSError, ValueError) as error:
                raise ValueError(f"negotiate.binding_certificate {terminator} is no certificate: {error}") from error

    def bound(self, peer: Peer) -> ExpectedBinding:
        """Behind a proxy the browser saw the proxy's certificate, whatever ours is."""
        return ExpectedBinding(self._mode, self._channel if peer.behind_proxy else peer.channel_binding)

    async def follow(self) -> None:
        """Reads the file again when it changes; runs until cancelled."""
        while self._terminator is not None:
            await asyncio.sleep(_LOOK_AGAIN)
            try:
                await asyncio.to_thread(self._read, self._terminator)
            except (OSError, ValueError) as error:
                _log.error("negotiate.binding_certificate: the new file is not taken, the old one counts: %s", error)

    def _read(self, file: Path) -> None:
        stamp = file.stat().st_mtime_ns
        if stamp != self._stamp:
            self._stamp = stamp
            self._channel = certificate_binding(file)
