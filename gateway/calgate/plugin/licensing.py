"""Is there a CAL for you? The allocator's role, and the values that pass to and from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from calgate.plugin.errors import Refusal


@dataclass(frozen=True, slots=True)
class Pool:
    """How full one pool of CALs was when the claim was decided."""

    kind: str  # "named", "document", "session" or "usage"
    limit: int
    occupied: int
    free_at: float | None = None  # Unix time when the next CAL of it can come free by itself; None: not by itself
    note: str = ""  # a stable word why it did not serve: "full", "not-assigned", "not-allocated", "reserved", "capped"


class NoCal(Refusal):
    """Access was granted, but no CAL could be had. Never names another person."""

    code = "no-cal"

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
        code: str | None = None,
    ) -> None:
        super().__init__(detail, code=code)
        self.license = license
        self.document = document
        self.pools = tuple(pools)
        self.contact = contact
        self.place = place  # in the queue, from 1; None: this license has no queue
        self.estimate = estimate  # Unix time when the offer may come, as far as the clocks tell

    @property
    def free_at(self) -> float | None:
        """Unix time when the next CAL of any pool can come free by itself."""
        return min((pool.free_at for pool in self.pools if pool.free_at is not None), default=None)


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
class LicenseInfo:
    """What the gateway itself must know of a license."""

    client: str = "address"  # what makes two clients: "address", "browser" or "user"
    contact: str = ""
    exempt_users: frozenset[str] = frozenset()  # CORP\name, any case
    exempt_paths: tuple[str, ...] = ()  # prefixes


@runtime_checkable
class Allocator(Protocol):
    """Gives CALs out and takes them back."""

    licenses: Mapping[str, LicenseInfo]
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
