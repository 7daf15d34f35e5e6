"""Verifiers of passwords: the domain, or the users file."""

import hmac
import secrets
from dataclasses import dataclass, replace
from typing import Protocol

from spnego._ntlm_raw.md4 import md4  # OpenSSL 3 has MD4 in its legacy provider only

from calgate.plugin import Identity, NtlmAttempt, NtlmVerifier
from calgate_negotiate.ntlm import canonical
from calgate_negotiate.password_names import PasswordName


@dataclass(frozen=True, slots=True)
class Attempt:
    """The user whose password was right."""

    identity: Identity


class PasswordVerifier(Protocol):
    """Verifies passwords of the users of some domains."""

    def knows(self, name: PasswordName) -> bool:
        """Whether this verifier knows the domain of a name."""

    def canonical(self, name: PasswordName) -> str:
        """Returns one spelling for every spelling of an account."""

    async def verify(self, name: PasswordName, password: str) -> Attempt:
        """Raises AuthenticationFailed, AccountRefused or Unavailable."""


class FileVerifier:
    """Verifies against hashes that another plugin has, as if the password had come by NTLM (MS-NLMP 3.3.2)."""

    def __init__(self, hashes: NtlmVerifier) -> None:
        self._hashes = hashes

    def knows(self, name: PasswordName) -> bool:
        """Whether this verifier knows the domain of a name; a name without a domain belongs to the first verifier."""
        return True

    def canonical(self, name: PasswordName) -> str:
        """Returns one spelling for every spelling of an account."""
        return canonical(_attempt(name, "", b""), self._hashes.domain)

    async def verify(self, name: PasswordName, password: str) -> Attempt:
        """Raises AuthenticationFailed, AccountRefused or Unavailable."""
        proof = await self._hashes.verify(_attempt(name, password, secrets.token_bytes(8)))
        return Attempt(replace(proof.identity, mechanism="password"))


def _attempt(name: PasswordName, password: str, challenge: bytes) -> NtlmAttempt:
    """Makes the response of a client that has the password."""
    account = f"{name.account}@{name.suffix}" if name.suffix else name.account
    big = "".join(upper if len(upper := one.upper()) == 1 else one for one in account)
    key = hmac.digest(md4(password.encode("utf-16-le")), (big + name.domain).encode("utf-16-le"), "md5")
    blob = b"\1\1" + bytes(26)
    return NtlmAttempt(
        domain=name.domain,
        account=account,
        workstation="",
        challenge=challenge,
        nt_response=hmac.digest(key, challenge + blob, "md5") + blob,
        lm_response=bytes(24),
    )
