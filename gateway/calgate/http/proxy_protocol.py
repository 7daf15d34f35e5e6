"""The PROXY protocol, versions 1 and 2: a proxy in front says who its client is, before the first byte of TLS or HTTP.

Specification: haproxy.org, proxy-protocol.txt. It is believed from `trusted_proxies` only, and demanded of them: a
connection that begins otherwise ends there, since it could be anybody's.
"""

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Sequence

from calgate.http.address import canonical_address, is_trusted
from calgate.plugin.settings import Network

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LONGEST_1 = 107  # bytes of a version 1 line, its CRLF included
_LONGEST_2 = 16 + 2048  # more than addresses and any extension in use
_PATIENCE = 5.0


class NotProxied(Exception):  # noqa: N818 - what a connection is, not an error of ours
    """The connection does not begin with a header that can be believed."""


async def read_client(sock: socket.socket, trusted: Sequence[Network]) -> str:
    """Takes the header off an accepted connection; the client's address. Raises NotProxied.

    Reads by peeking, so that not a byte of what follows is taken.
    """
    peer = sock.getpeername() if sock.family != socket.AF_UNIX else ("unix",)
    address = canonical_address(peer[0]) if peer[0] != "unix" else "unix"
    if not is_trusted(address, trusted):
        raise NotProxied(f"{address} is none of the trusted proxies")
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
        await asyncio.sleep(0.01)  # half a header: the next peek would see the same at once
    return start


def _resolve(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)


def parse(start: bytes) -> tuple[int, str | None]:
    """(length of the header, client); length 0: it is not all there yet; client None: the proxy's own connection.

    Raises NotProxied for anything that cannot become a header.
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
            raise NotProxied("a PROXY line without an end")
        return 0, None
    words = start[:end].decode("latin-1").split(" ")
    if len(words) >= 2 and words[1] == "UNKNOWN":
        return end + 2, None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise NotProxied("a PROXY line of another form")
    return end + 2, _checked(words[2])


def _parse_2(start: bytes) -> tuple[int, str | None]:
    if len(start) < 16:
        return 0, None
    kind, family, size = struct.unpack_from(">BBH", start, 12)
    if kind >> 4 != 2 or 16 + size > _LONGEST_2:
        raise NotProxied("a PROXY header of another version, or endless")
    if len(start) < 16 + size:
        return 0, None
    if kind & 15 == 0:  # LOCAL: the proxy itself, say its health check
        return 16 + size, None
    length = {0x11: 4, 0x21: 16}.get(family)
    if kind & 15 != 1 or length is None or size < 2 * length + 4:
        raise NotProxied("a PROXY header for neither TCP over IPv4 nor over IPv6")
    return 16 + size, _checked(str(ipaddress.ip_address(start[16 : 16 + length])))


def _checked(address: str) -> str:
    try:
        return canonical_address(address)
    except ValueError:
        raise NotProxied("a PROXY header with an address that is none") from None
