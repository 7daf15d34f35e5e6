"""What the domain itself is called, as the directory says."""

from dataclasses import dataclass

from calgate_ldap.account import sid_text
from calgate_ldap.connection import BrokenError, Connection, escape


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain of a forest."""

    name: str  # NetBIOS: CORP
    dns: str  # corp.example
    sid: str

    def is_called(self, name: str) -> bool:
        """Whether this is the domain's NetBIOS or DNS name; a realm is the latter in capitals."""
        return name.casefold() in (self.name.casefold(), self.dns.casefold())

    def holds(self, sid: str) -> bool:
        """Whether an object of this SID is of this domain."""
        return sid.rpartition("-")[0] == self.sid

    @classmethod
    def read(cls, ask: Connection, base: str) -> "Domain":
        """Asks the server; raises BrokenError where `base` is no domain."""
        root = ask.read("", ["configurationNamingContext"])
        top = ask.read(base, ["objectSid"])
        binary = top.first("objectSid") if top is not None else None
        if root is None or binary is None:
            raise BrokenError(f"{ask.address}: ldap.base {base} is not a domain's DN, like DC=corp,DC=example")
        partitions = f"CN=Partitions,{root.text('configurationNamingContext')}"
        found = ask.find(partitions, f"(&(nCName={escape(base)})(nETBIOSName=*))", ["nETBIOSName", "dnsRoot"])
        if len(found) != 1:
            raise BrokenError(f"{ask.address}: ldap.base {base} is not a domain's DN, like DC=corp,DC=example")
        return cls(found[0].text("nETBIOSName"), found[0].text("dnsRoot"), sid_text(binary))
