"""The visitors of the mixed load, each kind a function that does its work once, and the documents they request.

A visitor raises AssertionError (or the error of a broken connection) where the outcome is wrong.
"""

import asyncio
import base64
import random
import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from end_to_end.test_websocket import echo, frame, read_frame
from support.gateway_process import Exchange, NtlmClient, read_chunks

SMALL, LARGE, CHUNK = b"s" * 1024, b"L" * (4 << 20), b"c" * 20_000
CHOICE = random.Random(5)


async def documents(exchange: Exchange) -> None:
    """Responds as the document server."""
    match exchange.path.partition("?")[0]:
        case "/large":
            await exchange.answer(LARGE)
        case "/chunks":
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK) for _ in range(10))
            exchange.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
            await exchange.writer.drain()
        case "/up":
            await exchange.answer(b"%d" % len(exchange.body))
        case "/live":
            await echo(exchange)
        case _:
            await exchange.answer(SMALL, fields=[f"X-Who: {exchange.values('qvuser')[0]}"])


@dataclass
class Site:
    """The gateway under load, with counts of outcomes so far."""

    port: int
    users: Sequence[str]
    done: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    over: bool = False
    cookies: dict[str, str] = field(default_factory=dict)  # of users who stay signed in
    free: list[str] = field(default_factory=list)  # users who come and go, while they are signed out

    def __post_init__(self) -> None:
        self.free = list(self.users[8:])

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def regular(self) -> tuple[str, str]:
        """Returns one of eight users who stay signed in, and the session cookie."""
        user = CHOICE.choice(self.users[:8])
        if user not in self.cookies:
            self.cookies[user] = await sign_in(self, user)
        return user, self.cookies[user]


class ServiceRestart(Exception):  # noqa: N818 - not an error
    """A WebSocket was closed with 1012 because a reload replaces its worker, as it should be."""


class Browser:
    """One kept connection; opens another after a response with Connection: close."""

    def __init__(self, site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.site = site
        self.reader = reader
        self.writer = writer
        self.is_over = False

    @classmethod
    async def open(cls, site: Site) -> "Browser":
        return cls(site, *await asyncio.open_connection("127.0.0.1", site.port, limit=1 << 20))

    def send(self, line: str, *fields: str, body: bytes = b"") -> None:
        """Sends a request without waiting for the response."""
        lines = [f"{line} HTTP/1.1", f"Host: 127.0.0.1:{self.site.port}", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def request(self, line: str, *fields: str, body: bytes = b"") -> tuple[int, str, bytes]:
        """Sends a request and returns status, head and body of the response."""
        await self.reconnect()
        self.send(line, *fields, body=body)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.site.done["requests"] += 1
        self.is_over = "connection: close" in head.lower()
        if "transfer-encoding: chunked" in head.lower():
            return int(head[9:12]), head, await read_chunks(self.reader)
        length = re.search(r"(?i)\ncontent-length: (\d+)", head)
        return int(head[9:12]), head, await self.reader.readexactly(int(length[1]) if length else 0)

    async def reconnect(self) -> None:
        """Opens a new connection if the last response ended this one."""
        if self.is_over:
            self.writer.close()
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.site.port, limit=1 << 20)
            self.is_over = False

    async def frame(self) -> tuple[int, bytes]:
        """Returns the next frame of a WebSocket. Raises ServiceRestart."""
        opcode, payload = await asyncio.wait_for(read_frame(self.reader), 30)
        if opcode == 8 and payload[:2] == struct.pack(">H", 1012):
            raise ServiceRestart
        return opcode, payload

    async def __aenter__(self) -> "Browser":
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.writer.transport.abort() if exc[0] else self.writer.close()


async def sign_in(site: Site, user: str) -> str:
    """Signs in by NTLM on a new connection and returns the session cookie."""
    client = NtlmClient(user)
    async with await Browser.open(site) as browser:
        status, head, _ = await browser.request("GET /portal", f"Authorization: NTLM {client.first()}")
        assert status == 401, head
        status, head, _ = await browser.request("GET /portal", f"Authorization: NTLM {client.second(head)}")
    assert status == (403 if user == "mallory" else 200), head
    site.done["sign-ins"] += 1
    cookie = re.search(r"(?i)set-cookie: (calgate=[^;]+)", head)
    assert cookie is not None, head
    return f"Cookie: {cookie[1]}"


async def reads_pages(site: Site) -> None:
    user, cookie = await site.regular()
    async with await Browser.open(site) as browser:
        for number in range(100):
            path = CHOICE.choice(("/portal", "/docs/sales", "/docs/sales/click", "/docs/stock", "/docs/stock/poll"))
            status, head, body = await browser.request(f"GET {path}?{number}", cookie)
            assert (status, body) == (200, SMALL), head
            assert f"X-Who: DEMO\\{user}\r\n" in head, head
            await asyncio.sleep(0.015)


async def downloads(site: Site) -> None:
    _, cookie = await site.regular()
    async with await Browser.open(site) as browser:
        assert (await browser.request("GET /large", cookie))[2] == LARGE
        assert (await browser.request("GET /chunks", cookie))[2] == CHUNK * 10
    site.done["downloads"] += 2
    await asyncio.sleep(0.2)


async def uploads(site: Site) -> None:
    _, cookie = await site.regular()
    async with await Browser.open(site) as browser:
        for size in (1000, 2 << 20):
            assert (await browser.request("POST /up", cookie, body=b"u" * size))[2] == b"%d" % size
        await browser.reconnect()
        browser.send("POST /up", cookie, "Transfer-Encoding: chunked")
        for _ in range(10):
            browser.writer.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))
            await browser.writer.drain()
        browser.writer.write(b"0\r\n\r\n")
        head = await browser.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert await browser.reader.readexactly(6) == b"200000"
    site.done["uploads"] += 3
    await asyncio.sleep(0.2)


