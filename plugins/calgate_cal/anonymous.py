"""Anonymous claimants: browsers on public routes, where nobody signs in."""

from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, IPv6Network, ip_address

from calgate.plugin import ANONYMOUS_KEYS, Claimant, Pool

MOST_UNSERVED = 20  # claims of one network in a minute
_MOST_NETWORKS = 4096  # counted each by itself; all others count as one
_BOUNDS = frozenset({"anonymous-full", "address-full"})  # notes of the Session pool, and codes of NoCal


def is_anonymous(user: str) -> bool:
    """Whether a key in records and lists is that of a browser without sign-in."""
    return user.startswith(ANONYMOUS_KEYS)


def network_of(claimant: Claimant) -> str:
    """Returns what the bound for one address counts an anonymous claimant by; "" for a user.

    With IPv6 it is the first half of the address: the other half is the client's to choose (RFC 4291, 2.5.1).
    """
    if not claimant.is_anonymous:
        return ""
    try:
        address = ip_address(claimant.client.partition("%")[0])
    except ValueError:
        return "unknown"  # all of these count as one address
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(IPv6Network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


def denial_code(pools: Sequence[Pool]) -> str:
    """Returns the code of the denial of an anonymous claimant, for whom the Session pool alone counts."""
    note = next((pool.note for pool in pools if pool.kind == "session"), "")
    return note if note in _BOUNDS else "none-for-anonymous"


class UnservedClaims:
    """Counts, by network and minute, the claims whose document the document server did not serve.

    Each writes two records: without a bound, a stranger could fill the records with documents that are not there.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def note(self, claimant: Claimant) -> None:
        """Counts one of an anonymous claimant."""
        if claimant.is_anonymous:
            self._counts_now()[self._place(claimant)] += 1

    def are_too_many(self, claimant: Claimant) -> bool:
        """Whether an anonymous claimant must wait until the next minute."""
        return claimant.is_anonymous and self._counts_now()[self._place(claimant)] >= MOST_UNSERVED

    def _counts_now(self) -> Counter[str]:
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._minute = minute
            self._counts.clear()
        return self._counts

    def _place(self, claimant: Claimant) -> str:
        network = network_of(claimant)
        return network if network in self._counts or len(self._counts) < _MOST_NETWORKS else "others"
