"""The listener's certificate: loaded, loaded again when its files change, and hashed for channel binding."""

import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from calgate.config import ConfigError, Tls


class Certificate:
    """A TLS context whose certificate follows its files."""

    def __init__(self, tls: Tls) -> None:
        """Raises ConfigError (exit 1) where certificate and key do not work."""
        self._tls = tls
        self._stamp: tuple[float, float] = (0, 0)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.binding = b""
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
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trial.load_cert_chain(self._tls.certificate, self._tls.key)
        self.context.load_cert_chain(self._tls.certificate, self._tls.key)
        self.binding = certificate_binding(self._tls.certificate)
        self._stamp = stamp
        return True


def certificate_binding(pem: Path) -> bytes:
    """What a channel is bound to: "tls-server-end-point:" and the certificate's hash.

    The hash is that of the certificate's signature, but SHA-256 for MD5 and SHA-1 (RFC 5929, section 4.1).
    """
    certificate = x509.load_pem_x509_certificate(pem.read_bytes())
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    return b"tls-server-end-point:" + certificate.fingerprint(algorithm)
