"""What the domain is set up for, for those who check a gateway: holders of SPNs, the clock, the lockout policy."""

from collections.abc import Sequence
from datetime import UTC, datetime

from calgate.plugin import Lockout, ServiceAccount
from calgate_ldap.connection import Connection, Entry, escape

_HELD_BY = ("sAMAccountName", "msDS-KeyVersionNumber", "msDS-SupportedEncryptionTypes", "userAccountControl")
_DISABLED = 0x0002


def read_holders(ask: Connection, base: str, service: str) -> Sequence[ServiceAccount]:
    """HOST/ stands for HTTP/ where no account has the latter (sPNMappings, MS-ADTS 6.1.1.2.4.1.1)."""
    kind, slash, host = service.partition("/")
    for name in (service, f"HOST/{host}") if slash and kind.upper() == "HTTP" else (service,):
        found = ask.find(base, f"(servicePrincipalName={escape(name)})", _HELD_BY)
        if found:
            return [_account(entry) for entry in found]
    return []


def _account(entry: Entry) -> ServiceAccount:
    return ServiceAccount(
        name=entry.text("sAMAccountName"),
        key_version=entry.number("msDS-KeyVersionNumber"),
        encryption_types=entry.number("msDS-SupportedEncryptionTypes"),
        is_disabled=bool(entry.number("userAccountControl") & _DISABLED),
    )


def read_clock(ask: Connection) -> float:
    """The server's own time, from its root entry."""
    entry = ask.read("", ["currentTime"])
    text = entry.text("currentTime") if entry is not None else ""
    return datetime.strptime(text.partition(".")[0].rstrip("Z"), "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()


def read_lockout(ask: Connection, base: str) -> Lockout:
    """The domain's default policy; fine-grained ones (MS-ADTS 3.1.1.5.17.1) are not looked at."""
    entry = ask.read(base, ["lockoutThreshold", "lockOutObservationWindow"])
    if entry is None:
        return Lockout(0, 0)
    return Lockout(entry.number("lockoutThreshold"), -entry.number("lockOutObservationWindow") / 10_000_000)
