"""Anonymous claimants: browsers on public routes, where nobody signs in."""

from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Network, ip_address

from calgate.plugin import Claimant, Pool

_BOUNDS = frozenset({"anonymous-full", "address-full"})  # notes of the Session pool, and codes of NoCal


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