async def reads_slowly(site: Site) -> None:
    _, cookie = await site.regular()
    async with await Browser.open(site) as browser:
        browser.send("GET /large", cookie)
        await browser.reader.readuntil(b"\r\n\r\n")
        left = len(LARGE)
        while left:
            piece = await browser.reader.read(min(left, 131_072))
            assert piece, f"{left} bytes are missing"
            left -= len(piece)
            await asyncio.sleep(0.1)
    site.done["slow downloads"] += 1


async def open_socket(site: Site, browser: Browser, cookie: str) -> None:
    key = base64.b64encode(b"0" * 16).decode()
    fields = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    browser.send("GET /live", *fields, f"Origin: {site.origin}", cookie)
    head = await browser.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert await browser.frame() == (1, b"hello, early")


async def talks(site: Site, messages: int = 100, pause: float = 0.02) -> None:
    _, cookie = await site.regular()
    async with await Browser.open(site) as browser:
        await open_socket(site, browser, cookie)
        for number in range(messages):
            said = b"%d" % number * CHOICE.randrange(1, 400)
            browser.writer.write(frame(said, mask=True))
            assert await browser.frame() == (1, said)
            site.done["WebSocket messages"] += 1
            await asyncio.sleep(pause)
        browser.writer.write(frame(struct.pack(">H", 1000), opcode=8, mask=True))
        assert (await browser.frame())[0] == 8
        assert await browser.reader.read() == b""


async def talks_seldom(site: Site) -> None:
    await talks(site, messages=30, pause=1.0)


async def comes_and_goes(site: Site) -> None:
    """Signs in, opens a document and a WebSocket, signs out: the WebSocket is closed and the cookie is refused."""
    user = site.free.pop(0)
    try:
        cookie = await sign_in(site, user)
        async with await Browser.open(site) as browser, await Browser.open(site) as other:
            status, head, body = await browser.request("GET /docs/sales", cookie)
            assert (status, body) == (200, SMALL), head
            await open_socket(site, other, cookie)
            status, head, _ = await browser.request("POST /_calgate/sign-out", cookie, f"Origin: {site.origin}")
            assert status == 303, head
            opcode, payload = await other.frame()
            assert (opcode, payload[:2]) == (8, struct.pack(">H", 1008)), payload
            status, head, _ = await browser.request("GET /docs/sales", cookie)
            assert status == 401, head
        site.done["sign-outs"] += 1
    finally:
        site.free.append(user)
    await asyncio.sleep(0.4)


async def is_refused(site: Site) -> None:
    """Is refused by a rule, without a CAL, without a sign-in, and for an invalid path."""
    _, cookie = await site.regular()
    await sign_in(site, "mallory")
    async with await Browser.open(site) as browser:
        status, head, body = await browser.request("GET /full/sales", cookie)
        assert (status, b"no-cal" in body) == (403, True), head
        assert (await browser.request("GET /docs/sales"))[0] == 401
        assert (await browser.request("GET /a/../b", cookie))[0] == 400
    site.done["refusals"] += 4
    await asyncio.sleep(0.3)


async def vanishes(site: Site) -> None:
    """Disconnects in the middle of a download, an upload and a handshake."""
    _, cookie = await site.regular()
    for number, line in enumerate(("GET /large", "POST /up", "GET /portal")):
        browser = await Browser.open(site)
        field_ = f"Authorization: NTLM {NtlmClient('user00').first()}" if number == 2 else cookie
        browser.send(line, field_, *(["Content-Length: 1000000"] if number == 1 else []))
        browser.writer.write(b"x" * 5000 if number == 1 else b"")
        await asyncio.sleep(0.05)
        browser.writer.transport.abort()
        site.done["vanished clients"] += 1
    await asyncio.sleep(0.4)


EVERYTHING = (
    *(reads_pages,) * 8, *(downloads,) * 2, *(uploads,) * 2, *(reads_slowly,) * 3, *(talks,) * 3, *(talks_seldom,) * 8,
    *(comes_and_goes,) * 3, is_refused, vanishes,
)  # fmt: skip
