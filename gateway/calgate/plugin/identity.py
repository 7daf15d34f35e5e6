"""Who are you? The values and roles of signing in, and of knowing people and their groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Peer:
    """The client's end of a connection, as an authenticator sees it."""

    address: str  # the client's, as seen through trusted proxies
    behind_proxy: bool  # the connection is a trusted proxy's, which may carry many users
    channel_binding: bytes | None = None  # "tls-server-end-point:" + certificate hash (RFC 5929); None: no TLS
    scheme: str = "http"  # "https": what is sent is encrypted, as far as the gateway or a trusted proxy can tell


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that a completed handshake proved. Names are hints until a directory has confirmed them."""

    domain: str  # "CORP", or a realm where nothing shorter is known
    account: str  # "alice"
    mechanism: str  # "kerberos", "ntlm", or an authenticator's own name; the log and the metrics show it
    sid: str | None = None  # None: the proof carried none
    groups: frozenset[str] = frozenset()  # SIDs that the proof carried, as old as the ticket

    @property
    def name(self) -> str:
        """The name as users write it: CORP\\alice."""
        return f"{self.domain}\\{self.account}"


@dataclass(frozen=True, slots=True)
class Continue:
    """The handshake goes on: the gateway sends the token, in base64, with a 401 and expects the next on the same
    connection."""

    token: bytes


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The handshake is complete. The gateway sends `token`, in base64, with its response (mutual authentication)."""

    identity: Identity
    token: bytes | None = None
    back_to: str = ""  # of a sign-in method that knows which path the user wanted; the core checks it
    session_names: Sequence[str] = ()  # by which the method can end the session later
    is_fresh: bool = False  # the user proved who they are just now; a sign-in that can pass unseen does not


class Handshake(Protocol):
    """One attempt to sign in on one connection; never used again after Authenticated or an exception."""

    async def step(self, scheme: str, credentials: str) -> Continue | Authenticated:
        """Takes the credentials of one Authorization header as they came, without the scheme; they are never empty.

        Raises AuthenticationFailed, AccountRefused, TooManySignIns or Unavailable; any other exception is a bug.
        """


@runtime_checkable
class Authenticator(Protocol):
    """Proves which user is at the other end of a connection."""

    schemes: Sequence[str]
    """Offered in WWW-Authenticate, in this order; each may have parameters, such as 'Basic realm="calgate"'."""

    def begin(self, peer: Peer) -> Handshake:
        """Starts a handshake; called for the first credentials of a connection."""


@runtime_checkable
class NamesMechanisms(Protocol):
    """An authenticator that knows its mechanisms: the metrics of sign-ins then begin with 0 for each."""

    mechanisms: Sequence[str]
    """The values of `Identity.mechanism` that it proves."""


@runtime_checkable
class CountsGuesses(Protocol):
    """An authenticator that limits guesses by address; unknown API tokens then count towards the same limit."""

    async def count_guess(self, address: str) -> None:
        """Counts a guess from this address. Raises TooManySignIns once there were too many, and Unavailable."""


@runtime_checkable
class SelectiveAuthenticator(Protocol):
    """An authenticator that cannot sign in every client by every scheme, so that it offers them by client."""

    def schemes_for(self, peer: Peer) -> Sequence[str]:
        """Returns those of `schemes` that can succeed for this client, in order."""


@runtime_checkable
class AcceptsUnoffered(Protocol):
    """An authenticator with schemes that programs use unasked: no challenge and no page offers them."""

    unoffered_schemes: Sequence[str]
    """Accepted in addition to `schemes`."""


def unoffered_schemes(authenticator: Authenticator) -> Sequence[str]:
    """Returns the schemes that an authenticator accepts and offers to nobody."""
    return authenticator.unoffered_schemes if isinstance(authenticator, AcceptsUnoffered) else ()


def schemes_for(authenticator: Authenticator, peer: Peer) -> Sequence[str]:
    """Returns the schemes that an authenticator offers to a client: all, unless it is selective."""
    return (
        authenticator.schemes_for(peer) if isinstance(authenticator, SelectiveAuthenticator) else authenticator.schemes
    )


