"""Reads the user of a Kerberos ticket from its PAC: KERB_VALIDATION_INFO (MS-PAC 2.5) in NDR (MS-RPCE 2.2.6).

The bytes were signed by the domain's KDC, but are read as if they were not: every count and offset is checked against
the buffer.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

_SE_GROUP_ENABLED = 0x4
_HEADER = 16  # MS-RPCE 2.2.6.1 and 2.2.6.2: alignment is relative to its end
_SUBAUTHORITIES = [struct.Struct(f"<{count}I") for count in range(16)]  # a SID has 15 at most (MS-DTYP 2.4.2)
_LONG, _ARRAY = struct.Struct("<I"), struct.Struct("<3I")
_NAMES = 6  # account, full name, script, profile, home folder, its drive
# KERB_VALIDATION_INFO without what its pointers lead to, which follows (MS-PAC 2.5)
_FIXED = struct.Struct(
    "<I48x"  # the pointer to the structure; times of logon, logoff, kick-off, and of the password
    + _NAMES * "HHI"
    + "4xIIII"  # counts of logons and bad passwords; user, primary group, groups and the pointer to them
    "20xHHIHHI"  # flags, session key; server, domain
    "I40x"  # the domain's SID; reserved, account control, sub-authentication, two times, a count, reserved
    "4xI"  # extra SIDs: their number, and the pointer to them
    "I4xI"  # the resource domain's SID; its groups: their number, and the pointer to them
)


@dataclass(frozen=True, slots=True)
class LogonInfo:
    """The KDC's data about the user."""

    account: str  # as the directory spells it, whatever the client typed
    domain: str  # NetBIOS name
    sid: str
    groups: frozenset[str]  # SIDs: global, universal and resource groups, the primary group included


class _Text(NamedTuple):
    """An RPC_UNICODE_STRING, whose characters follow later (MS-DTYP 2.3.10)."""

    length: int  # bytes
    capacity: int
    pointer: int


class _Reader:
    """Reads NDR's primitives from a buffer. Raises ValueError if the buffer ends too soon."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise ValueError("the PAC ends too soon")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def skip(self, length: int) -> None:
        self.take(length)

    def fields(self, layout: struct.Struct) -> tuple[int, ...]:
        """Reads several numbers at once. `layout` begins with a long, so it is aligned to one."""
        start = self._at + -self._at % 4
        if start + layout.size > len(self._data):
            raise ValueError("the PAC ends too soon")
        self._at = start + layout.size
        return layout.unpack_from(self._data, start)

    def long(self) -> int:
        return self.fields(_LONG)[0]

    def text(self, header: _Text) -> str:
        if not header.pointer:
            return ""
        _capacity, offset, count = self.fields(_ARRAY)
        self.skip(2 * offset)
        characters = self.take(2 * count)
        if header.length > len(characters):
            raise ValueError("a name in the PAC is longer than its array")
        return characters[: header.length].decode("utf-16-le")

    def sid(self) -> str:
        count = self.long()
        revision, subauthorities = self.take(2)
        authority = int.from_bytes(self.take(6), "big")
        if subauthorities != count or count >= len(_SUBAUTHORITIES):
            raise ValueError("a malformed SID in the PAC")
        numbers = self.fields(_SUBAUTHORITIES[count])
        return "-".join(["S", str(revision), str(authority), *map(str, numbers)])

    def pairs(self) -> list[tuple[int, int]]:
        """Reads a conformant array of pairs of longs."""
        count = self.long()
        return list(struct.iter_unpack("<II", self.take(8 * count)))


def read(buffer: bytes) -> LogonInfo:
    """Returns the user in a PAC's logon information buffer. Raises ValueError if the buffer is malformed."""
    if buffer[:4] != b"\x01\x10\x08\x00":
        raise ValueError("the PAC's logon information is not little-endian NDR")
    reader = _Reader(buffer[_HEADER:])
    present, *numbers = reader.fields(_FIXED)
    if not present:
        raise ValueError("the PAC's logon information is empty")
    names = [_Text(*numbers[at : at + 3]) for at in range(0, 3 * _NAMES, 3)]
    user, primary_group, _count, has_groups, *numbers = numbers[3 * _NAMES :]
    server, domain_name = _Text(*numbers[0:3]), _Text(*numbers[3:6])
    has_domain, has_extra, has_resource_domain, has_resource_groups = numbers[6:]

    account, *_others = [reader.text(header) for header in names]
    groups = reader.pairs() if has_groups else []
    reader.text(server)
    domain = reader.text(domain_name)
    domain_sid = reader.sid() if has_domain else ""
    extra = _extra(reader) if has_extra else []
    resource_domain = reader.sid() if has_resource_domain else ""
    resource_groups = reader.pairs() if has_resource_groups else []

    if not (account and domain and domain_sid and user):
        raise ValueError("the PAC does not name its user")
    found = {f"{domain_sid}-{primary_group}", *extra}
    found |= {f"{domain_sid}-{rid}" for rid, attributes in groups if attributes & _SE_GROUP_ENABLED}
    found |= {f"{resource_domain}-{rid}" for rid, attributes in resource_groups if attributes & _SE_GROUP_ENABLED}
    return LogonInfo(account, domain, f"{domain_sid}-{user}", frozenset(found))


def _extra(reader: _Reader) -> list[str]:
    """Reads the enabled groups of other domains, and universal groups (KERB_SID_AND_ATTRIBUTES)."""
    headers = reader.pairs()
    sids = [(reader.sid(), attributes) for pointer, attributes in headers if pointer]
    return [sid for sid, attributes in sids if attributes & _SE_GROUP_ENABLED]
