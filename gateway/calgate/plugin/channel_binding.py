"""Channel binding: ties a sign-in to the certificate that the browser saw (RFC 5929)."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes


def certificate_binding(pem: Path) -> bytes:
    """Returns the binding of a file's first certificate: "tls-server-end-point:" and the certificate's hash.

    The hash function is that of the certificate's signature, but SHA-256 for MD5 and SHA-1 (RFC 5929, section 4.1).
    Raises OSError or ValueError if the file holds no certificate.
    """
    certificate = x509.load_pem_x509_certificate(pem.read_bytes())
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    return b"tls-server-end-point:" + certificate.fingerprint(algorithm)
