"""DER as far as sign-in tokens need it (X.690): single-octet tags, definite lengths, nothing left over.

Every function raises ValueError where the bytes are not that, and does work in proportion to them.
"""

from collections.abc import Iterator


def expect(tag: int, data: bytes) -> bytes:
    """The content of the only element, which has this tag."""
    found, value = only(data)
    if found != tag:
        raise ValueError(f"tag {found:#x} where {tag:#x} belongs")
    return value


def only(data: bytes) -> tuple[int, bytes]:
    """Tag and content of the only element."""
    tag, value, end = element(data, 0)
    if end != len(data):
        raise ValueError("bytes are left over after the token")
    return tag, value


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and contents, one after the other."""
    at = 0
    while at < len(data):
        tag, value, at = element(data, at)
        yield tag, value


def element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Tag, content and where the next element begins: single-octet tags and definite lengths (X.690 section 8.1)."""
    if at + 2 > len(data):
        raise ValueError("the token ends in the middle of an element")
    tag, length, start = data[at], data[at + 1], at + 2
    if length > 0x80 and length <= 0x84:
        start += length - 0x80
        length = int.from_bytes(data[at + 2 : start], "big")
    elif length >= 0x80:
        raise ValueError("a length that is not definite and small")
    if start + length > len(data):
        raise ValueError("the token ends in the middle of an element")
    return tag, data[start : start + length], start + length


def pack(tag: int, content: bytes) -> bytes:
    """One element."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content
