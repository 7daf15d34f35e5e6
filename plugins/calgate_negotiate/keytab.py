"""Reads which entries a keytab has (MIT's file format, version 2); the keys themselves are not kept."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ENCRYPTION_TYPES = {17: "aes128-cts", 18: "aes256-cts", 19: "aes128-sha2", 20: "aes256-sha2", 23: "rc4"}
AES = frozenset({17, 18, 19, 20})
RC4 = 23
USE_AES = "allow AES for the account that holds the SPN, set its password again, and export the keytab again"


@dataclass(frozen=True, slots=True)
class Key:
    """One entry."""

    principal: str  # HTTP/gateway.corp.example
    realm: str
    version: int
    encryption_type: int


def read(file: Path) -> list[Key]:
    """Returns all entries. Raises OSError, or ValueError if the file is not a keytab."""
    data = file.read_bytes()
    if data[:2] != b"\x05\x02":
        raise ValueError("not a keytab of version 2")
    try:
        return list(_entries(data))
    except struct.error as error:
        raise ValueError("the keytab ends in the middle of an entry") from error


def why_unreadable(file: Path, error: OSError) -> str:
    """Returns fault and remedy. An existing keytab must not be exported again: ktpass resets the password."""
    if isinstance(error, PermissionError):
        return f"{file} cannot be read: {error.strerror}; let the gateway's user read it: chgrp calgate, chmod 640"
    if isinstance(error, FileNotFoundError):
        return f"{file} cannot be read: {error.strerror}; copy it there, or export it with ktpass or samba-tool"
    return f"{file} cannot be read: {error.strerror or error}; make it a file that the gateway's user can read"


def service_types(keys: Sequence[Key]) -> frozenset[int]:
    """Returns the encryption types of the keys of HTTP/ principals."""
    return frozenset(key.encryption_type for key in keys if key.principal.startswith("HTTP/"))


def own_key(keys: Sequence[Key]) -> Key:
    """Returns the key under which the gateway requests a ticket for itself. Raises ValueError if there is none."""
    for key in keys:
        if key.principal.startswith("HTTP/") and key.encryption_type in AES:
            return key
    raise ValueError("the keytab has no AES key of an HTTP/ name")


def _entries(data: bytes) -> Iterator[Key]:
    at = 2
    while at + 4 <= len(data):
        (length,) = struct.unpack_from(">i", data, at)
        at += 4
        if length > 0:  # a negative length is a hole: an entry was removed
            yield _entry(data[at : at + length])
        at += abs(length)


def _entry(data: bytes) -> Key:
    (count,) = struct.unpack_from(">H", data)
    realm, at = _counted(data, 2)
    parts = []
    for _ in range(count):
        part, at = _counted(data, at)
        parts.append(part)
    _type, _time, version, encryption_type, key_length = struct.unpack_from(">IIBHH", data, at)
    at += 13 + key_length
    if len(data) - at >= 4:  # the version's low byte precedes the key; newer writers repeat all of it after the key
        version = struct.unpack_from(">I", data, at)[0] or version
    return Key("/".join(parts), realm, version, encryption_type)


def _counted(data: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">H", data, at)
    return data[at + 2 : at + 2 + length].decode("utf-8", "replace"), at + 2 + length
