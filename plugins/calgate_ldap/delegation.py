"""Which accounts may act in the name of users, and at which services (MS-SFU, MS-ADTS)."""

import struct
from collections.abc import Iterator

from calgate.plugin import DelegationRights
from calgate_ldap.connection import Connection, Entry, UnreadableError, escape

_NOT_DELEGATED = 0x100000  # of userAccountControl
_ANY_PROTOCOL = 0x1000000  # ADS_UF_TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION
_SERVICES = "msDS-AllowedToDelegateTo"
_ALLOWED = "msDS-AllowedToActOnBehalfOfOtherIdentity"
_ACCESS_ALLOWED = 0  # ACCESS_ALLOWED_ACE_TYPE (MS-DTYP 2.4.4.2)


def read_rights(connection: Connection, base: str, account: str, service: str) -> DelegationRights:
    """Returns what an account may do at a service. Raises UnreadableError without the right to read the account."""
    entry = _account(connection, base, account, ("userAccountControl", "objectSid", _SERVICES))
    listed = [name.decode("utf-8", "replace").casefold() for name in entry.attributes.get(_SERVICES.lower(), [])]
    holders = connection.find_by_spn(base, service, [_ALLOWED])
    sid = entry.first("objectSid") or b""
    return DelegationRights(
        is_listed=service.casefold() in listed,
        any_protocol=bool(entry.number("userAccountControl") & _ANY_PROTOCOL),
        by_service=any(sid in _allowed_by(holder.first(_ALLOWED) or b"") for holder in holders),
    )


def read_sensitive(connection: Connection, base: str, account: str) -> bool:
    """Returns whether the account is "sensitive and cannot be delegated"."""
    entry = _account(connection, base, account, ("userAccountControl",))
    return bool(entry.number("userAccountControl") & _NOT_DELEGATED)


def _account(connection: Connection, base: str, account: str, attributes: tuple[str, ...]) -> Entry:
    found = connection.find(base, f"(sAMAccountName={escape(account)})", attributes)
    if len(found) != 1:
        raise UnreadableError(account, attributes)
    found[0].require([name for name in attributes if name != _SERVICES])
    return found[0]


def _allowed_by(descriptor: bytes) -> Iterator[bytes]:
    """Yields the SIDs that a self-relative security descriptor allows (MS-DTYP 2.4.6), none for other bytes."""
    try:
        (start,) = struct.unpack_from("<I", descriptor, 16)  # of the DACL; 0: there is none
        (count,) = struct.unpack_from("<H", descriptor, start + 4)
        position = start + 8
        for _ in range(count if start else 0):
            kind, _flags, size = struct.unpack_from("<BBH", descriptor, position)
            if kind == _ACCESS_ALLOWED:
                yield descriptor[position + 8 : position + size]
            position += size
    except struct.error:
        return
