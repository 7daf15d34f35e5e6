"""The roles a plugin can fill, and the values that pass between them and the core.

A plugin is a module named by an entry point of the group `calgate.plugins`; the entry point's name is its section in
the settings file. It may import this module, `calgate.refusal`, `calgate.setting` and `calgate.binding`, nothing else
of the core. It offers:

`role`
    "directory", "allocator", "authenticator" or "sign-on": plugins are started in this order
`Config`
    its section, a `calgate.setting.Section`
`start(config, services)`
    an async context manager that yields one object which fills one role (or more) below
`commands(desk)`, optional
    a `click.Command` (usually a group) that joins the command line
`warnings(config)`, optional
    sentences for an administrator about settings that are allowed and unwise
`check(config, survey)`, optional
    an async iterator of `Finding`: every real thing that the section names, tried; those of directories come first,
    and what they find broken the others leave untried
`explain(token)`, optional
    findings about the bytes of an Authorization header, for `calgate check --token`
`ntlm_report(desk, file, as_json=...)`, optional
    prints who signed in by NTLM, for `calgate check --ntlm-report`
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from calgate.refusal import Pool
from calgate.setting import Section

# ---------------------------------------------------------------- who are you?


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
class Proven:
    """The handshake is over. `token`, where there is one, goes with the answer (mutual authentication)."""

    identity: Identity
    token: bytes | None = None


class Handshake(Protocol):
    """One attempt to sign in on one connection; never used again after Proven or an exception."""

    async def step(self, scheme: str, token: bytes) -> Continue | Proven:
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
class Prover(Protocol):
    """Knows the NT hashes, or somebody who does."""

    domain: str  # NetBIOS name for the challenge, and what an empty domain means

    async def prove(self, attempt: NtlmAttempt) -> NtlmProof:
        """Raises Unproven, AccountRefused or Unavailable."""


# ---------------------------------------------------------------- may you have this?


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


# ---------------------------------------------------------------- is there a CAL for you?


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who asks for a CAL. Two claimants with the same `user` and `client` are the same."""

    user: str  # Person.key
    name: str  # CORP\alice, for people to read
    client: str  # the client machine's key, fixed when the web session began
    groups: frozenset[str] = frozenset()  # those of Allocator.groups that the user is in


@dataclass(frozen=True, slots=True)
class Lease:
    """A CAL in somebody's hands, good for one document of one license."""

    license: str
    kind: str  # "named", "document", "session", "usage"; "exempt" and "unenforced" take none
    claimant: Claimant
    document: str
    id: str = ""  # of the record of its grant; all documents under one CAL have the same
    provisional: bool = False  # new: `settle` must be told how the document server answered
    until: float | None = None  # Unix time when it must be claimed anew even if nothing is heard; None: never
    reference: str = ""  # of the request that a provisional lease was made for: `settle` is about this one


@dataclass(frozen=True, slots=True)
class Activity:
    """Somebody used a document under a lease since the last report."""

    lease: Lease
    at: float  # Unix time of the last use


@dataclass(frozen=True, slots=True)
class Lost:
    """A lease that is no longer its holder's."""

    lease: Lease
    reason: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What the gateway itself must know of a license."""

    client: str = "address"  # what makes two clients: "address", "browser" or "user"
    contact: str = ""
    exempt_users: frozenset[str] = frozenset()  # CORP\name, any case
    exempt_paths: tuple[str, ...] = ()  # prefixes


@runtime_checkable
class Allocator(Protocol):
    """Gives CALs out and takes them back."""

    licenses: Mapping[str, Terms]
    groups: frozenset[str]  # group names in its settings: the gateway says which of them a claimant is in

    async def claim(self, license: str, claimant: Claimant, document: str, *, reference: str) -> Lease:
        """One round trip, atomic, idempotent for one claimant and document. Raises NoCal or Unavailable.

        Who was denied with a place in the queue keeps it by claiming again, at least every 30 seconds.
        `reference` is the request's reference number: it is written to the record of the decision.
        """

    async def held(self, license: str, claimant: Claimant, document: str) -> Lease | None:
        """The lease held for this document, taking and keeping none; a provisional one is others' to settle."""

    async def settle(self, lease: Lease, *, served: bool | None) -> None:
        """How a request with a provisional lease ended: served, or taken back as unused; None: it cannot tell."""

    async def touch(self, activity: Sequence[Activity]) -> Sequence[Lost]:
        """Reports activity in one batch, off the request path; answers which of those leases are lost.

        Only what the document server served is a use: it also settles a lease that is still provisional.
        """

    async def release(self, license: str, claimant: Claimant) -> None:
        """The claimant signed out and no other session of that user and client lives."""

    async def pools(self, license: str) -> Sequence[Pool]:
        """How full each pool is right now, on all gateways together; for figures. Raises Unavailable."""


