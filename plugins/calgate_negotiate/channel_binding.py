"""Checks that a sign-in belongs to the TLS connection it arrives on (extended protection, RFC 5929).

A relay has a connection of its own to the gateway, so the client it relays is bound to another certificate. `require`
refuses such a sign-in, and also a client that sends no binding.
"""

import asyncio
import hmac
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from calgate.plugin import AuthenticationFailed, Peer, certificate_binding
from calgate_negotiate.ntlm_messages import binding_hash

logger = logging.getLogger(__name__)
Mode = Literal["off", "allow", "require"]

_POLL_INTERVAL = 5.0  # seconds
_NO_BINDING = bytes(16)  # NTLM's value for "no binding" (MS-NLMP 2.2.2.1)


@dataclass(frozen=True, slots=True)
class ExpectedBinding:
    """The binding that one sign-in must have. `channel`: None if the certificate that the client saw is not known."""

    mode: Mode
    channel: bytes | None

    def check_ntlm(self, sent: bytes | None) -> None:
        """`sent`: the client's MsvAvChannelBindings. Raises AuthenticationFailed."""
        if self.mode == "off":
            return
        if sent is None or sent == _NO_BINDING:
            self.check_missing()
        elif self.channel is None:
            self.check_missing("the certificate that the client saw is not known: set negotiate.binding_certificate")
        elif not hmac.compare_digest(sent, binding_hash(self.channel)):
            raise AuthenticationFailed(OTHER_CHANNEL)

    def check_missing(self, why: str = "the client did not bind its sign-in to the TLS connection") -> None:
        """Raises AuthenticationFailed if a binding is required, for a client without one that can be compared."""
        if self.mode == "require":
            raise AuthenticationFailed(why, code="binding-missing")


OTHER_CHANNEL = (
    "the sign-in is bound to another TLS connection: it was relayed, or the certificate of the TLS terminator in front"
    " is not negotiate.binding_certificate"
)


class ChannelBindingPolicy:
    """Knows the certificate that clients saw: the listener's, or a TLS terminator's, whose file it watches."""

    def __init__(self, mode: Mode, terminator: Path | None) -> None:
        """Raises ValueError if the terminator's certificate cannot be read."""
        self._mode = mode
        self._terminator = terminator
        self._stamp = 0
        self._channel: bytes | None = None
        if terminator is not None:
            try:
                self._read(terminator)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"negotiate.binding_certificate: {terminator} is not a certificate: {error}; give it as PEM"
                ) from error

    def expected(self, peer: Peer) -> ExpectedBinding:
        """Returns the binding to expect. Behind a proxy the browser saw the proxy's certificate, not ours."""
        return ExpectedBinding(self._mode, self._channel if peer.behind_proxy else peer.channel_binding)

    async def follow(self) -> None:
        """Re-reads the file when it changes. Runs until cancelled."""
        while self._terminator is not None:
            await asyncio.sleep(_POLL_INTERVAL)
            try:
                await asyncio.to_thread(self._read, self._terminator)
            except (OSError, ValueError) as error:
                logger.error("negotiate.binding_certificate: cannot load the new file, keeping the old one: %s", error)

    def _read(self, file: Path) -> None:
        stamp = file.stat().st_mtime_ns
        if stamp != self._stamp:
            self._stamp = stamp
            self._channel = certificate_binding(file)
