"""Private keys that sign, and their public halves as readers fetch them (JWK, RFC 7517)."""

import base64
import hashlib
import json
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from calgate.plugin import closing_command

PUBLISHED_BEFORE = 3600.0  # seconds that a new key is published before it signs: readers keep the keys that they know
_SMALLEST_RSA = 2048  # bits (RFC 7518, 3.3)
_COORDINATE = 32  # bytes, for P-256 (RFC 7518, 3.4)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def base64url(data: bytes) -> str:
    """Returns base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key: it signs by one algorithm, which is fixed by the setting."""

    private: PrivateKey
    jwk: Mapping[str, str]

    @classmethod
    def read(cls, file: Path, algorithm: str) -> Self:
        """Raises ValueError if the file has no key for this algorithm, or others can read it."""
        try:
            if stat.S_IMODE(file.stat().st_mode) & 0o007:
                raise ValueError(f"keys: every user of this machine can read {file}; run `{closing_command(file)}`")
            private = serialization.load_pem_private_key(file.read_bytes(), None)
        except OSError as error:
            raise ValueError(f"keys: {error}; make one with `calgate keys new {file}`") from error
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(f"keys: {file}: {error}; make one with `calgate keys new`") from error
        if (
            algorithm == "ES256"
            and isinstance(private, ec.EllipticCurvePrivateKey)
            and private.curve.name == "secp256r1"
        ):
            return cls(private, _jwk(_elliptic(private.public_key().public_numbers()), algorithm))
        if algorithm == "RS256" and isinstance(private, rsa.RSAPrivateKey) and private.key_size >= _SMALLEST_RSA:
            return cls(private, _jwk(_rsa(private.public_key().public_numbers()), algorithm))
        raise ValueError(f"keys: {file} has no key for {algorithm}; make one with `calgate keys new`")

    def sign(self, claims: Mapping[str, object]) -> str:
        """Returns a token (JWS compact serialization, RFC 7515, 7.1)."""
        head = {"alg": self.jwk["alg"], "kid": self.jwk["kid"], "typ": "JWT"}
        signed = f"{_encoded(head)}.{_encoded(claims)}"
        return f"{signed}.{base64url(self._signature(signed.encode()))}"

    def _signature(self, data: bytes) -> bytes:
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(_COORDINATE, "big") + s.to_bytes(_COORDINATE, "big")


class KeyRing:
    """The keys of one route, the newest first."""

    def __init__(self, keys: Sequence[SigningKey], now: Callable[[], float] = time.monotonic) -> None:
        self._keys = tuple(keys)
        self._now = now
        self._published_at = now()

    @classmethod
    def read(cls, files: Sequence[Path], algorithm: str) -> Self:
        """Raises ValueError if a key cannot be used."""
        return cls([SigningKey.read(file, algorithm) for file in files])

    @property
    def signing(self) -> SigningKey:
        """The newest key that has been published for long enough; with a single key, that one.

        Where there are several, the one before signs for an hour after each start. Its public half is there, too.
        """
        is_known = self._now() - self._published_at >= PUBLISHED_BEFORE
        return self._keys[0] if is_known or len(self._keys) == 1 else self._keys[1]

    def public(self) -> Sequence[Mapping[str, str]]:
        """Returns the public halves of all keys."""
        return [key.jwk for key in self._keys]


def _encoded(value: object) -> str:
    return base64url(json.dumps(value, separators=(",", ":")).encode())


def _elliptic(numbers: ec.EllipticCurvePublicNumbers) -> dict[str, str]:
    x, y = (number.to_bytes(_COORDINATE, "big") for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": base64url(x), "y": base64url(y)}


def _rsa(numbers: rsa.RSAPublicNumbers) -> dict[str, str]:
    exponent, modulus = (number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (numbers.e, numbers.n))
    return {"e": base64url(exponent), "kty": "RSA", "n": base64url(modulus)}


def _jwk(members: dict[str, str], algorithm: str) -> dict[str, str]:
    """Returns the public key with its thumbprint as `kid`: the required members, sorted (RFC 7638, 3)."""
    thumbprint = hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest()
    return {**members, "kid": base64url(thumbprint), "use": "sig", "alg": algorithm}
