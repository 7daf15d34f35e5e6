"""Grammar-based fuzzing: requests that no browser sends, and responses that no document server should send.

The gateway must respond or close, and never hang or crash; one request of a client must never become two at the
document server; and no response may reach a request that it does not belong to. `make fuzz-http` runs both for longer,
side by side.
"""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from support.gateway_process import (
    DocumentServer,
    Exchange,
    Gateway,
    cookie_of,
    document_server,
    gateway,
    write_settings,
)

AT_ONCE = 32  # messages in one example, sent at the same time so that they share the wait for silent connections
QUIET = 0.1  # seconds without a byte on any connection: the open ones are waiting for the rest of their message
EXAMPLES = int(os.environ.get("CALGATE_FUZZ_MESSAGES", "4000")) // AT_ONCE
FUZZ = settings(max_examples=EXAMPLES, database=None)


class Stage:
    """A gateway and a document server for all examples; runs its own event loop, as hypothesis is synchronous."""

    def __init__(self, folder: Path) -> None:
        self.loop = uvloop.new_event_loop()
        self.ids: set[str] = set()  # of all requests that have reached the document server
        self.count = 0
        self.began = time.monotonic()
        self._heard = 0
        self._stack = contextlib.AsyncExitStack()
        self.loop.run_until_complete(self._open(folder))

    async def _open(self, folder: Path) -> None:
        self.server: DocumentServer = await self._stack.enter_async_context(document_server())
        more = 'answer_timeout = "30s"'  # a busy machine must not make the test fail
        self.gate: Gateway = await self._stack.enter_async_context(
            gateway(write_settings(folder, self.server.port, route=more))
        )
        self.cookie = await cookie_of(self.gate, "alice")

    def close(self) -> None:
        took = time.monotonic() - self.began
        print(f"{self.count} messages in {took:.0f} s: {self.count / took:.0f} a second")
        self.loop.run_until_complete(self._stack.aclose())
        self.loop.close()

    def ask(self, *requests: bytes, patience: float = QUIET) -> list[bytes]:
        """Sends all requests at once; returns what arrives for each until the gateway closes or is silent."""
        return self.loop.run_until_complete(self._ask_all(requests, patience))

    async def _ask_all(self, requests: Sequence[bytes], patience: float) -> list[bytes]:
        answers = [bytearray() for _ in requests]
        asking = {
            asyncio.create_task(self._ask(request, answer)) for request, answer in zip(requests, answers, strict=True)
        }
        heard = -1
        while asking and heard != self._heard:
            heard = self._heard
            done, asking = await asyncio.wait(asking, timeout=patience)
            self._heard += len(done)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        return [bytes(answer) for answer in answers]

    async def _ask(self, request: bytes, answer: bytearray) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gate.port)
        self._heard += 1
        try:
            writer.write(request)
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(65536):
                    answer += piece
                    self._heard += 1
        finally:
            writer.close()

    @property
    def workers(self) -> set[str]:
        return set(Path(f"/proc/{self.gate.process.pid}/task/{self.gate.process.pid}/children").read_text().split())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    opened = Stage(tmp_path_factory.mktemp("fuzz"))
    yield opened
    opened.close()


# ---------------------------------------------------------------- requests

