"""The leases that this process has given out or seen used, so that it can speak for their holders after a failover."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from calgate.plugin import Claimant, Lease

Whose = tuple[str, str, str, str]  # license, kind, user, and client or document where the kind has one


@dataclass(frozen=True, slots=True)
class KnownLease:
    """A lease, when it was last used, and when the store last said that it stands (Unix times, this machine's)."""

    lease: Lease
    used: float
    confirmed: float


@dataclass(slots=True)
class KnownLeases:
    """Never trusted for a decision: the store answers, and remembers what ended."""

    clock: Callable[[], float] = time.time
    _known: dict[Whose, KnownLease] = field(default_factory=dict)

    def of(self, license: str, claimant: Claimant, document: str) -> KnownLease | None:
        """What the claimant is believed to hold for the document, by the order of consumption."""
        for kind in ("named", "document", "session", "usage"):
            if known := self._known.get(_whose(license, kind, claimant, document)):
                return known
        return None

    def same(self, lease: Lease) -> KnownLease | None:
        """What is known of this very lease."""
        known = self._known.get(_key(lease))
        return known if known and known.lease.id == lease.id else None

    def all(self) -> Sequence[KnownLease]:
        return list(self._known.values())

    def note(self, lease: Lease, used: float | None = None) -> None:
        """The store gave the lease, or said that it stands; it was used just now or at that time."""
        now = self.clock()
        bare = replace(lease, provisional=False, reference="")
        self._known[_key(lease)] = KnownLease(bare, now if used is None else used, now)

    def forget(self, lease: Lease) -> None:
        self._known.pop(_key(lease), None)

    def release(self, license: str, claimant: Claimant) -> None:
        """Signed out: his Session CAL is no longer spoken for."""
        self._known.pop(_whose(license, "session", claimant, ""), None)

    def drop_older_than(self, seconds: float) -> None:
        oldest = self.clock() - seconds
        self._known = {key: known for key, known in self._known.items() if known.used >= oldest}


def _whose(license: str, kind: str, claimant: Claimant, document: str) -> Whose:
    part = {"named": "", "session": claimant.client}.get(kind, document)
    return license, kind, claimant.user, part


def _key(lease: Lease) -> Whose:
    return _whose(lease.license, lease.kind, lease.claimant, lease.document)
