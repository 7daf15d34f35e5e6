"""The listener's certificates: loaded, loaded again when their files change, and hashed for channel binding.

Which one a connection gets is decided by the name that the browser asks for (SNI, RFC 6066, section 3); what a sign-in
is bound to is the one that its own connection got, whatever the Host field says later.
"""

import ssl
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from cryptography import x509

from calgate.http.settings import Tls
from calgate.plugin.channel_binding import certificate_binding
from calgate.plugin.errors import ConfigError


class Certificate:
    """A certificate that follows its files, with the TLS context for connections from now on.

    A new one has a context of its own: a connection keeps the context that it began with, and so tells by it which
    certificate its client has seen.
    """

    def __init__(self, tls: Tls) -> None:
        """Raises ConfigError (exit 1) where certificate and key do not work."""
        self._tls = tls
        self._stamp: tuple[float, float] = (0, 0)
        self.context = _fresh_context()
        self.bindings: WeakKeyDictionary[ssl.SSLContext, bytes] = WeakKeyDictionary()  # of connections that are open
        self.names: frozenset[str] = frozenset()  # lower case; a wildcard as it is written, "*.corp.example"
        try:
            self.reload_if_changed()
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConfigError(
                [f"listen.tls: {tls.certificate} and {tls.key} do not work together: {error}"], 1
            ) from error

    def reload_if_changed(self) -> bool:
        """Connections from now on get the new certificate; raises where it does not work, and the old one stays."""
        stamp = (self._tls.certificate.stat().st_mtime, self._tls.key.stat().st_mtime)
        if stamp == self._stamp:
            return False
        fresh = _fresh_context()
        fresh.load_cert_chain(self._tls.certificate, self._tls.key, _no_passphrase)
        self.names = _names_in(self._tls)
        self.bindings[fresh] = certificate_binding(self._tls.certificate)
        self.context = fresh
        self._stamp = stamp
        return True

    def is_for(self, name: str) -> bool:
        """Whether the certificate is for a host of this name; a wildcard stands for one label (RFC 6125, 6.4.3)."""
        return name in self.names or f"*.{name.partition('.')[2]}" in self.names


class Certificates:
    """All certificates of the listener; the first is for whoever asks for no name, or for none that is known."""

    def __init__(self, first: Tls, more: Sequence[Tls]) -> None:
        """Raises ConfigError (exit 1) where one does not work."""
        self._all = [Certificate(tls) for tls in (first, *more)]
        self.context = _fresh_context()  # what the listener serves with: each connection is given another at once
        self.context.sni_callback = self._choose

    def binding_of(self, connection: ssl.SSLObject | None) -> bytes | None:
        """What sign-ins on a connection are bound to; None: it has no TLS of ours."""
        if connection is None:
            return None
        return next((c.bindings[connection.context] for c in self._all if connection.context in c.bindings), None)

    def reload_if_changed(self) -> bool:
        """Whether any has changed; raises for the first that does not work, and its old one stays."""
        has_changed = False
        for certificate in self._all:
            if certificate.reload_if_changed():
                has_changed = True
                self._disable_resumption()
        return has_changed

    def _disable_resumption(self) -> None:
        """Who resumes a TLS session signs in by the certificate of its first handshake, which may be no more."""
        self.context.options |= ssl.OP_NO_TICKET
        self.context.num_tickets = 0

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called for who names no host, too."""
        chosen = next((c for c in self._all if name is not None and c.is_for(name.lower())), self._all[0])
        connection.context = chosen.context


def _no_passphrase() -> str:
    """OpenSSL would ask at the terminal, where a service has nobody."""
    raise ValueError("the key is locked with a passphrase; give one without, that only the gateway may read")


def _fresh_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _names_in(tls: Tls) -> frozenset[str]:
    certificate = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))