@dataclass(frozen=True, slots=True)
class NtlmAttempt:
    """A client's response to our NTLM challenge (MS-NLMP 3.3.2); an NtlmVerifier decides whether it is right."""

    domain: str
    account: str
    workstation: str
    challenge: bytes  # 8 bytes, ours
    nt_response: bytes  # NTLMv2: NTProofStr (16 bytes) and the client's blob
    lm_response: bytes


@dataclass(frozen=True, slots=True)
class NtlmProof:
    """The response was right: the user, and the session base key that the MIC is made with."""

    identity: Identity
    session_key: bytes  # 16 bytes


@runtime_checkable
class NtlmVerifier(Protocol):
    """Verifies NTLM responses: has the NT hashes, or passes the response on to a domain controller."""

    @property
    def domain(self) -> str:
        """The NetBIOS name that goes into the challenge, and that an empty domain stands for."""

    async def verify(self, attempt: NtlmAttempt) -> NtlmProof:
        """Raises AuthenticationFailed, AccountRefused or Unavailable."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user whose account may sign in now, as a directory knows them."""

    key: str  # stays when the name changes: the SID, or a canonical name in directories without SIDs
    domain: str
    account: str
    display_name: str
    groups: frozenset[str]  # identifiers as `resolve` returns them: SIDs, or canonical names
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)  # by lower-case name; "": has no value

    @property
    def name(self) -> str:
        """The name as users write it: CORP\\alice."""
        return f"{self.domain}\\{self.account}"


@runtime_checkable
class GroupHints(Protocol):
    """A directory that can guess which group an administrator meant."""

    async def hint(self, group: str) -> str:
        """Returns a sentence about a group that `resolve` did not find, or "". Raises Unavailable."""


@runtime_checkable
class GroupMembers(Protocol):
    """A directory that can list a group's members: for commands, never while a request waits."""

    async def members_of(self, group: str) -> Sequence[str] | None:
        """Returns the keys of the users in a group given by name, nested groups included; None: no such group.

        Raises Unavailable.
        """


@dataclass(frozen=True, slots=True)
class Match:
    """A user whom a search in a directory found, whether or not the account may sign in now."""

    key: str  # as `Person.key`; `look_up` finds the user by it
    name: str  # CORP\\alice
    display_name: str
    principal_name: str = ""  # alice@corp.example, the userPrincipalName
    mail: str = ""
    refusal: str = ""  # why the account may not sign in now, a code of AccountRefused; "": nothing is known against it


@dataclass(frozen=True, slots=True)
class Matches:
    """The result of a search."""

    people: Sequence[Match]
    is_cut: bool = False  # more users match


@runtime_checkable
class PeopleSearch(Protocol):
    """A directory that can be searched for people: for the console, never while a user's request waits."""

    async def find_people(self, text: str, most: int) -> Matches:
        """Returns up to `most` users of whom a name begins with a text, in any case.

        Names are the account with or without its domain, the name at sign-in (UPN), the display name, given name and
        last name, and the mail address. Every character of the text stands for itself. Raises Unavailable.
        """


@runtime_checkable
class PasswordChanger(Protocol):
    """A directory in which users can change their own password, an expired one too, over a connection with TLS."""

    async def change_password(self, identity: Identity, old: str, new: str) -> str:
        """Returns "" if the password is changed, or a sentence for the user: the domain does not accept the new one.

        The identity is one that a user typed: its mechanism is "". Raises AuthenticationFailed for a wrong old password
        or an unknown account, AccountRefused or Unavailable.
        """


@runtime_checkable
class Directory(Protocol):
    """Knows people, their groups and the state of their accounts."""

    async def look_up(self, identity: Identity) -> Person | None:
        """Returns the person, or None if this directory has no account of that SID or name.

        Raises AccountRefused (disabled, expired, locked …) or Unavailable; an error never means "not a member".
        """

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        """Returns the identifiers of groups given by name, SID or DN; None for a group that does not exist.

        Raises Unavailable.
        """
