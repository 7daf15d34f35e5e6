"""Reads the user of a Kerberos ticket from its PAC: KERB_VALIDATION_INFO (MS-PAC 2.5) in NDR (MS-RPCE 2.2.6).

The bytes were signed by the domain's KDC, but are read as if they were not: every count and offset is checked against
the buffer.
"""

import struct
from dataclasses import dataclass

_SE_GROUP_ENABLED = 0x4
_HEADER = 16  # MS-RPCE 2.2.6.1 and 2.2.6.2: alignment is relative to its end
_MAX_SUBAUTHORITIES = 15
_LONG, _TEXT, _ARRAY = struct.Struct("<I"), struct.Struct("<HHI"), struct.Struct("<3I")


@dataclass(frozen=True, slots=True)
class LogonInfo:
    """The KDC's data about the user."""

    account: str  # as the directory spells it, whatever the client typed
    domain: str  # NetBIOS name
    sid: str
    groups: frozenset[str]  # SIDs: global, universal and resource groups, the primary group included


@dataclass(frozen=True, slots=True)
class _Text:
    length: int  # bytes
    present: bool


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

    def text_header(self) -> _Text:
        """Reads an RPC_UNICODE_STRING, whose characters follow later."""
        length, _capacity, pointer = self.fields(_TEXT)
        return _Text(length, present=bool(pointer))

    def text(self, header: _Text) -> str:
        if not header.present:
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
        if subauthorities != count or count > _MAX_SUBAUTHORITIES:
            raise ValueError("a malformed SID in the PAC")
        numbers = self.fields(struct.Struct(f"<{count}I"))
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
    if not reader.long():
        raise ValueError("the PAC's logon information is empty")
    reader.skip(6 * 8)  # times of logon, logoff, kick-off, and of the password
    texts = [reader.text_header() for _ in range(6)]  # account, full name, script, profile, home folder, its drive
    reader.skip(4)  # counts of logons and bad passwords
    user, primary_group, _count, has_groups = (reader.long() for _ in range(4))
    reader.skip(4 + 16)  # flags, session key
    server, domain_name = reader.text_header(), reader.text_header()
    has_domain = reader.long()
    reader.skip(
        8 + 4 + 4 + 8 + 8 + 4 + 4
    )  # reserved, account control, sub-authentication, two times, a count, reserved
    _count, has_extra = reader.long(), reader.long()
    has_resource_domain, _count, has_resource_groups = (reader.long() for _ in range(3))

    account, *_others = [reader.text(header) for header in texts]
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
