"""SPNEGO's own tokens (RFC 4178): the mechanisms that a client offers, and our responses.

A token is up to 48 KB of hostile bytes, so no library reads it: this reader accepts definite lengths only, refuses
trailing bytes, and takes time in proportion to the token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from calgate_negotiate import der

SPNEGO = bytes.fromhex("06062b0601050502")  # 1.3.6.1.5.5.2
KERBEROS = bytes.fromhex("06092a864886f712010202")  # 1.2.840.113554.1.2.2
MS_KERBEROS = bytes.fromhex(
    "06092a864882f712010202"
)  # 1.2.840.48018.1.2.2: sent by Windows because 113554 once overflowed 16 bits
NTLM = bytes.fromhex("060a2b06010401823702020a")  # 1.3.6.1.4.1.311.2.2.10
MAX_MECHANISMS = 32

_SEQUENCE, _OCTETS, _ENUMERATED, _OID = 0x30, 0x04, 0x0A, 0x06


class NegState(IntEnum):
    """negState (RFC 4178 section 4.2.2)."""

    ACCEPT_COMPLETED = 0
    ACCEPT_INCOMPLETE = 1
    REJECT = 2
    REQUEST_MIC = 3


@dataclass(frozen=True, slots=True)
class Init:
    """A client's first token: the mechanisms it offers, and an optimistic token for the first of them."""

    mechanisms: tuple[bytes, ...]  # DER object identifiers, preferred first
    mechanism_list: bytes  # their DER as received: the input of mechListMIC
    token: bytes | None  # for the first mechanism
    mic: bytes | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A later token, from either side."""

    state: NegState | None = None
    mechanism: bytes | None = None
    token: bytes | None = None
    mic: bytes | None = None


def read(token: bytes) -> Init | Response | None:
    """Returns the token, or None for a GSSAPI token of another mechanism. Raises ValueError for anything else."""
    tag, body = der.only(token)
    if tag == 0x60:  # InitialContextToken (RFC 2743 section 3.1)
        if not body.startswith(SPNEGO):
            return None
        tag, body = der.only(body[len(SPNEGO) :])
        if tag == 0xA0:
            return _init(body)
    elif tag == 0xA1:
        return _response(body)
    raise ValueError(f"not a SPNEGO token: tag {tag:#x}")


def write(response: Response) -> bytes:
    """Returns the token to send."""
    fields = b""
    if response.state is not None:
        fields += der.pack(0xA0, der.pack(_ENUMERATED, bytes([response.state])))
    if response.mechanism is not None:
        fields += der.pack(0xA1, response.mechanism)
    if response.token is not None:
        fields += der.pack(0xA2, der.pack(_OCTETS, response.token))
    if response.mic is not None:
        fields += der.pack(0xA3, der.pack(_OCTETS, response.mic))
    return der.pack(0xA1, der.pack(_SEQUENCE, fields))


def _init(body: bytes) -> Init:
    fields = _fields(body)
    if 0xA0 not in fields:
        raise ValueError("SPNEGO: the token has no mechanisms")
    mechanisms = tuple(_mechanisms(der.expect(_SEQUENCE, fields[0xA0])))
    # mechListMIC is field 3, but field 4 in Microsoft's NegTokenInit2, where 3 holds hints (MS-SPNG 2.2.1)
    mic = fields.get(0xA3)
    if mic is not None and mic[:1] != bytes([_OCTETS]):
        mic = fields.get(0xA4)
    return Init(
        mechanisms=mechanisms,
        mechanism_list=fields[0xA0],
        token=der.expect(_OCTETS, fields[0xA2]) if 0xA2 in fields else None,
        mic=der.expect(_OCTETS, mic) if mic is not None else None,
    )


def _response(body: bytes) -> Response:
    fields = _fields(body)
    state = der.expect(_ENUMERATED, fields[0xA0]) if 0xA0 in fields else None
    if state is not None and len(state) != 1:
        raise ValueError("SPNEGO: negState is not one octet")
    return Response(
        state=NegState(state[0]) if state is not None else None,
        mechanism=fields.get(0xA1),
        token=der.expect(_OCTETS, fields[0xA2]) if 0xA2 in fields else None,
        mic=der.expect(_OCTETS, fields[0xA3]) if 0xA3 in fields else None,
    )


def _mechanisms(body: bytes) -> Iterator[bytes]:
    for count, (tag, value) in enumerate(der.elements(body)):
        if tag != _OID or count >= MAX_MECHANISMS:
            raise ValueError("SPNEGO: the list of mechanisms is malformed")
        yield der.pack(_OID, value)


def _fields(body: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for tag, value in der.elements(der.expect(_SEQUENCE, body)):
        if tag in found or not 0xA0 <= tag <= 0xA4:
            raise ValueError(f"SPNEGO: field {tag:#x} is repeated or unknown")
        found[tag] = value
    return found
