"""Who are you? The values and roles of signing in, and of knowing people and their groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Peer:
    """The far end of a connection, as an authenticator may see it."""

    address: str  # the client's, as seen through trusted proxies
    behind_proxy: bool  # the connection is a trusted proxy's, which may carry many users
    channel_binding: bytes | None = None  # "tls-server-end-point:" + certificate hash (RFC 5929); None: no TLS


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a completed handshake proved. Names are hints until a directory has confirmed them."""

    domain: str  # "CORP", or a realm where nothing shorter is known
    account: str  # "alice"
    mechanism: str  # "kerberos" or "ntlm"
    sid: str | None = None  # where the proof carried one
    groups: frozenset[str] = frozenset()  # SIDs that the proof carried, as old as the ticket

    @property
    def name(self) -> str:
        """As people write it: CORP\\alice."""
        return f"{self.domain}\\{self.account}"


@dataclass(frozen=True, slots=True)
class Continue:
    """The handshake goes on: send this token with a 401, expect the next on the same connection."""

    token: bytes


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The handshake is over. `token`, where there is one, goes with the answer (mutual authentication)."""

    identity: Identity
    token: bytes | None = None


class Handshake(Protocol):
    """One attempt to sign in on one connection; never used again after Proven or an exception."""

    async def step(self, scheme: str, token: bytes) -> Continue | Authenticated:
        """Raises Unproven, AccountRefused, TooManySignIns or Unavailable; anything else is a bug."""


class Authenticator(Protocol):
    """Proves who is at the other end of a connection."""

    schemes: Sequence[str]  # offered in WWW-Authenticate, in this order

    def begin(self, peer: Peer) -> Handshake: ...


@dataclass(frozen=True, slots=True)
class NtlmAttempt:
    """What a client answered to our NTLM challenge (MS-NLMP 3.3.2); the prover says whether it is right."""

    domain: str
    account: str
    workstation: str
    challenge: bytes  # 8 bytes, ours
    nt_response: bytes  # NTLMv2: NTProofStr (16 bytes) and the client's blob
    lm_response: bytes


@dataclass(frozen=True, slots=True)
class NtlmProof:
    """The attempt was right: who it was, and the session base key that the MIC is made with."""

    identity: Identity
    session_key: bytes  # 16 bytes


@runtime_checkable
class NtlmVerifier(Protocol):
    """Knows the NT hashes, or somebody who does."""

    @property
    def domain(self) -> str:
        """The NetBIOS name that goes into the challenge, and that an empty domain stands for."""

    async def prove(self, attempt: NtlmAttempt) -> NtlmProof:
        """Raises Unproven, AccountRefused or Unavailable."""


@dataclass(frozen=True, slots=True)
class Person:
    """What a directory knows of somebody whose account may sign in right now."""

    key: str  # stays when the name changes: the SID, or a canonical name where there is none
    domain: str
    account: str
    display_name: str
    groups: frozenset[str]  # identifiers as `resolve` gives them: SIDs, or canonical names where there are none

    @property
    def name(self) -> str:
        """As people write it: CORP\\alice."""
        return f"{self.domain}\\{self.account}"


@runtime_checkable
class Directory(Protocol):
    """Knows people, their groups and the state of their accounts."""

    async def look_up(self, identity: Identity) -> Person | None:
        """The person, or None where this directory has nobody of that SID or name.

        Raises AccountRefused (disabled, expired, locked …) or Unavailable; an error is never "not a member".
        """

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        """Identifiers of groups given by name, SID or DN; None where there is no such group. Raises Unavailable."""
