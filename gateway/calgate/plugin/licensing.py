"""Is there a CAL for you? The allocator's role, and the values that pass to and from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from calgate.plugin.errors import Refusal

CAL_KINDS = ("named", "document", "session", "usage")
"""The kinds of CAL, and so of pools."""

DENIAL_REASONS = (
    *("full", "promised", "capped", "reserved", "quarantined", "not-allocated", "not-assigned", "no-cals"),
    *("in-use-elsewhere", "taken-over"),
    *("anonymous-full", "address-full", "none-for-anonymous"),
)
"""Why a claim was denied, for metrics: the note of the pool that came nearest to giving a CAL, or a code of NoCal."""


@dataclass(frozen=True, slots=True)
class Pool:
    """How full one pool of CALs was when the claim was decided."""

    kind: str  # "named", "document", "session" or "usage"
    limit: int
    occupied: int
    free_at: float | None = None  # Unix time when one is free again, beyond the limit none is; None: not by itself
    note: str = (
        ""  # the code of the reason why it gave no CAL: "full", "not-assigned", "not-allocated", "reserved", "capped"
    )
    anonymous: int = 0  # of the occupied: those of anonymous claimants


class NoCal(Refusal):
    """Access was granted, but no CAL is available. Never names another user."""

    code = "no-cal"
    further_codes = (
        *("no-cal-held", "in-use-elsewhere", "taken-over"),
        *("cookie-needed", "anonymous-full", "address-full", "none-for-anonymous"),
    )

    def __init__(
        self,
        detail: str,
        *,
        license: str,
        document: str,
        pools: Sequence[Pool],
        contact: str = "",
        place: int | None = None,
        estimate: float | None = None,
        is_poll: bool = False,
        code: str | None = None,
    ) -> None:
        super().__init__(detail, code=code)
        self.license = license
        self.document = document
        self.pools = tuple(pools)
        self.contact = contact
        self.place = place  # the position in the queue, from 1; None: this license has no queue
        self.estimate = estimate  # Unix time when a CAL may be offered, estimated from the clocks of the leases
        self.is_poll = is_poll  # a waiting page's poll: its denial was counted when the wait began

    @property
    def reason(self) -> str:
        """The one of DENIAL_REASONS that says most about what would help."""
        if self.code in DENIAL_REASONS:
            return self.code
        notes = {pool.note for pool in self.pools}
        return next((reason for reason in DENIAL_REASONS if reason in notes), "no-cals")

    @property
    def free_at(self) -> float | None:
        """Unix time when the next CAL of any pool can come free by itself."""
        return min((pool.free_at for pool in self.pools if pool.free_at is not None), default=None)


ANONYMOUS_KEYS = "anonymous:"
"""The beginning of every anonymous claimant's key; no user's key begins so."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """A user at a client who claims a CAL. Two claimants with the same `user` and `client` are the same.

    An anonymous claimant is a browser on a public route: its `user` is made from its cookie, begins with
    `ANONYMOUS_KEYS` and is no user's key; its `client` is the address that the cookie was given to. It gets what
    `LicenseInfo.anonymous` allows, and no more.
    """

    user: str  # Person.key
    name: str  # CORP\alice, for people to read
    client: str  # the client machine's key, fixed when the web session began
    groups: frozenset[str] = frozenset()  # those of Allocator.groups that the user is in
    is_anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """A CAL that a claimant holds, valid for one document of one license."""

    license: str
    kind: str  # "named", "document", "session", "usage"; "exempt" and "unenforced" hold no CAL
    claimant: Claimant
    document: str
    id: str = ""  # of the record that granted it; all documents under one CAL share it
    provisional: bool = False  # new: the document server's response must be passed to `settle`
    until: float | None = None  # Unix time when it must be claimed again even without an event; None: never
    reference: str = ""  # of the request that a provisional lease was made for, and that settles it
    waited: float | None = field(default=None, compare=False)  # seconds in the queue, if this claim ended a wait


@dataclass(frozen=True, slots=True)
class Activity:
    """A use of a document under a lease since the last report."""

    lease: Lease
    at: float  # Unix time of the last use


@dataclass(frozen=True, slots=True)
class Lost:
    """A lease that its claimant no longer holds."""

    lease: Lease
    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    """The effect of a sign-out on the user's CAL of one license."""

    license: str
    kind: str  # "session": it comes back; "named", "document": it stays the user's; "": the user had none there
    free_at: float | None = None  # Unix time when a Session CAL comes back, which has a minimum; None: it is free now


@dataclass(frozen=True, slots=True)
class LicenseInfo:
    """The facts about a license that the core needs."""

    client: str = "address"  # how clients are distinguished: "address", "browser" or "user"
    contact: str = ""
    exempt_users: frozenset[str] = frozenset()  # as the allocator compares them
    exempt_paths: tuple[str, ...] = ()  # each with everything below it, in any case
    anonymous: int = 0  # CALs that anonymous claimants can hold at once; 0: they get none, and no public route names it


@runtime_checkable
class Allocator(Protocol):
    """Gives CALs out and takes them back."""

    licenses: Mapping[str, LicenseInfo]
    groups: frozenset[str]  # group names in its settings: a Claimant lists those that its user is in

    async def claim(self, license: str, claimant: Claimant, document: str, *, reference: str) -> Lease:
        """Claims a CAL in one round trip: atomic, and idempotent for one claimant and document.

        A claimant who was denied but queued keeps the position by claiming again at least every 30 seconds.
        `reference` is the request's reference number: it is written to the record of the decision. An anonymous
        claimant is never queued, and its NoCal has no pools: strangers do not learn how many licenses there are. Raises
        NoCal, Unavailable.
        """

    async def held(self, license: str, claimant: Claimant, document: str) -> Lease | None:
        """Returns the lease already held for this document; takes none and renews none.

        A provisional lease is settled by the request that took it.
        """

    async def settle(self, lease: Lease, *, served: bool | None) -> None:
        """Reports the outcome of the request that a provisional lease was made for.

        True keeps the lease, False takes it back as unused, None means that the response was inconclusive.
        """

    async def touch(self, activity: Sequence[Activity]) -> Sequence[Lost]:
        """Reports activity in one batch, off the request path, and returns which of those leases are lost.

        Only a request that the document server served is a use; it also settles a lease that is still provisional.
        """

    async def release(self, license: str, claimant: Claimant) -> Released | None:
        """Gives the claimant's CALs back: they signed out, and no other session of that user and client is left.

        Returns what became of the CAL, for the sign-out page; None if the allocator does not know.
        """

    async def pools(self, license: str) -> Sequence[Pool]:
        """Returns how full each pool is now, on all gateways together, for metrics. Raises Unavailable."""


@runtime_checkable
class QueuedAllocator(Protocol):
    """An allocator whose denied users can wait in a queue."""

    async def waiting(self, license: str) -> int:
        """Returns how many users wait, on all gateways together, for metrics. Raises Unavailable."""
