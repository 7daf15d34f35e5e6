"""How the gateway proves to the token endpoint which client it is: by its secret, or by its key (private_key_jwt)."""

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote_plus

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from calgate_oidc.discovery import Key, Metadata
from calgate_oidc.settings import Client

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LIFE = 60  # seconds

Proof = tuple[Mapping[str, str], Mapping[str, str]]


class ClientProof:
    """Makes the headers and form fields of a request to the token endpoint."""

    def __init__(self, client: Client, now: Callable[[], float] = time.time) -> None:
        """Raises ValueError or OSError if key and certificate cannot be used."""
        self._client = client
        self._now = now
        self._key: tuple[Key, Mapping[str, str]] | None = None
        if client.key is not None and client.certificate is not None:
            self._key = _read(client.key.read_bytes(), client.certificate.read_bytes())

    def of_request(self, metadata: Metadata) -> Proof:
        """Returns headers and form fields (OpenID Connect Core, section 9)."""
        name = self._client.id
        if self._key is not None:
            return {}, {
                "client_id": name,
                "client_assertion_type": _ASSERTION,
                "client_assertion": self._sign(metadata),
            }
        assert self._client.secret is not None
        secret = self._client.secret.reveal()
        if not metadata.takes_basic:
            return {}, {"client_id": name, "client_secret": secret}
        pair = f"{quote_plus(name)}:{quote_plus(secret)}"  # RFC 6749, section 2.3.1
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {}

    def _sign(self, metadata: Metadata) -> str:
        assert self._key is not None
        key, header = self._key
        now = int(self._now())
        claims = {
            "iss": self._client.id,
            "sub": self._client.id,
            "aud": metadata.token_endpoint,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + _LIFE,
        }
        return jwt.encode(dict(header), claims, key, algorithms=[header["alg"]])


def _read(key_pem: bytes, certificate_pem: bytes) -> tuple[Key, Mapping[str, str]]:
    """Returns the key, and the header by which the provider finds the certificate (x5t, which Entra needs)."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    key = _private_key(key_pem)
    if key.public_key.public_bytes(*_SPKI) != certificate.public_key().public_bytes(*_SPKI):
        raise ValueError("client.certificate is not the certificate of client.key")
    der = certificate.public_bytes(Encoding.DER)
    return key, {
        "alg": "RS256" if isinstance(key, RSAKey) else "ES256",
        "x5t": _base64url(hashlib.sha1(der, usedforsecurity=False).digest()),
        "x5t#S256": _base64url(hashlib.sha256(der).digest()),
    }


_SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _private_key(pem: bytes) -> Key:
    for kind in (RSAKey, ECKey):
        try:
            key = kind.import_key(pem)
        except (JoseError, ValueError, TypeError):
            continue
        if key.is_private:
            return key
    raise ValueError("client.key is not a private RSA or EC key in PEM")


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
