"""The leases that this process has granted or seen used, so that it can reassert them after a failover."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from calgate.plugin import Claimant, Lease

Whose = tuple[str, str, str, str]  # license, kind, user, and the client or document that the kind depends on


@dataclass(frozen=True, slots=True)
class KnownLease:
    """A lease, its last use, and when the store last confirmed it (Unix times of this machine)."""

    lease: Lease
    used: float
    confirmed: float


@dataclass(slots=True)
class KnownLeases:
    """Never trusted for a decision: the store decides, and remembers the leases that have ended."""

    clock: Callable[[], float] = time.time
    _known: dict[Whose, KnownLease] = field(default_factory=dict)

    def of(self, license: str, claimant: Claimant, document: str) -> KnownLease | None:
        """Returns what the claimant is believed to hold for the document, by the order of consumption."""
        for kind in ("named", "document", "session", "usage"):
            if known := self._known.get(_whose(license, kind, claimant, document)):
                return known
        return None

    def same(self, lease: Lease) -> KnownLease | None:
        """Returns what is known of exactly this lease."""
        known = self._known.get(_key(lease))
        return known if known and known.lease.id == lease.id else None

    def all(self) -> Sequence[KnownLease]:
        return list(self._known.values())

    def note(self, lease: Lease, used: float | None = None) -> None:
        """Notes that the store granted or confirmed the lease; it was used now or at the given time."""
        now = self.clock()
        bare = replace(lease, provisional=False, reference="")
        self._known[_key(lease)] = KnownLease(bare, now if used is None else used, now)

    def forget(self, lease: Lease) -> None:
        self._known.pop(_key(lease), None)

    def release(self, license: str, claimant: Claimant) -> None:
        """After a sign-out the claimant's Session CAL is not reasserted any more."""
        self._known.pop(_whose(license, "session", claimant, ""), None)

    def drop_older_than(self, seconds: float) -> None:
        oldest = self.clock() - seconds
        self._known = {key: known for key, known in self._known.items() if known.used >= oldest}


def _whose(license: str, kind: str, claimant: Claimant, document: str) -> Whose:
    part = {"named": "", "session": claimant.client}.get(kind, document)
    return license, kind, claimant.user, part


def _key(lease: Lease) -> Whose:
    return _whose(lease.license, lease.kind, lease.claimant, lease.document)
