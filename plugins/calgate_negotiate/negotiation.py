"""SPNEGO's own tokens (RFC 4178): which mechanisms a client offers, and our answers.

Read here and not by a library because a token is up to 48 KB of a stranger's bytes: this reader takes definite lengths
only, refuses what is left over, and does work in proportion to the token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

SPNEGO = bytes.fromhex("06062b0601050502")  # 1.3.6.1.5.5.2
KERBEROS = bytes.fromhex("06092a864886f712010202")  # 1.2.840.113554.1.2.2
MS_KERBEROS = bytes.fromhex("06092a864882f712010202")  # 1.2.840.48018.1.2.2: an overflow of the other, sent by Windows
NTLM = bytes.fromhex("060a2b06010401823702020a")  # 1.3.6.1.4.1.311.2.2.10
MOST_MECHANISMS = 32

_SEQUENCE, _OCTETS, _ENUMERATED, _OID = 0x30, 0x04, 0x0A, 0x06


class State(IntEnum):
    """negState (RFC 4178 section 4.2.2)."""

    ACCEPT_COMPLETED = 0
    ACCEPT_INCOMPLETE = 1
    REJECT = 2
    REQUEST_MIC = 3


@dataclass(frozen=True, slots=True)
class Init:
    """A client's first token: what it offers, and its guess at what we take."""

    mechanisms: tuple[bytes, ...]  # DER object identifiers, preferred first
    mechanism_list: bytes  # their DER as received: what mechListMIC is made over
    token: bytes | None  # for the first mechanism
    mic: bytes | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A later token, of either side."""

    state: State | None = None
    mechanism: bytes | None = None
    token: bytes | None = None
    mic: bytes | None = None


def read(token: bytes) -> Init | Response | None:
    """The token, or None where it is a GSSAPI token of another mechanism. Raises ValueError where it is neither."""
    tag, body = _only(token)
    if tag == 0x60:  # InitialContextToken (RFC 2743 section 3.1)
        if not body.startswith(SPNEGO):
            return None
        tag, body = _only(body[len(SPNEGO) :])
        if tag == 0xA0:
            return _init(body)
    elif tag == 0xA1:
        return _response(body)
    raise ValueError(f"not a SPNEGO token: tag {tag:#x}")


def write(response: Response) -> bytes:
    """The token to send."""
    fields = b""
    if response.state is not None:
        fields += _pack(0xA0, _pack(_ENUMERATED, bytes([response.state])))
    if response.mechanism is not None:
        fields += _pack(0xA1, response.mechanism)
    if response.token is not None:
        fields += _pack(0xA2, _pack(_OCTETS, response.token))
    if response.mic is not None:
        fields += _pack(0xA3, _pack(_OCTETS, response.mic))
    return _pack(0xA1, _pack(_SEQUENCE, fields))


def _init(body: bytes) -> Init:
    fields = _fields(body)
    if 0xA0 not in fields:
        raise ValueError("SPNEGO without mechanisms")
    mechanisms = tuple(_mechanisms(_expect(_SEQUENCE, fields[0xA0])))
    # mechListMIC is field 3, but field 4 in Microsoft's NegTokenInit2, where 3 holds hints (MS-SPNG 2.2.1)
    mic = fields.get(0xA3)
    if mic is not None and mic[:1] != bytes([_OCTETS]):
        mic = fields.get(0xA4)
    return Init(
        mechanisms=mechanisms,
        mechanism_list=fields[0xA0],
        token=_expect(_OCTETS, fields[0xA2]) if 0xA2 in fields else None,
        mic=_expect(_OCTETS, mic) if mic is not None else None,
    )


def _response(body: bytes) -> Response:
    fields = _fields(body)
    state = _expect(_ENUMERATED, fields[0xA0]) if 0xA0 in fields else None
    if state is not None and len(state) != 1:
        raise ValueError("negState is one octet")
    return Response(
        state=State(state[0]) if state is not None else None,
        mechanism=fields.get(0xA1),
        token=_expect(_OCTETS, fields[0xA2]) if 0xA2 in fields else None,
        mic=_expect(_OCTETS, fields[0xA3]) if 0xA3 in fields else None,
    )


def _mechanisms(body: bytes) -> Iterator[bytes]:
    for count, (tag, value) in enumerate(_elements(body)):
        if tag != _OID or count >= MOST_MECHANISMS:
            raise ValueError("SPNEGO with a list of mechanisms that cannot be right")
        yield _pack(_OID, value)


def _fields(body: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for tag, value in _elements(_expect(_SEQUENCE, body)):
        if tag in found or not 0xA0 <= tag <= 0xA4:
            raise ValueError(f"SPNEGO field {tag:#x} is repeated or unknown")
        found[tag] = value
    return found


def _expect(tag: int, element: bytes) -> bytes:
    found, value = _only(element)
    if found != tag:
        raise ValueError(f"tag {found:#x} where {tag:#x} belongs")
    return value


def _only(data: bytes) -> tuple[int, bytes]:
    tag, value, end = _element(data, 0)
    if end != len(data):
        raise ValueError("bytes are left over after the token")
    return tag, value


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, value, at = _element(data, at)
        yield tag, value


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
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


def _pack(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content
