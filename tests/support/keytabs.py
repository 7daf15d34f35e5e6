"""Keytab files, written byte by byte (MIT's format, version 2)."""

import struct
from pathlib import Path

AES256, AES128, RC4 = 18, 17, 23
_SIZES = {AES256: 32, AES128: 16, RC4: 16}
REALM = "CORP.EXAMPLE.TEST"


def entry(principal: str, kvno: int = 3, enctype: int = AES256, key: bytes | None = None) -> bytes:
    """One key; a wrong one unless it is given."""
    parts = principal.split("/")
    key = key if key is not None else b"k" * _SIZES[enctype]
    body = struct.pack(">H", len(parts)) + _counted(REALM) + b"".join(map(_counted, parts))
    body += struct.pack(">IIBHH", 1, 0, kvno & 0xFF, enctype, len(key)) + key + struct.pack(">I", kvno)
    return struct.pack(">i", len(body)) + body


def write(file: Path, *entries: bytes) -> Path:
    """A keytab of these keys."""
    file.write_bytes(b"\x05\x02" + b"".join(entries))
    return file


def _counted(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()
