"""How the gateway proves itself to the token endpoint."""

import base64
import datetime
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from calgate.plugin import Secret
from calgate_oidc.client_proof import ClientProof
from calgate_oidc.discovery import Metadata
from calgate_oidc.settings import Client

NOW = 1_800_000_000
METADATA = Metadata(
    issuer="https://idp.example",
    authorization_endpoint="https://idp.example/a",
    token_endpoint="https://idp.example/t",
    jwks_uri="https://idp.example/k",
    end_session_endpoint="",
    sends_issuer=True,
    takes_basic=True,
    backchannel_logout=False,
    claims=(),
)
FORM_ONLY = replace(METADATA, takes_basic=False)


def write(folder: Path, key: CertificateIssuerPrivateKeyTypes, name: str) -> tuple[Path, x509.Certificate]:
    """Writes NAME.key and NAME.pem."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    today = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1, today, today + datetime.timedelta(400))
    ).sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.key").write_bytes(pem)
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return folder / f"{name}.key", certificate


def test_secret_goes_into_the_header_or_into_the_form_as_the_provider_has_it() -> None:
    proof = ClientProof(Client(id="cal:gate", secret=Secret("s+ä &")))
    headers, form = proof.of_request(METADATA)
    pair = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode()
    assert (pair, form) == ("cal%3Agate:s%2B%C3%A4+%26", {})
    assert proof.of_request(FORM_ONLY) == ({}, {"client_id": "cal:gate", "client_secret": "s+ä &"})


@pytest.mark.parametrize("kind", ["RSA", "EC"])
def test_key_signs_a_statement_for_the_token_endpoint_alone(tmp_path: Path, kind: str) -> None:
    key = rsa.generate_private_key(65537, 2048) if kind == "RSA" else ec.generate_private_key(ec.SECP256R1())
    file, certificate = write(tmp_path, key, "one")
    client = Client(id="calgate", key=file, certificate=file.with_suffix(".pem"))
    headers, form = ClientProof(client, lambda: NOW).of_request(METADATA)
    public = (RSAKey if kind == "RSA" else ECKey).import_key(file.read_bytes())
    algorithm = "RS256" if kind == "RSA" else "ES256"
    token = jwt.decode(form["client_assertion"], public, algorithms=[algorithm])
    der = certificate.public_bytes(Encoding.DER)
    assert token.header["x5t#S256"] == base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    assert token.claims.pop("jti")
    assert token.claims == {
        "iss": "calgate",
        "sub": "calgate",
        "aud": "https://idp.example/t",
        "iat": NOW,
        "exp": NOW + 60,
    }
    assert (headers, form["client_id"]) == ({}, "calgate")


def test_key_of_another_certificate_is_a_fault(tmp_path: Path) -> None:
    one, _ = write(tmp_path, ec.generate_private_key(ec.SECP256R1()), "one")
    two, _ = write(tmp_path, ec.generate_private_key(ec.SECP256R1()), "two")
    with pytest.raises(ValueError, match="not the certificate of"):
        ClientProof(Client(id="c", key=one, certificate=two.with_suffix(".pem")))
    with pytest.raises(ValueError, match="not a private RSA or EC key"):
        ClientProof(Client(id="c", key=two.with_suffix(".pem"), certificate=two.with_suffix(".pem")))
