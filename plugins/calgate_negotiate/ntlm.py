"""The NTLM acceptor: makes the challenge, and has the response verified where the NT hashes are (MS-NLMP 3.2)."""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from calgate.plugin import AuthenticationFailed, Identity, NtlmAttempt, NtlmProof, NtlmVerifier
from calgate_negotiate import name_checks, ntlm_messages
from calgate_negotiate.channel_binding import ExpectedBinding
from calgate_negotiate.guard import Guard


class Verifier(Protocol):
    """Verifies responses, and knows what this server is called in the challenge."""

    async def names(self) -> ntlm_messages.Names:
        """Returns the names for the challenge. Raises Unavailable."""

    async def verify(self, attempt: NtlmAttempt) -> NtlmProof:
        """Raises AuthenticationFailed, AccountRefused or Unavailable."""

    def canonical(self, attempt: NtlmAttempt) -> str:
        """Returns one spelling of the attempt's account: domain\\account in lower case."""


class PluginVerifier:
    """Verifies by another plugin that has the NT hashes."""

    COMPUTER = "CALGATE"  # this machine is in no domain, and its real name would inform strangers

    def __init__(self, plugin: NtlmVerifier) -> None:
        self._plugin = plugin

    async def names(self) -> ntlm_messages.Names:
        return ntlm_messages.Names(self._plugin.domain, self.COMPUTER)

    async def verify(self, attempt: NtlmAttempt) -> NtlmProof:
        return await self._plugin.verify(attempt)

    def canonical(self, attempt: NtlmAttempt) -> str:
        return canonical(attempt, self._plugin.domain)


def canonical(attempt: NtlmAttempt, default: str, netbios: Callable[[str], str | None] = lambda name: name) -> str:
    """Returns corp\\alice for alice, CORP\\Alice, corp.example\\alice and alice@corp.example.

    `default` is the domain of a bare name; `netbios` returns the NetBIOS name of a domain, None if it is unknown. A
    directory takes any number of blanks within an account's name for one (RFC 4518 section 2.6.1).
    """
    account, domain = attempt.account, attempt.domain
    if not domain and "@" in account:
        account, _, domain = account.rpartition("@")
    domain = (netbios(domain) or domain) if domain else default
    return f"{domain}\\{' '.join(account.split())}".casefold()


@dataclass(frozen=True, slots=True)
class Session:
    """The keys that client and server share after a right response."""

    identity: Identity
    flags: int
    key: bytes

    def sign(self, data: bytes) -> bytes:
        """Returns the server's first signature."""
        return ntlm_messages.signature(self.flags, self.key, data, by_client=False)

    def is_signed_by_client(self, data: bytes, signature: bytes) -> bool:
        """Whether this is the client's first signature over the data."""
        try:
            expected = ntlm_messages.signature(self.flags, self.key, data, by_client=True)
        except ntlm_messages.MalformedError:
            return False
        return hmac.compare_digest(expected, signature)


class NtlmExchange:
    """One sign-in of three messages: `challenge` takes the first, returns the second, and `finish` takes the third."""

    def __init__(self, verifier: Verifier, guard: Guard | None, address: str, expected: ExpectedBinding) -> None:
        """`address`: the client's, by which the guard counts failures."""
        self._verifier = verifier
        self._guard = guard
        self._address = address
        self._expected = expected
        self._nonce = secrets.token_bytes(8)
        self._negotiate = b""
        self._challenge = b""

    async def challenge(self, negotiate: bytes) -> bytes:
        """Takes NEGOTIATE and returns CHALLENGE. Raises AuthenticationFailed or Unavailable."""
        try:
            self._challenge = ntlm_messages.challenge(negotiate, self._nonce, await self._verifier.names())
        except ntlm_messages.MalformedError as error:
            raise AuthenticationFailed(str(error)) from error
        self._negotiate = negotiate
        return self._challenge

    async def finish(self, authenticate: bytes) -> Session:
        """Takes AUTHENTICATE. Raises AuthenticationFailed, AccountRefused, TooManySignIns or Unavailable."""
        try:
            message = ntlm_messages.read_authenticate(authenticate)
            name_checks.check_ntlm(message.domain, message.account)
        except ValueError as error:
            raise AuthenticationFailed(str(error)) from error
        proof = await self._verify(
            NtlmAttempt(
                domain=message.domain,
                account=message.account,
                workstation=message.workstation,
                challenge=self._nonce,
                nt_response=message.nt_response,
                lm_response=message.lm_response,
            )
        )
        try:
            key = ntlm_messages.exported_key(message, proof.session_key)
        except ntlm_messages.MalformedError as error:
            raise AuthenticationFailed(str(error)) from error
        self._check_mic(message, key)
        self._expected.check_ntlm(message.binding)  # only now: the proof that covers it is known to be right
        return Session(proof.identity, message.flags, key)

    async def _verify(self, attempt: NtlmAttempt) -> NtlmProof:
        if self._guard is None:
            return await self._verifier.verify(attempt)
        account = self._verifier.canonical(attempt)
        return await self._guard.verify(account, self._address, lambda: self._verifier.verify(attempt))

    def _check_mic(self, message: ntlm_messages.AuthenticateMessage, key: bytes) -> None:
        """Raises AuthenticationFailed if a promised MIC is missing or wrong. curl promises and sends none."""
        if not message.mic_promised:
            return
        expected = ntlm_messages.mic(key, self._negotiate, self._challenge, message.without_mic)
        if message.mic is None or not hmac.compare_digest(expected, message.mic):
            raise AuthenticationFailed("NTLM: the messages were changed in transit: the MIC does not fit")
