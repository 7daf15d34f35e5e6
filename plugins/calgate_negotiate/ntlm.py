"""An NTLM acceptor: makes the challenge, and leaves the proof to whoever knows the NT hashes (MS-NLMP 3.2)."""

import hmac
import secrets
from dataclasses import dataclass
from typing import Protocol

from calgate.plugin import AuthenticationFailed, Identity, NtlmAttempt, NtlmProof
from calgate.plugin import NtlmVerifier as PluginProver
from calgate_negotiate import name_checks, ntlm_messages
from calgate_negotiate.channel_binding import ExpectedBinding
from calgate_negotiate.guard import Guard


class NtlmVerifier(Protocol):
    """Says whether an answer is right, and what this server is called in the challenge."""

    async def names(self) -> ntlm_messages.Names:
        """Raises Unavailable."""

    async def prove(self, attempt: NtlmAttempt) -> NtlmProof:
        """Raises Unproven, AccountRefused or Unavailable."""

    def canonical(self, attempt: NtlmAttempt) -> str:
        """One spelling of the account that is tried: DOMAIN\\account in small letters."""


class UsersVerifier:
    """Another plugin that knows the NT hashes."""

    COMPUTER = "CALGATE"  # it is no member of a domain, and what it is called is nobody's business

    def __init__(self, plugin: PluginProver) -> None:
        self._plugin = plugin

    async def names(self) -> ntlm_messages.Names:
        return ntlm_messages.Names(self._plugin.domain, self.COMPUTER)

    async def prove(self, attempt: NtlmAttempt) -> NtlmProof:
        return await self._plugin.prove(attempt)

    def canonical(self, attempt: NtlmAttempt) -> str:
        return canonical(attempt, self._plugin.domain)


def canonical(attempt: NtlmAttempt, domain: str, dns_domain: str = "") -> str:
    """alice, CORP\\Alice, corp.example\\alice and alice@corp.example in one spelling: corp\\alice.

    Where there is a blank in the account's name, a directory takes any number of them for the same (RFC 4518, 2.6.1).
    """
    account, named = attempt.account, attempt.domain
    if not named and "@" in account:
        account, _, named = account.rpartition("@")
    if not named or named.casefold() == dns_domain.casefold():
        named = domain
    return f"{named}\\{' '.join(account.split())}".casefold()


@dataclass(frozen=True, slots=True)
class Session:
    """What both sides know after a right answer."""

    identity: Identity
    flags: int
    key: bytes

    def sign(self, data: bytes) -> bytes:
        """Our first signature."""
        return ntlm_messages.signature(self.flags, self.key, data, by_client=False)

    def is_signed_by_client(self, data: bytes, signature: bytes) -> bool:
        """Whether this is the client's first signature over the data."""
        try:
            expected = ntlm_messages.signature(self.flags, self.key, data, by_client=True)
        except ntlm_messages.MalformedError:
            return False
        return hmac.compare_digest(expected, signature)


class NtlmExchange:
    """The three messages of one sign-in, in their order."""

    def __init__(self, prover: NtlmVerifier, guard: Guard | None, address: str, bound: ExpectedBinding) -> None:
        """`address`: the client's, which failures are counted by where there is a guard."""
        self._prover = prover
        self._guard = guard
        self._address = address
        self._bound = bound
        self._nonce = secrets.token_bytes(8)
        self._negotiate = b""
        self._challenge = b""

    async def challenge(self, negotiate: bytes) -> bytes:
        """Answers NEGOTIATE with CHALLENGE; raises Unproven or Unavailable."""
        try:
            self._challenge = ntlm_messages.challenge(negotiate, self._nonce, await self._prover.names())
        except ntlm_messages.MalformedError as error:
            raise AuthenticationFailed(str(error)) from error
        self._negotiate = negotiate
        return self._challenge

    async def prove(self, authenticate: bytes) -> Session:
        """Takes AUTHENTICATE; raises Unproven, AccountRefused, TooManySignIns or Unavailable."""
        try:
            answer = ntlm_messages.read_answer(authenticate)
            name_checks.check_ntlm(answer.domain, answer.account)
        except ValueError as error:
            raise AuthenticationFailed(str(error)) from error
        proof = await self._guarded(
            NtlmAttempt(
                domain=answer.domain,
                account=answer.account,
                workstation=answer.workstation,
                challenge=self._nonce,
                nt_response=answer.nt_response,
                lm_response=answer.lm_response,
            )
        )
        try:
            key = ntlm_messages.exported_key(answer, proof.session_key)
        except ntlm_messages.MalformedError as error:
            raise AuthenticationFailed(str(error)) from error
        self._check_mic(answer, key)
        self._bound.check_ntlm(answer.binding)  # now that the proof over it is known to be right
        return Session(proof.identity, answer.flags, key)

    async def _guarded(self, attempt: NtlmAttempt) -> NtlmProof:
        if self._guard is None:
            return await self._prover.prove(attempt)
        account = self._prover.canonical(attempt)
        return await self._guard.prove(account, self._address, lambda: self._prover.prove(attempt))

    def _check_mic(self, answer: ntlm_messages.Answer, key: bytes) -> None:
        """curl makes no MIC; who promised one must have sent it, over exactly our ntlm_messages."""
        if not answer.mic_promised:
            return
        expected = ntlm_messages.mic(key, self._negotiate, self._challenge, answer.without_mic)
        if answer.mic is None or not hmac.compare_digest(expected, answer.mic):
            raise AuthenticationFailed("the NTLM messages were changed on their way: the MIC does not fit")
