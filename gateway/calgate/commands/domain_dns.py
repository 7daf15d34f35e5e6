"""Finds a Windows domain in the DNS, for a first settings file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import dns.exception
import dns.resolver

_WITHIN = 5.0  # seconds for one question, all servers of the resolver together


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain and its domain controllers, in the order in which to try them."""

    name: str
    controllers: Sequence[str]
    has_kdc_records: bool

    @property
    def base(self) -> str:
        """The domain's DN."""
        return ",".join(f"DC={label}" for label in self.name.split("."))

    @property
    def realm(self) -> str:
        """Its Kerberos realm."""
        return self.name.upper()


def resolver_of(server: str | None) -> dns.resolver.Resolver:
    """Returns a resolver that asks this server, ADDRESS or ADDRESS:PORT; None: the machine's own servers.

    Raises ValueError if the address is invalid, or the machine has no DNS server.
    """
    if server is None:
        try:
            return dns.resolver.Resolver()
        except dns.resolver.NoResolverConfiguration as error:
            raise ValueError("this machine names no DNS server (/etc/resolv.conf); give one with --dns") from error
    address, _, port = server.partition(":") if server.count(":") == 1 else (server.strip("[]"), "", "")
    if not re.fullmatch("[0-9]{0,5}", port):
        raise ValueError(f"a DNS server is ADDRESS or ADDRESS:PORT, not {server!r}")
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [address]
    resolver.port = int(port or 53)
    return resolver


def discover(name: str, resolver: dns.resolver.Resolver) -> Domain:
    """Finds the domain controllers as Windows itself does (MS-ADTS, section 6.3.2.3). Raises LookupError."""
    controllers = _servers(f"_ldap._tcp.dc._msdcs.{name}", resolver)
    if not controllers:
        raise LookupError(
            f"{name}: the DNS has no domain controllers for it (no SRV record _ldap._tcp.dc._msdcs.{name}); check the"
            " spelling, and whether this machine uses the domain's DNS servers (or give one with --dns)"
        )
    return Domain(name.lower(), controllers, bool(_servers(f"_kerberos._tcp.{name}", resolver)))


def _servers(record: str, resolver: dns.resolver.Resolver) -> Sequence[str]:
    """Returns the hosts of an SRV record by priority, then weight (RFC 2782); none if it does not exist."""
    try:
        answer = resolver.resolve(record, "SRV", lifetime=_WITHIN)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return ()
    except dns.exception.DNSException as error:
        raise LookupError(f"{record}: no DNS server responds; give another one with --dns: {error}") from error
    found = sorted((one.priority, -one.weight, str(one.target).rstrip(".").lower()) for one in answer)
    return tuple(dict.fromkeys(host for _, _, host in found if host))