# ---------------------------------------------------------------- how does the document server learn who you are?


@dataclass(frozen=True, slots=True)
class Grant:
    """Access was decided: yes, by this rule, and until then."""

    rule: str
    until: float | None = None  # Unix time of the next boundary of any `hours` rule; None: none


@runtime_checkable
class SignOn(Protocol):
    """Tells the document server who the user is."""

    owned: frozenset[str]  # lower-case header names that only the gateway may set
    per_person: bool  # the person alone decides: asked once a session and route, not for each request

    async def headers(self, person: Person, grant: Grant, lease: Lease | None) -> Mapping[str, str]:
        """Header values, one character a byte of the wire (latin-1). Raises Forbidden where a name does not fit."""


# ---------------------------------------------------------------- what the core gives a plugin


@dataclass(frozen=True, slots=True)
class News:
    """Something every gateway process must hear at once.

    The allocator's topic is "lease-lost", subject: `Lease.id`, reason: "reclaimed", "removed", "ended" or
    "taken-over". Whoever holds it claims again at his next request, and is told the rest then.

    "person-changed", subject: `Person.key`: what a directory remembers of the person is asked anew.
    """

    topic: str  # "session-ended", "lease-lost", …; "store-back": the connection stands again, news may have been missed
    subject: str
    reason: str = ""


class Store(Protocol):
    """The connection to Redis or Valkey. Every method raises Unavailable when the store does not answer."""

    prefix: str  # of every key
    replicas: int  # acknowledgements that a permanent grant waits for
    audit_keep: float  # seconds that records of decisions are kept

    @property
    def redis(self) -> Any:
        """The redis-py asyncio client (single server, Sentinel or Cluster)."""

    def library(self, name: str, source: str) -> None:
        """Registers a function library: loaded at first use, and again after a failover or a FUNCTION FLUSH."""

    async def call(
        self,
        function: str,
        keys: Sequence[str],
        args: Sequence[str | int | float | bytes] = (),
        *,
        read_only: bool = False,
        lasting: Callable[[Any], bool] | None = None,
    ) -> Any:
        """One FCALL, shielded from the caller's cancellation. The function's own `redis.ResponseError` goes through.

        `lasting`: whether, after this reply, `replicas` acknowledgements are waited for; without them: Unavailable.
        """

    async def ask(self, *command: str | int | float | bytes) -> Any:
        """One command that is no function, its answer as redis-py gives it."""

    async def publish(self, news: News) -> None: ...

    def listen(self, hear: Callable[[News], None]) -> None:
        """`hear` is called in the event loop for all news, this process's own included."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the core owns and lends."""

    store: Store
    state_dir: Path
    directory: Directory | None = None  # all directories as one; None while directories themselves start
    prover: Prover | None = None  # a started plugin that can prove NTLM, if any


# ---------------------------------------------------------------- what `calgate check` finds out


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried: fine, told by the way, unwise or broken, and what to do about it.

    "untried": it needs something that failed, so only that is told as a failure: one cause, one line.
    """

    level: Literal["ok", "note", "untried", "warn", "fail"]
    subject: str  # "keytab", "ldaps://dc1…", …
    what: str
    remedy: str = ""
    blocks: Literal["", "directory", "login"] = ""  # what nobody else need try, since this failed


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Who holds a service principal name."""

    name: str
    key_version: int
    encryption_types: int  # msDS-SupportedEncryptionTypes; 0: the domain's default
    is_disabled: bool


@dataclass(frozen=True, slots=True)
class Lockout:
    """After how many wrong passwords an account is locked (0: never), and for how many seconds they are remembered."""

    threshold: int
    window: float


@runtime_checkable
class Registry(Protocol):
    """A directory that knows what its domain is set up for. Every method raises Unavailable."""

    async def holders(self, service: str) -> Sequence[ServiceAccount]:
        """Those who hold a name such as "HTTP/gateway.corp.example"; of HOST/ where nobody holds it itself."""

    async def clock(self) -> float:
        """The domain controller's Unix time."""

    async def lockout(self) -> Lockout: ...


@dataclass(frozen=True, slots=True)
class Survey:
    """What a check has to work with."""

    services: Services
    hosts: Sequence[str]  # public host names
    registry: Registry | None = None
    login: tuple[str, str] | None = None  # somebody to try a sign-in with, and the password
    blocked: Mapping[str, str] = field(default_factory=dict)  # Finding.blocks -> the subject that failed
    now: Callable[[], float] = time.time  # this machine's Unix time


class Desk(Protocol):
    """What a plugin's command line has to work with."""

    def read(self, file: Path) -> Section:
        """The plugin's own section of a settings file. Ends the command with exit 2 and every fault if it is faulty."""

    def open(self, file: Path) -> AbstractAsyncContextManager[tuple[Any, Services]]:
        """The section, with store and directories of the running gateway (or its embedded store, started for this)."""
