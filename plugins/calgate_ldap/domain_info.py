"""Facts about the domain for `calgate check`: holders of SPNs, the clock, the lockout policy."""

from collections.abc import Sequence
from datetime import UTC, datetime

from calgate.plugin import Lockout, ServiceAccount
from calgate_ldap.connection import Connection, Entry, UnreadableError

_REQUIRED = ("sAMAccountName", "msDS-KeyVersionNumber", "userAccountControl")
_HOLDER = (*_REQUIRED, "msDS-SupportedEncryptionTypes")
_POLICY = ("lockoutThreshold", "lockOutObservationWindow")
_DISABLED = 0x0002


def read_holders(connection: Connection, base: str, service: str) -> Sequence[ServiceAccount]:
    """Returns the accounts with an SPN; without any, those with HOST/ (sPNMappings, MS-ADTS 6.1.1.2.4.1.1)."""
    kind, slash, host = service.partition("/")
    for name in (service, f"HOST/{host}") if slash and kind.upper() == "HTTP" else (service,):
        found = connection.find_by_spn(base, name, _HOLDER)
        if found:
            return [_account(entry) for entry in found]
    return []


def _account(entry: Entry) -> ServiceAccount:
    entry.require(_REQUIRED)
    return ServiceAccount(
        name=entry.text("sAMAccountName"),
        key_version=entry.number("msDS-KeyVersionNumber"),
        encryption_types=entry.number("msDS-SupportedEncryptionTypes"),
        is_disabled=bool(entry.number("userAccountControl") & _DISABLED),
    )


def read_clock(connection: Connection) -> float:
    """Returns the server's time, from its root entry."""
    entry = connection.read("", ["currentTime"])
    if entry is None or entry.missing(["currentTime"]):
        raise UnreadableError("the root entry", ["currentTime"])
    return entry.parsed("currentTime", _timestamp)


def _timestamp(value: bytes) -> float:
    text = value.decode("ascii")
    return datetime.strptime(text.partition(".")[0].rstrip("Z"), "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()


def read_lockout(connection: Connection, base: str) -> Lockout:
    """Returns the domain's default policy; fine-grained policies (MS-ADTS 3.1.1.5.17.1) are not read."""
    entry = connection.read(base, _POLICY)
    if entry is None:
        raise UnreadableError(base, _POLICY)
    entry.require(_POLICY)
    return Lockout(entry.number("lockoutThreshold"), -entry.number("lockOutObservationWindow") / 10_000_000)
