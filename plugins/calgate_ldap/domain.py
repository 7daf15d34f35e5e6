"""A domain's names and SID."""

from dataclasses import dataclass

from calgate_ldap.connection import BrokenError, Connection, escape


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain of a forest."""

    name: str  # NetBIOS: CORP
    dns: str  # corp.example
    sid: str

    def is_called(self, name: str) -> bool:
        """Whether this is the domain's NetBIOS or DNS name; a realm is the DNS name in capitals."""
        return name.casefold() in (self.name.casefold(), self.dns.casefold())

    def holds(self, sid: str) -> bool:
        """Whether the SID belongs to this domain."""
        return sid.rpartition("-")[0] == self.sid

    @classmethod
    def read(cls, connection: Connection, base: str) -> "Domain":
        """Reads the domain at `base`. Raises BrokenError if it is not a domain, UnreadableError without the right."""
        root = connection.read("", ["configurationNamingContext"])
        top = connection.read(base, ["objectSid"])
        if root is None or top is None:
            raise BrokenError(f"{connection.address}: ldap.base {base} is not a domain's DN, like DC=corp,DC=example")
        root.require(["configurationNamingContext"])
        partitions = f"CN=Partitions,{root.text('configurationNamingContext')}"
        found = connection.find(partitions, f"(&(nCName={escape(base)})(nETBIOSName=*))", ["nETBIOSName", "dnsRoot"])
        if len(found) != 1:
            raise BrokenError(f"{connection.address}: ldap.base {base} is not a domain's DN, like DC=corp,DC=example")
        found[0].require(["nETBIOSName", "dnsRoot"])
        return cls(found[0].text("nETBIOSName"), found[0].text("dnsRoot"), top.sid())
