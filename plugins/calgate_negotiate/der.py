"""The part of DER that sign-in tokens need (X.690): single-octet tags, definite lengths, no trailing bytes.

Every function raises ValueError for anything else, and takes time in proportion to the input.
"""

from collections.abc import Iterator


def expect(tag: int, data: bytes) -> bytes:
    """Returns the content of the only element, which must have this tag."""
    found, value = only(data)
    if found != tag:
        raise ValueError(f"tag {found:#x} instead of {tag:#x}")
    return value


def only(data: bytes) -> tuple[int, bytes]:
    """Returns tag and content of the only element."""
    tag, value, end = element(data, 0)
    if end != len(data):
        raise ValueError("there are bytes after the token")
    return tag, value


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the tag and content of each element."""
    at = 0
    while at < len(data):
        tag, value, at = element(data, at)
        yield tag, value


def element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Returns tag, content and the position of the next element (X.690 section 8.1)."""
    if at + 2 > len(data):
        raise ValueError("the token ends in the middle of an element")
    tag, length, start = data[at], data[at + 1], at + 2
    if length > 0x80 and length <= 0x84:
        start += length - 0x80
        length = int.from_bytes(data[at + 2 : start], "big")
    elif length >= 0x80:
        raise ValueError("an indefinite or oversized length")
    if start + length > len(data):
        raise ValueError("the token ends in the middle of an element")
    return tag, data[start : start + length], start + length


def pack(tag: int, content: bytes) -> bytes:
    """Returns one element."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content
