"""The listener's certificates: loaded, reloaded when their files change, and hashed for channel binding.

The name that the client sends (SNI, RFC 6066, section 3) chooses the certificate of a connection. A sign-in is bound to
the certificate of its own connection, whatever its Host header says.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

from cryptography import x509

from calgate.http.settings import Tls
from calgate.plugin.channel_binding import certificate_binding
from calgate.plugin.errors import ConfigError

NOT_VALID_YET = "see whether this machine's clock is right; if it is, use the old certificate until then"


class Certificate:
    """A certificate that follows its files, with the TLS context for new connections.

    Each version of the certificate has its own context. A connection keeps the context that it began with, which
    therefore identifies the certificate that its client saw.
    """

    def __init__(self, tls: Tls) -> None:
        """Raises ConfigError (exit code 1) if certificate and key cannot be used together."""
        self._tls = tls
        self._stamp: tuple[float, float] = (0, 0)
        self.context = _fresh_context()
        self.bindings: WeakKeyDictionary[ssl.SSLContext, bytes] = WeakKeyDictionary()  # of open connections
        self.names: frozenset[str] = frozenset()  # lower case; a wildcard as written, "*.corp.example"
        try:
            self.reload_if_changed()
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConfigError(
                [f"listen.tls: {tls.certificate} and {tls.key} do not work together: {error}"], 1
            ) from error

    def reload_if_changed(self) -> bool:
        """Loads a changed certificate for new connections. Raises where it cannot be used; the old one stays."""
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

    def covers(self, name: str) -> bool:
        """Whether the certificate is valid for a host name; a wildcard stands for one label (RFC 6125, 6.4.3)."""
        return name in self.names or f"*.{name.partition('.')[2]}" in self.names


class Certificates:
    """All certificates of the listener; the first serves clients that send no SNI name, or an unknown one."""

    def __init__(self, first: Tls, more: Sequence[Tls]) -> None:
        """Raises ConfigError (exit code 1) if one cannot be used."""
        self._all = [Certificate(tls) for tls in (first, *more)]
        self.context = _fresh_context()  # the listener's; each connection gets another at once
        self.context.sni_callback = self._choose

    def binding_of(self, connection: ssl.SSLObject | None) -> bytes | None:
        """Returns the hash that sign-ins on a connection are bound to, None if the connection has no TLS."""
        if connection is None:
            return None
        return next((c.bindings[connection.context] for c in self._all if connection.context in c.bindings), None)

    def reload_if_changed(self) -> bool:
        """Reloads changed certificates. Returns whether any changed; raises for the first that cannot be used."""
        has_changed = False
        for certificate in self._all:
            if certificate.reload_if_changed():
                has_changed = True
                self._disable_resumption()
        return has_changed

    def _disable_resumption(self) -> None:
        """Turns TLS session resumption off.

        A resumed session is bound to the certificate of its first handshake, which may have been replaced since.
        """
        self.context.options |= ssl.OP_NO_TICKET
        self.context.num_tickets = 0

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Also called for clients that send no SNI name."""
        chosen = next((c for c in self._all if name is not None and c.covers(name.lower())), self._all[0])
        connection.context = chosen.context


def _no_passphrase() -> str:
    """Raises ValueError, where OpenSSL would otherwise ask for the passphrase at the terminal."""
    raise ValueError("the key is encrypted; use a key without a passphrase that only the gateway can read")


def _fresh_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def certificate_expiry(file: Path) -> float:
    """Returns the Unix time at which a certificate expires. Raises OSError or ValueError if it cannot be read."""
    return certificate_validity(file)[1]


def certificate_validity(file: Path) -> tuple[float, float]:
    """Returns the Unix times from and until which a certificate is valid. Raises OSError or ValueError."""
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _names_in(tls: Tls) -> frozenset[str]:
    certificate = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))
