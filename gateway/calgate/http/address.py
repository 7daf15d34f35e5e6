"""Client addresses, and the proxies that are trusted to name them. Pure."""

import ipaddress
import re
from collections.abc import Sequence

from calgate.plugin.errors import BadRequest
from calgate.plugin.settings import Network

# as proxies write it: 192.0.2.7, 2001:db8::7 or [2001:db8::7], the first and the last also with a port
_HOP = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::([0-9]{1,5}))?")
_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}  # Traefik writes wss for each WebSocket


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

    IIS ARR and Azure's Application Gateway add the client's port. Raises BadRequest for an address that cannot be read:
    skipping it would mean trusting a stranger.
    """
    client = peer
    for hop in reversed([part.strip() for part in forwarded_for.split(",")] if forwarded_for else []):
        if not is_trusted(client, trusted):
            break
        try:
            client = _address_of(hop)
        except ValueError:
            raise BadRequest("X-Forwarded-For of a trusted proxy has an element that is not an address") from None
    return client


def _address_of(hop: str) -> str:
    match = _HOP.fullmatch(hop)
    if match is None:
        return canonical_address(hop)  # IPv6 without brackets, which leaves no room for a port
    in_brackets, host, port = match.groups()
    if int(port or 0) > 65_535 or (in_brackets is not None and ":" not in in_brackets):
        raise ValueError(hop)
    return canonical_address(host if in_brackets is None else in_brackets)


def client_scheme(forwarded_proto: str) -> str:
    """Returns http or https, as X-Forwarded-Proto of a trusted proxy says. Raises BadRequest for anything else."""
    schemes = {_SCHEMES.get(part.strip()) for part in forwarded_proto.lower().split(",")}
    scheme = schemes.pop()
    if scheme is None or schemes:
        raise BadRequest("X-Forwarded-Proto of a trusted proxy is not one of http, https, ws and wss")
    return scheme


def client_host(forwarded_host: str) -> str:
    """Returns the host that the client requested, as X-Forwarded-Host of a trusted proxy says, in lower case.

    Raises BadRequest if several proxies name different hosts.
    """
    hosts = {part.strip() for part in forwarded_host.lower().split(",")}
    if len(hosts) > 1:
        raise BadRequest("X-Forwarded-Host of the trusted proxies names different hosts")
    return hosts.pop()
