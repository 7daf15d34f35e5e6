"""The PROXY protocol, versions 1 and 2: a proxy names its client's address before the first byte of TLS or HTTP.

Specification: haproxy.org, proxy-protocol.txt. The header is accepted from `trusted_proxies` only, and required from
them: without it nothing says whose connection it is, so the connection is closed.
"""

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Sequence

from calgate.http.address import canonical_address, is_trusted
from calgate.plugin.settings import Network

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LONGEST_1 = 107  # bytes of a version 1 line, with its CRLF
_LONGEST_2 = 16 + 2048  # more than addresses and any extension in use
_PATIENCE = 5.0


class NotProxied(Exception):  # noqa: N818 - describes the connection, not a bug
    """The connection does not begin with a valid PROXY header from a trusted proxy."""


async def read_client(sock: socket.socket, trusted: Sequence[Network]) -> str:
    """Removes the header from an accepted connection and returns the client's address. Raises NotProxied, TimeoutError.

    Peeks before it reads, so that none of the bytes that follow are consumed.
    """
    peer = sock.getpeername() if sock.family != socket.AF_UNIX else ("unix",)
    address = canonical_address(peer[0]) if peer[0] != "unix" else "unix"
    if not is_trusted(address, trusted):
        raise NotProxied(f"{address} is not one of listen.trusted_proxies")
    async with asyncio.timeout(_PATIENCE):
        while True:
            start = await _peek(sock)
            length, client = parse(start)
            if length:
                sock.recv(length)
                return client or address


async def _peek(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _resolve, readable)
    try:
        await readable
    finally:
        loop.remove_reader(sock)
    start = sock.recv(_LONGEST_2, socket.MSG_PEEK)
    if not start:
        raise NotProxied("the connection ended before the header")
    if not parse(start)[0]:
        await asyncio.sleep(0.01)  # an incomplete header: peeking again at once would see the same bytes
    return start


def _resolve(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)


def parse(start: bytes) -> tuple[int, str | None]:
    """Returns the header's length in bytes and the client's address.

    The length is 0 while the header is incomplete; the address is None for a connection of the proxy's own. Raises
    NotProxied for bytes that cannot become a valid header.
    """
    if start[:12] == _SIGNATURE[: len(start[:12])] and start[:1] == b"\r":
        return _parse_2(start)
    if start[:6] == b"PROXY "[: len(start[:6])]:
        return _parse_1(start)
    raise NotProxied("the connection does not begin with a PROXY header")


def _parse_1(start: bytes) -> tuple[int, str | None]:
    end = start.find(b"\r\n", 0, _LONGEST_1)
    if end < 0:
        if len(start) >= _LONGEST_1:
            raise NotProxied("PROXY line without an end")
        return 0, None
    words = start[:end].decode("latin-1").split(" ")
    if len(words) >= 2 and words[1] == "UNKNOWN":
        return end + 2, None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise NotProxied("malformed PROXY line")
    return end + 2, _valid_address(words[2])


def _parse_2(start: bytes) -> tuple[int, str | None]:
    if len(start) < 16:
        return 0, None
    kind, family, size = struct.unpack_from(">BBH", start, 12)
    if kind >> 4 != 2 or 16 + size > _LONGEST_2:
        raise NotProxied("PROXY header of an unknown version, or too long")
    if len(start) < 16 + size:
        return 0, None
    if kind & 15 == 0:  # LOCAL: a connection of the proxy itself, such as a health check
        return 16 + size, None
    length = {0x11: 4, 0x21: 16}.get(family)
    if kind & 15 != 1 or length is None or size < 2 * length + 4:
        raise NotProxied("PROXY header for neither TCP over IPv4 nor TCP over IPv6")
    return 16 + size, _valid_address(str(ipaddress.ip_address(start[16 : 16 + length])))


def _valid_address(address: str) -> str:
    try:
        return canonical_address(address)
    except ValueError:
        raise NotProxied("PROXY header with an invalid address") from None
