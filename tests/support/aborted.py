"""Connections that a test resets, which cancels their requests at once, or whose bytes the gateway must have read."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.gateway_process import Gateway
from support.waiting import until

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: close() sends RST


@contextmanager
def sent(gate: Gateway, request: bytes) -> Iterator[socket.socket]:
    """Sends a request; the connection is reset at the end of the block."""
    with socket.create_connection(("127.0.0.1", gate.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.sendall(request)
        yield connection


async def until_read(gate: Gateway, client: tuple[str, int]) -> None:
    """Waits until the gateway has taken all bytes of this client's connection from its kernel buffer."""
    await until(lambda: _is_read(gate, f":{client[1]:04X}"), every=0.01)


def _is_read(gate: Gateway, client: str) -> bool:
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = [line for line in lines if line[1].endswith(f":{gate.port:04X}") and line[2].endswith(client)]
    return bool(here) and here[0][4].endswith(":00000000") and here[0][9] != "0"  # inode 0: not accepted yet
