"""Has the domain verify NTLM responses, through winbindd.

winbindd maintains this machine's membership, and finds a domain controller. A call blocks for 2 to 90 ms without the
GIL, so it is made in a thread, and many run in parallel.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from calgate.plugin import AuthenticationFailed, NtlmAttempt, NtlmProof, Unavailable
from calgate_negotiate import ntlm_messages, wbclient
from calgate_negotiate.guard import UndecidedError
from calgate_negotiate.ntlm import canonical

T = TypeVar("T")

THREADS = 16
DEADLINE = 10.0
"""Seconds; winbindd itself waits longer for a silent domain controller."""

_RETRY_UNKNOWN = 60.0  # seconds until winbindd is queried again for a trusted domain it did not know


@dataclass(frozen=True, slots=True)
class Membership:
    """This machine's domain, and the other domains whose users may sign in."""

    computer: str  # NetBIOS; with any other name in the challenge a domain controller refuses right passwords
    domain: str  # NetBIOS
    dns_domain: str
    trusted: Mapping[str, str] = field(default_factory=dict)  # NetBIOS and DNS names, folded -> NetBIOS name
    unknown: tuple[str, ...] = ()  # of negotiate.domains, those that winbindd has not learned yet

    def netbios(self, domain: str) -> str | None:
        """Returns the NetBIOS name of a domain whose users may sign in, given by either name; None for any other."""
        folded = domain.casefold()
        if folded in (self.domain.casefold(), self.dns_domain.casefold()):
            return self.domain
        first_label = folded.partition(".")[0]
        return self.trusted.get(folded) or self.trusted.get(first_label)


class Winbind:
    """Fills the role `Verifier` with the domain's verdict."""

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        """`trusted`: other domains whose users may sign in. Raises ValueError if libwbclient is not installed."""
        try:
            self._client = wbclient.WbClient()
        except OSError as error:
            raise ValueError(
                f'negotiate.ntlm = "domain" needs {wbclient.LIBRARY} ({error}): install winbind and join the domain'
            ) from error
        self._trusted = tuple(trusted)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="winbind")
        self._membership: Membership | None = None
        self._retry_at = 0.0

    async def membership(self) -> Membership:
        """Returns this machine's membership. Raises Unavailable while winbindd does not respond."""
        member = self._membership
        if member is None or (member.unknown and time.monotonic() >= self._retry_at):
            member = self._membership = await self._in_thread(self._read_membership)
            self._retry_at = time.monotonic() + _RETRY_UNKNOWN
        return member

    async def names(self) -> ntlm_messages.Names:
        member = await self.membership()
        dns_name = f"{member.computer.lower()}.{member.dns_domain}"
        return ntlm_messages.Names(member.domain, member.computer, member.dns_domain, dns_name)

    async def verify(self, attempt: NtlmAttempt) -> NtlmProof:
        """Raises AuthenticationFailed, AccountRefused, Unavailable (logon-server-unavailable) or UndecidedError."""
        member = await self.membership()
        if attempt.domain and member.netbios(attempt.domain) is None:
            raise AuthenticationFailed(f"NTLM: domain {attempt.domain} is neither ours nor in negotiate.domains")
        try:
            proof = await self._in_thread(self._client.authenticate, attempt)
        except _SilentError as error:  # winbindd goes on with it, and a domain controller may count it
            raise UndecidedError(error.detail, code=error.code) from error
        if member.netbios(proof.identity.domain) is None:  # a member server has local accounts of its own
            raise AuthenticationFailed(f"NTLM: {proof.identity.name} is neither of our domain nor of negotiate.domains")
        return proof

    async def check_trust(self) -> str:
        """Returns the NTSTATUS of this machine's trust with the domain, "" if it is good. Raises Unavailable."""
        return await self._in_thread(self._client.check_trust)

    def canonical(self, attempt: NtlmAttempt) -> str:
        member = self._membership
        return canonical(attempt, member.domain, member.netbios) if member is not None else canonical(attempt, "")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, call: Callable[..., T], *args: object) -> T:
        work = asyncio.get_running_loop().run_in_executor(self._threads, call, *args)
        try:
            return await asyncio.wait_for(work, DEADLINE)
        except TimeoutError as error:
            raise _SilentError(
                f"NTLM: winbindd has not responded for {DEADLINE:.0f} s", code="logon-server-unavailable"
            ) from error

    def _read_membership(self) -> Membership:
        machine = self._client.machine()
        names = {domain: self._client.names_of(domain) for domain in self._trusted}
        return Membership(
            computer=machine.computer,
            domain=machine.domain,
            dns_domain=machine.dns_domain,
            trusted=trusted_names(names),
            unknown=tuple(domain for domain, both in names.items() if not both),
        )


def trusted_names(domains: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Returns the NetBIOS name by every name of the domains, folded. `domains`: the names that winbindd knows.

    By default winbindd learns of a trusted domain when its first user signs in ("winbind scan trusted domains"). Until
    then the first label of the DNS name stands for the NetBIOS name. A wrong guess lets nobody in: the domain itself
    returns the NetBIOS name of the user, which is checked, too.
    """
    trusted: dict[str, str] = {}
    for domain, known in domains.items():
        netbios = known[0] if known else domain.partition(".")[0].upper()
        trusted |= {name.casefold(): netbios for name in (domain, netbios, *known)}
    return trusted


class _SilentError(Unavailable):
    """winbindd has not responded in time."""
