"""WebSocket messages: an echo server, and a load that waits for each echo; both lean, both on core 0.

    python -m bench.sockets serve PORT
    python -m bench.sockets load URL COOKIE SECONDS CONNECTIONS   prints {"messages", "errors", "seconds", "p50", "p99"}

A message is 100 bytes of text, one at a time on each connection, as when a user clicks through a document.
"""

import asyncio
import base64
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import uvloop

PAYLOAD = 100
SENT = bytes([0x81, 0x80 | PAYLOAD, 0, 0, 0, 0]) + b"m" * PAYLOAD  # masked with zeros
ECHOED = bytes([0x81, PAYLOAD]) + b"m" * PAYLOAD
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = base64.b64encode(b"a key of 16 byte")


class Echo(asyncio.Protocol):
    """The server's end of a connection: takes the handshake, then echoes each message of that length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._waiting = b""
        self._is_open = False

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        if not self._is_open:
            head, end, rest = self._waiting.partition(b"\r\n\r\n")
            if not end:
                return
            self._accept(head)
            self._waiting = rest
        count = len(self._waiting) // len(SENT)
        if count:
            self._waiting = self._waiting[count * len(SENT) :]
            self._transport.write(ECHOED * count)

    def _accept(self, head: bytes) -> None:
        self._is_open = True
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
        accept = base64.b64encode(hashlib.sha1((key[1] if key else b"") + GUID).digest())
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )


class EchoClient(asyncio.Protocol):
    """The load's end of a connection: sends the next message when the echo of the last has arrived."""

    def __init__(self, request: bytes, opened: Callable[[bool], None]) -> None:
        self._request = request
        self._opened = opened
        self._head = b""
        self._missing = 0
        self._sent_at = 0.0
        self.took: list[float] = []
        self.errors = 0
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.errors += not self.over
        if not self._missing:
            self._opened(False)

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            self._head += data
            if b"\r\n\r\n" in self._head:
                self._missing = len(ECHOED)
                self._opened(self._head.startswith(b"HTTP/1.1 101 "))
            return
        self._missing -= len(data)
        if self._missing == 0:
            self.took.append(time.perf_counter() - self._sent_at)
            self.send()

    def send(self) -> None:
        self._missing = len(ECHOED)
        self._sent_at = time.perf_counter()
        if not self.over:
            self._transport.write(SENT)


async def serve(port: int) -> None:
    """Serves until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port)
    await server.serve_forever()


async def load(url: str, cookie: str, seconds: float, connections: int) -> dict[str, float]:
    """All connections are opened first, then all ask."""
    place = urlsplit(url)
    fields = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    fields += [f"Sec-WebSocket-Key: {KEY.decode()}", f"Origin: {place.scheme}://{place.netloc}", f"Cookie: {cookie}"]
    request = "\r\n".join([f"GET {place.path} HTTP/1.1", f"Host: {place.netloc}", *fields, "", ""]).encode()
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(connections):
        opened: asyncio.Future[bool] = loop.create_future()
        _, client = await loop.create_connection(
            lambda opened=opened: EchoClient(request, lambda yes: opened.done() or opened.set_result(yes)),  # type: ignore[misc]
            place.hostname or "",
            place.port or 0,
        )
        if await asyncio.wait_for(opened, 10):
            clients.append(client)
    for client in clients:
        client.send()
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    for client in clients:
        client.over = True
    took = sorted(one for client in clients for one in client.took)
    errors = connections - len(clients) + sum(client.errors for client in clients)
    at = [took[int(len(took) * share)] * 1000 if took else 0.0 for share in (0.5, 0.99)]
    spent = time.perf_counter() - began
    return {"messages": len(took), "errors": errors, "seconds": spent, "p50": at[0], "p99": at[1]}


if __name__ == "__main__":
    uvloop.install()
    if sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2])))
    else:
        print(json.dumps(asyncio.run(load(sys.argv[2], sys.argv[3], float(sys.argv[4]), int(sys.argv[5])))))
