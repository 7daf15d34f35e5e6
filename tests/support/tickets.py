"""Kerberos tokens as far as their outside goes, written byte by byte: nothing in them is sealed with any key."""

from calgate_negotiate import der, spnego
from calgate_negotiate.spnego import KERBEROS


def _text(number: int, value: bytes) -> bytes:
    return der.pack(0xA0 + number, der.pack(0x1B, value))


def _number(place: int, value: int) -> bytes:
    return der.pack(0xA0 + place, der.pack(0x02, bytes([value])))


def ticket(service: bytes = b"gateway.corp.example", kvno: int = 3, enctype: int = 18) -> bytes:
    """A raw Kerberos token with the outside of a ticket."""
    names = der.pack(0xA1, der.pack(0x30, der.pack(0x1B, b"HTTP") + der.pack(0x1B, service)))
    sealed = _number(0, enctype) + _number(1, kvno) + der.pack(0xA2, der.pack(0x04, b"sealed"))
    inner = _number(0, 5) + _text(1, b"CORP.EXAMPLE") + der.pack(0xA2, der.pack(0x30, _number(0, 2) + names))
    inner += der.pack(0xA3, der.pack(0x30, sealed))
    request = _number(0, 5) + _number(1, 14) + der.pack(0xA3, der.pack(0x61, der.pack(0x30, inner)))
    return der.pack(0x60, KERBEROS + b"\1\0" + der.pack(0x6E, der.pack(0x30, request)))


def in_spnego(token: bytes, *mechanisms: bytes) -> bytes:
    """A first SPNEGO token that offers these, with a token for the first."""
    fields = der.pack(0xA0, der.pack(0x30, b"".join(mechanisms))) + der.pack(0xA2, der.pack(0x04, token))
    return der.pack(0x60, spnego.SPNEGO + der.pack(0xA0, der.pack(0x30, fields)))
