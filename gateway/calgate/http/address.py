"""Client addresses, and the proxies that are trusted to name them. Pure."""

import ipaddress
from collections.abc import Sequence

from calgate.plugin.errors import BadRequest
from calgate.plugin.settings import Network


def canonical_address(text: str) -> str:
    """Returns an address in its shortest form; IPv4 inside IPv6 becomes IPv4. Raises ValueError."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    """Whether the headers of this peer about its clients are believed."""
    if address == "unix":
        return True
    ip = ipaddress.ip_address(address)
    return any(ip in network for network in trusted)


def client_address(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """The client behind trusted proxies: the last address in X-Forwarded-For that is not itself a trusted proxy's.

    Raises BadRequest where an address that has to be read cannot be: skipping it would believe a stranger.
    """
    client = peer
    for hop in reversed([part.strip() for part in forwarded_for.split(",")] if forwarded_for else []):
        if not is_trusted(client, trusted):
            break
        try:
            client = canonical_address(hop.strip("[]"))
        except ValueError:
            raise BadRequest("X-Forwarded-For holds something that is not an address") from None
    return client
