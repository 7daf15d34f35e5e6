"""The password's side of NTLMv2 (MS-NLMP 3.3.2): its hash, and whether a response was made with the hash."""

import hmac

from spnego._ntlm_raw.md4 import md4  # OpenSSL 3 has MD4 in its legacy provider only

from calgate.plugin import NtlmAttempt


def nt_hash(password: str) -> bytes:
    """Returns NTOWFv1: 16 bytes, as good as the password itself."""
    hashed: bytes = md4(password.encode("utf-16-le"))
    return hashed


def session_key(attempt: NtlmAttempt, nt_hash: bytes) -> bytes | None:
    """Returns the session base key if the attempt was made with this hash, else None; in constant time."""
    named = (_upper(attempt.account) + attempt.domain).encode("utf-16-le")
    key = hmac.digest(nt_hash, named, "md5")
    proof, blob = attempt.nt_response[:16], attempt.nt_response[16:]
    right = hmac.digest(key, attempt.challenge + blob, "md5")
    session = hmac.digest(key, right, "md5")
    return session if hmac.compare_digest(right, proof) else None


def _upper(account: str) -> str:
    """Returns the name in upper case as Windows has it: one character for one, so that ß stays."""
    return "".join(big if len(big := character.upper()) == 1 else character for character in account)
