"""The listener's certificate: loaded, loaded again when its files change, and hashed for channel binding."""

import ssl

from calgate.binding import certificate_binding
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
