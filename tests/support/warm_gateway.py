"""A gateway in the test's own process, so that a test can see which requests were given to a task."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from calgate.app import Gateway, open_gateway
from calgate.config.reader import read
from calgate.http.connection import RawRequest
from calgate.http.response import Response
from support.gateway_process import DocumentServer, Exchange, curl
from support.waiting import until


@dataclass
class Warm:
    """A gateway with a client that is signed in, and whose requests so far have their responses."""

    gateway: Gateway
    server: DocumentServer
    port: int
    cookie: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    tasks: list[RawRequest] = field(default_factory=list)  # the requests that were given to a task

    def send(self, path: str = "/page", *, method: str = "GET", fields: str = "", body: bytes = b"") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nCookie: {self.cookie}\r\n{fields}\r\n"
        self.writer.write(head.encode() + body)

    async def receive(self) -> tuple[bytes, bytes]:
        """Returns the head and the body of the next response; b"" and b"" where the connection ends instead."""
        try:
            head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
            if b"\r\nContent-Length: " not in head:
                return head, b""
            length = int(head.partition(b"\r\nContent-Length: ")[2].partition(b"\r\n")[0])
            return head, await asyncio.wait_for(self.reader.readexactly(length), 10)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b"", b""

    async def get(self, path: str = "/page", fields: str = "") -> tuple[bytes, bytes]:
        self.send(path, fields=fields)
        return await self.receive()

    async def arrived(self, number: int) -> Exchange:
        """Waits until the document server has that many requests, and returns the last one."""
        await until(lambda: len(self.server.seen) >= number, every=0.005)
        return self.server.seen[-1]


@asynccontextmanager
async def warm_gateway(file: Path, server: DocumentServer, path: str = "/page") -> AsyncIterator[Warm]:
    """Starts a gateway in this process, with alice signed in on a connection; `path` is requested until it is warm."""
    async with open_gateway(read(file)) as gateway:
        await gateway.rules.wait(30)
        listener = await asyncio.get_running_loop().create_server(gateway.server, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            signed_in = await curl(f"http://127.0.0.1:{port}{path}", user="alice")
            assert signed_in.status == 200, signed_in
            cookie = next(c for c in signed_in.values("set-cookie") if "calgate=" in c).partition(";")[0]
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            warm = Warm(gateway, server, port, cookie, reader, writer)
            assert (await warm.get(path))[0].startswith(b"HTTP/1.1 200")  # the cookie has come back
            serve = gateway.server._serve

            async def counted(request: RawRequest) -> Response | None:
                warm.tasks.append(request)
                return await serve(request)

            gateway.server._serve = counted
            server.seen.clear()
            try:
                yield warm
            finally:
                writer.close()
                await gateway.server.shutdown(0.1)