BLANKS = st.sampled_from([b" ", b"", b"\t", b"  ", b"\x0b", b"\0"])
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b""])
METHODS = st.sampled_from(
    [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"get", b"CONNECT", b"TRACE", b"G\0T", b"PRI", b""]
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b""])
TARGETS = st.one_of(
    st.sampled_from(
        [b"/portal", b"/docs/a", b"*", b"//evil/x", b"http://evil/", b"/a/../b", b"/%2e%2e/", b"/a%00", b"/?a#b", b""]
    ),
    st.binary(max_size=20).map(lambda b: b"/" + b),
)
NAMES = st.sampled_from(
    [b"Content-Length", b"Transfer-Encoding", b"Host", b"Connection", b"Upgrade", b"Expect", b"TE", b"Trailer",
     b"QVUSER",
     b"X-Forwarded-For", b"Content-Length ", b" Content-Length", b"Transfer_Encoding", b"X-A", b"Cookie", b"", b":"]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        [b"0", b"5", b"+5", b"-1", b"5, 5", b"0x5", b"99999999999999999999", b"chunked", b"gzip, chunked",
         b"chunked, identity",
         b"\tchunked", b"xchunked", b"identity", b"close", b"upgrade", b"websocket", b"100-continue", b"Host", b"evil"]
    ),
    st.binary(max_size=12),
)  # fmt: skip
BODIES = st.sampled_from(
    [b"", b"12345", b"0\r\n\r\n", b"5\r\nabcde\r\n0\r\n\r\n", b"5\nabcde\n0\n\n",
     b"5;x=y\r\nabcde\r\n0\r\nX: y\r\n\r\n",
     b"-1\r\n\r\n", b"ffffffffffffffff\r\n", b"5\r\nabcdeX\r\n0\r\n\r\n",
      b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: g\r\n\r\n",
     b"GET /smuggled HTTP/1.1\r\nHost: g\r\n\r\n"]
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draws the bytes of a request, valid or not; its number and the session cookie later replace ID and COOKIE."""
    line = draw(METHODS) + draw(BLANKS) + draw(TARGETS) + draw(BLANKS) + draw(VERSIONS) + draw(ENDS)
    fields = [b"Host: g\r\n"] if draw(st.integers(0, 9)) else []
    fields.append(b"Cookie: COOKIE\r\nConnection: close\r\n")
    more = range(draw(st.integers(0, 3)))
    fields += [draw(NAMES) + b":" + draw(BLANKS) + draw(VALUES) + draw(ENDS) for _ in more]
    return line + b"X-Id: ID\r\n" + b"".join(draw(st.permutations(fields))) + draw(ENDS) + draw(BODIES)


@pytest.mark.timeout(7200)
@given(batch=st.lists(requests(), min_size=AT_ONCE, max_size=AT_ONCE))
@FUZZ
def test_one_request_is_never_two_upstream(stage: Stage, batch: list[bytes]) -> None:
    stage.server.seen.clear()
    before = stage.workers
    first = stage.count
    stage.count += len(batch)
    sent = [
        text.replace(b"COOKIE", stage.cookie.encode()).replace(b"ID", b"%d" % number)
        for number, text in enumerate(batch, first)
    ]
    for answer in stage.ask(*sent):
        assert answer == b"" or re.match(rb"HTTP/1\.1 \d{3} ", answer), (sent, answer)
        assert b" 500 " not in answer.split(b"\r\n")[0], sent
    arrived = [exchange.values("x-id") for exchange in stage.server.seen]
    assert all(len(values) == 1 for values in arrived), (sent, arrived)
    for (number,) in arrived:
        assert number not in stage.ids, (sent, arrived)
        stage.ids.add(number)
    for exchange in stage.server.seen:
        assert len(exchange.values("content-length")) + len(exchange.values("transfer-encoding")) <= 1, sent
        assert exchange.values("qvuser") == ["DEMO\\alice"], sent
    assert stage.workers == before, "a worker has crashed"


# ---------------------------------------------------------------- responses

STATUS_LINES = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 6
    + [b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 100 Continue",
     b"HTTP/1.1 103 Early",
       b"HTTP/1.1 101 Switching", b"HTTP/1.1 99 Low", b"HTTP/1.1 1000 High", b"HTTP/2.0 200 OK", b"HTTP/1.1 200",
        b"ICY 200 OK",
       b"HTTP/1.1 200 O\0K", b"HTTP/1.1 200 OK\rX: y", b""]
)  # fmt: skip
REPLY_NAMES = st.sampled_from(
    [b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Set-Cookie", b"Location",
     b"WWW-Authenticate", b"X-A",
     b"Content-Length ", b"", b"X\0A", b"Trailer"]
)  # fmt: skip
REPLY_BODIES = st.sampled_from(
    [b"", b"12345", b"0\r\n\r\n", b"5\r\nabcde\r\n0\r\n\r\n", b"5\r\nabcde", b"5\r\nabcdeX\r\n0\r\n\r\n", b"zz\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond", b"12345HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"]
)  # fmt: skip


@st.composite
def replies(draw: st.DrawFn) -> tuple[bytes, bool]:
    """Draws the bytes of a response, valid or not, and whether the server closes the connection after it."""
    text = draw(STATUS_LINES) + draw(ENDS)
    for _ in range(draw(st.integers(0, 3))):
        text += draw(REPLY_NAMES) + b":" + draw(BLANKS) + draw(VALUES) + draw(ENDS)
    return text + draw(ENDS) + draw(REPLY_BODIES), draw(st.booleans())


@pytest.mark.timeout(7200)
@given(batch=st.lists(replies(), min_size=AT_ONCE, max_size=AT_ONCE), method=st.sampled_from(["GET", "HEAD", "POST"]))
@FUZZ
def test_response_never_reaches_another_request(stage: Stage, batch: list[tuple[bytes, bool]], method: str) -> None:
    async def fuzzed(exchange: Exchange) -> None:
        kind, _, number = exchange.path[1:].partition("?")
        if kind == "next":
            await exchange.answer(b"the right one for " + number.encode())
            return
        text, closes = batch[int(number)]
        exchange.writer.write(text)
        if closes:
            exchange.writer.close()

    before = stage.workers
    stage.count += len(batch)
    stage.server.seen.clear()
    stage.server.behaviour = fuzzed
    tail = f" HTTP/1.1\r\nHost: g\r\nConnection: close\r\nCookie: {stage.cookie}\r\n"
    length = "Content-Length: 0\r\n" if method == "POST" else ""
    answers = stage.ask(*(f"{method} /fuzzed?{n}{tail}{length}\r\n".encode() for n in range(len(batch))))
    for answer in answers:
        assert answer == b"" or re.match(rb"HTTP/1\.1 \d{3}", answer), (batch, answer)
        assert b" 500 " not in answer.split(b"\r\n")[0], batch
    following = stage.ask(*(f"GET /next?{n}{tail}\r\n".encode() for n in range(2 * len(batch))), patience=30)
    for number, answer in enumerate(following):
        assert answer.endswith(b"\r\n\r\nthe right one for %d" % number), (batch, answer)
    assert stage.workers == before, "a worker has crashed"
