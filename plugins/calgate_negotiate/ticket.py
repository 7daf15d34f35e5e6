"""The unencrypted part of a Kerberos ticket (RFC 4120 section 5.3): its service, and the key it is encrypted with."""

from collections.abc import Sequence
from dataclasses import dataclass

from calgate_negotiate import der, spnego
from calgate_negotiate.spnego import KERBEROS, MS_KERBEROS

MAX_NAME = 512
"""Characters of a realm or a service principal; host names have 253 at most (RFC 1035 section 2.3.4)."""

_TOKEN_ID = b"\x01\x00"  # KRB_AP_REQ (RFC 4121 section 4.1)
_AP_REQ, _TICKET = 0x6E, 0x61


@dataclass(frozen=True, slots=True)
class Ticket:
    """The fields that anyone can read."""

    realm: str
    service: str  # HTTP/gateway.corp.example
    version: int  # of the key; 0: not given
    encryption_type: int


def presented(token: bytes) -> Ticket | None:
    """Returns the ticket of a Negotiate token for which Kerberos was chosen, or None if the token carries no ticket.

    An optimistic first token for another mechanism is not read. Raises ValueError for a malformed ticket.
    """
    opening = spnego.read(token)
    if opening is None:
        return read(token)
    if isinstance(opening, spnego.Init) and not {KERBEROS, MS_KERBEROS} & set(opening.mechanisms[:1]):
        return None
    return read(opening.token) if opening.token is not None else None


def read(token: bytes) -> Ticket:
    """Returns the ticket of a Kerberos token. Raises ValueError."""
    body = der.expect(0x60, token)
    start = KERBEROS + _TOKEN_ID
    if not body.startswith(start):
        raise ValueError("a token of an unknown mechanism")
    request = _fields(_inside(_AP_REQ, body[len(start) :]))
    if 0xA3 not in request:
        raise ValueError("the Kerberos request has no ticket")
    ticket = _fields(_inside(_TICKET, request[0xA3]))
    if not {0xA1, 0xA2, 0xA3} <= set(ticket):
        raise ValueError("the Kerberos ticket is incomplete")
    parts = _fields(der.expect(0x30, ticket[0xA2]))
    sealed = _fields(der.expect(0x30, ticket[0xA3]))
    if 0xA0 not in sealed:
        raise ValueError("the Kerberos ticket is incomplete")
    return Ticket(
        realm=_name([der.only(ticket[0xA1])[1]]),
        service=_name([value for _, value in der.elements(der.expect(0x30, parts.get(0xA1, b"")))]),
        version=int.from_bytes(der.expect(0x02, sealed[0xA1]), "big") if 0xA1 in sealed else 0,
        encryption_type=int.from_bytes(der.expect(0x02, sealed[0xA0]), "big"),
    )


def _inside(tag: int, data: bytes) -> bytes:
    return der.expect(0x30, der.expect(tag, data))


def _fields(data: bytes) -> dict[int, bytes]:
    """Returns the fields by tag. Raises ValueError for a repeated field, which could be read in two ways."""
    found: dict[int, bytes] = {}
    for tag, value in der.elements(data):
        if tag in found:
            raise ValueError(f"the Kerberos field {tag:#x} is repeated")
        found[tag] = value
    return found


def _name(parts: Sequence[bytes]) -> str:
    """Returns a realm or principal. Raises ValueError for one that would flood or forge a line of the log."""
    name = b"/".join(parts).decode("utf-8", "replace")
    if len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"the Kerberos ticket is for a name of {len(name)} characters that cannot be a real one")
    return name
