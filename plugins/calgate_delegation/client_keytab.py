"""Writes the keys of a keytab again under the account's own name, so that they can request a ticket (AS-REQ).

A KDC finds a client by sAMAccountName, not by SPN: "Client 'HTTP/…' not found in Kerberos database". All names of an
account share one key, and a key needs no salt. File format:
https://web.mit.edu/kerberos/krb5-latest/doc/formats/keytab_file_format.html
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

_MAGIC = b"\x05\x02"
_NT_PRINCIPAL = 1


def write(source: Path, account: str, target: Path) -> None:
    """Writes the keys of `source` for `account` (name@REALM) to `target`, which only its owner can read.

    Raises OSError, or ValueError if `source` is not a keytab or has no keys.
    """
    data = source.read_bytes()
    if not data.startswith(_MAGIC):
        raise ValueError(f"{source} is not a keytab of version 2")
    try:
        entries = list(dict.fromkeys(_renamed(entry, *account.encode().split(b"@")) for entry in _entries(data)))
    except struct.error as error:
        raise ValueError(f"{source} ends in the middle of an entry") from error
    if not entries:
        raise ValueError(f"{source} has no keys")
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(_MAGIC + b"".join(entries))
    fresh.replace(target)  # other workers may be reading the one before


def _entries(data: bytes) -> Iterator[bytes]:
    position = len(_MAGIC)
    while position + 4 <= len(data):
        (size,) = struct.unpack_from(">i", data, position)
        position += 4
        if size > 0:  # a negative size is a hole: an entry was removed
            yield data[position : position + size]
        position += abs(size)


def _renamed(entry: bytes, account: bytes, realm: bytes) -> bytes:
    (components,) = struct.unpack_from(">H", entry)
    position = 2
    for _ in range(components + 1):  # the realm, then the components of the name
        (size,) = struct.unpack_from(">H", entry, position)
        position += 2 + size
    rest = entry[position + 4 :]  # after the name type: timestamp, key version and key
    if not rest:
        raise struct.error
    body = struct.pack(">H", 1) + _counted(realm) + _counted(account) + struct.pack(">I", _NT_PRINCIPAL) + rest
    return struct.pack(">i", len(body)) + body


def _counted(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text
