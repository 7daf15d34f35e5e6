"""One connection to a document server: HTTP/1.1 written by us, read by llhttp, and distrusted.

The far side is as untrusted as the near one. llhttp by itself accepts `gzip, chunked`, lets the Content-Length of a
reply to HEAD swallow the next reply, and has no word for "the connection ended"; so one parser serves one reply,
framing is checked here a second time (RFC 9112, section 6), and a reply cut short is told from one that is whole.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import cast

import httptools

from calgate.http.headers import Header
from calgate.plugin.errors import BadGateway, Refusal

_HIGH = 256 * 1024  # bytes of a reply that may wait for a slow reader before the server is told to pause
_HEAD_LIMIT = 256 * 1024  # bytes of one reply's head
_INFORMATIONAL_LIMIT = 8  # 1xx replies before a final one
_BODYLESS = frozenset({204, 304})
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Stale(Exception):  # noqa: N818 - not an error: a kept connection had ended before it was used
    """The connection ended before a byte of the reply came, so an idempotent request may be tried on another."""


class _GoneError(Exception):
    """The server has closed the connection while the request was being sent."""


class UpstreamConnection(asyncio.Protocol):
    """A connection that carries one exchange at a time.

    Life: `begin` -> `head` -> `read` until b"" (or `take_whole`) -> idle again, where `reusable` says so. A reply that
    is whole and not taken yet keeps the connection: the next exchange would put its own reply in its place. `deadline`
    (loop time, 0: none) is enforced by whoever owns the wires, once a second: a timer for each request costs more than
    the rest.
    """

    def __init__(
        self,
        patience: float,
        on_idle: Callable[["UpstreamConnection"], None],
        on_end: Callable[["UpstreamConnection"], None],
    ) -> None:
        """`on_end`: told when the connection is no more, or is another protocol's."""
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._on_idle = on_idle
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._busy = False
        self.deadline = 0.0
        self.idle_since = 0.0
        self.after_upgrade = b""
        self._forget_reply()

    def _forget_reply(self) -> None:
        self.status = 0
        self.reason = b""
        self.headers: list[Header] = []
        self.length: int | None = None  # of the body where it is known beforehand
        self._body: list[bytes] = []
        self._buffered = 0
        self._head_size = 0
        self._informational = 0
        self._heard = False
        self._headed = False
        self._complete = False
        self._taken = False
        self._until_close = False
        self._keep = True
        self._paused = False

    # ------------------------------------------------------------ the exchange

    @property
    def alive(self) -> bool:
        """Whether the connection still stands (an upgraded one is its tunnel's)."""
        return self._transport is not None

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow on this connection."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._busy and self._error is None

    def begin(self, message: bytes, *, without_body: bool) -> None:
        """Writes a request's head (and body, where it is already whole); `without_body`: the reply has none (HEAD)."""
        self._forget_reply()
        self._busy = True
        self._without_body = without_body
        self._parser = httptools.HttpResponseParser(self)
        self.deadline = self._loop.time() + self._patience
        assert self._transport is not None
        self._transport.write(message)

    def send(self, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        """Sends a request body beside the reply; a reply may begin, or end, before the body does."""
        self.deadline = 0.0  # it is for the client to go on now, whose patience `body` knows
        self._sending = self._loop.create_task(self._send(body, chunked=chunked))

    async def _send(self, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        try:
            async for piece in body:
                await self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                self.deadline = 0.0
            if chunked:
                await self._write(b"0\r\n\r\n")
        except (TimeoutError, Refusal, OSError) as error:
            self._fail(error)
        else:
            self._sending = None
            self._expect_more()
            self._rest_if_done()

    async def _write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            raise _GoneError
        self._transport.write(data)
        self._expect_more()
        if self._writable is not None:
            await self._writable

    def _expect_more(self) -> None:
        """The document server has so long to go on; none runs while it is we who do not read."""
        self.deadline = 0.0 if self._paused else self._loop.time() + self._patience

    async def head(self) -> None:
        """Waits for the reply's head: `status`, `reason`, `headers`, `length`.

        Raises Stale, BadGateway, or whatever ended the wait (GatewayTimeout).
        """
        while not self._headed:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def read(self) -> bytes:
        """The next bytes of the reply's body; b"" once it is whole. Raises BadGateway if it is cut short."""
        while not self._body:
            if self._complete:
                self._close_unused()
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        return self._take_body()

    def take_whole(self) -> bytes | None:
        """The body, if all of it is here already; no waiting."""
        if not self._complete:
            return None
        self._close_unused()
        return self._take_body()

    def peek(self) -> bytes:
        """What of the body is here already; it is still to be read."""
        return b"".join(self._body)

    def _take_body(self) -> bytes:
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._buffered = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
            self.deadline = self._loop.time() + self._patience
        return data

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Ends the connection, whatever it is at."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        if self._transport is not None:
            self._transport.abort() if self._busy else self._transport.close()

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self.close()
        self._wake()

    def expire(self, error: Exception) -> None:
        """The deadline passed."""
        self._fail(error)

    def _close_unused(self) -> None:
        """Nobody looks at this reply any more."""
        if not self._taken:
            self._taken = True
            self._rest_if_done()

    def _rest_if_done(self) -> None:
        """Back to the pool, once the reply is whole and taken, and the request was sent whole."""
        if not self._taken or not self._busy:
            return
        if self._sending is not None:
            self.close()  # the reply came first: what is left of the request would be read as the next one
            return
        self._busy = False
        self._parser = None
        self.deadline = 0.0
        if not self._keep or self._transport is None or self._transport.is_closing():
            self.close()
            return
        self.idle_since = self._loop.time()
        self._on_idle(self)

    # ------------------------------------------------------------ asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self._keep = False
            self.close()  # bytes that nobody asked for
            return
        self._heard = True
        self.deadline = self._loop.time() + self._patience
        if not self._headed:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._switch(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._misread(error)
        if not self._headed and self._head_size > _HEAD_LIMIT:
            self._fail(BadGateway("the document server's reply has an endless head"))

    def _misread(self, error: httptools.HttpParserError) -> None:
        if self._complete:  # rubbish after a whole reply costs the connection, not the reply
            self._keep = False
            return
        cause = error.__context__
        refusal = (
            cause if isinstance(cause, Refusal) else BadGateway(f"the document server's reply is not HTTP: {error}")
        )
        self._fail(refusal)

    def _switch(self, early: bytes) -> None:
        """101: from here the bytes are another protocol's, and wait until it is there to read them."""
        self.after_upgrade = early
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self.deadline = 0.0
        self._headed = True
        self._wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self._headed and self._until_close and not self._complete and exc is None:
            self._keep = False
            self._finish()
        elif self._busy and not self._complete and self._error is None:
            self._error = Stale() if not self._heard else BadGateway("the document server's reply was cut short")
        self._wake()
        self._on_end(self)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # ------------------------------------------------------------ llhttp's side

    def on_message_begin(self) -> None:
        if self._complete:
            self._keep = False
            raise BadGateway("bytes after the reply")

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headed:  # afterwards they are trailers, which a recipient may drop (RFC 9110, 6.5.1)
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200 and self.status != 101:
            self._informational += 1
            if self._informational > _INFORMATIONAL_LIMIT:
                raise BadGateway("too many 1xx replies")
            self.headers = []
            self.reason = b""
            return
        version = self._parser.get_http_version()
        self._check_status_line(version)
        self._check_framing(version)
        self._keep = self._parser.should_keep_alive() and not self._until_close
        self._headed = True
        if self._without_body and self.status != 101:
            self._finish()
        self._wake()

    def _check_status_line(self, version: str) -> None:
        if version not in ("1.1", "1.0"):
            raise BadGateway(f"the document server speaks HTTP/{version}")
        if not 100 <= self.status <= 599 or _CONTROL.search(self.reason):  # llhttp takes 000 to 999, and any reason
            raise BadGateway("a status line that is none")

    def _check_framing(self, version: str) -> None:
        lengths: list[bytes] = []
        encodings: list[bytes] = []
        for name, value in self.headers:
            if len(name) == 14 and name.lower() == b"content-length":
                lengths.append(value)
            elif len(name) == 17 and name.lower() == b"transfer-encoding":
                encodings.append(value)
        if encodings and (encodings != [b"chunked"] or lengths or version == "1.0"):
            raise BadGateway("ambiguous framing in the document server's reply")
        if len(lengths) > 1 or (lengths and not (lengths[0].isdigit() and lengths[0].isascii())):
            raise BadGateway("a Content-Length that cannot be read in one way")
        if lengths:
            self.length = int(lengths[0])
        elif not encodings and not self._without_body and self.status not in _BODYLESS and self.status != 101:
            self._until_close = True

    def on_body(self, data: bytes) -> None:
        if self._complete:
            self._keep = False
            return
        if not self._headed:
            raise BadGateway("a 1xx reply with a body")  # llhttp looks for none in some of them alone
        self._body.append(data)
        self._buffered += len(data)
        if self._buffered > _HIGH and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
            self.deadline = 0.0  # the reader is slow, not the server
        self._wake()

    def on_message_complete(self) -> None:
        if self._headed and not self._complete and self.status != 101:
            self._finish()

    def _finish(self) -> None:
        self._complete = True
        self._wake()

    # ------------------------------------------------------------ after an upgrade

    def hand_over(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Gives the bare transport of an upgraded connection to `protocol`."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise BadGateway("the document server closed the upgraded connection")
        self._busy = False
        self._transport = None
        self._parser = None
        transport.set_protocol(protocol)
        transport.resume_reading()
        self._on_end(self)
        return transport
