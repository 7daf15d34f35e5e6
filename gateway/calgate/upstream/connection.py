"""A connection to a document server: we write HTTP/1.1, llhttp reads it, and we check what it accepted.

The document server is trusted no more than the client. One parser reads one response, the framing is checked a second
time (`framing.py`), and a response that was cut short is never taken for a whole one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

import httptools

from calgate.http.headers import Header, ResponseHeaders, sort_outbound
from calgate.plugin.errors import BadGateway, Refusal
from calgate.upstream.framing import check_status_line, read_framing
from calgate.upstream.state import State

_HIGH = 256 * 1024  # bytes of a response that may wait for a slow reader before reading from the server is paused
_HEAD_LIMIT = 256 * 1024  # bytes of a response's head
_INFORMATIONAL_LIMIT = 8  # 1xx responses before the final one
_BODYLESS = frozenset({204, 304})


class Stale(Exception):  # noqa: N818 - not an error: a kept connection had ended before it was used
    """The connection ended before a byte of the response came, so an idempotent request may be sent on another."""


class _GoneError(Exception):
    """The server closed the connection while the request was being sent."""


# names of the module's own: an attribute of the enum costs a second lookup on the warm path
IDLE, SENT, HEAD, BODY, COMPLETE, UPGRADED, FAILED, CLOSED = State
_NO_HEADERS = ResponseHeaders([])
_UNFINISHED = frozenset({SENT, HEAD, BODY, UPGRADED})


class UpstreamConnection(asyncio.Protocol):
    """A connection that carries one exchange at a time; `State` has its life.

    The order of calls: `begin`, `head`, `read` until b"" (or `take_whole`), then it is idle again. A response that is
    complete and not yet taken keeps the connection, because the next exchange would overwrite it. The pool enforces
    `deadline` (loop time, 0: none) once a second: a timer for each request costs more than the rest.
    """

    def __init__(
        self,
        patience: float,
        on_idle: Callable[["UpstreamConnection"], None],
        on_end: Callable[["UpstreamConnection"], None],
    ) -> None:
        """`patience`: seconds; `on_end` is called when the connection has ended or belongs to another protocol."""
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._on_idle = on_idle
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._on_progress: Callable[[], None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self.state = IDLE
        self.user: str | None = None  # whose request has the connection; kept by the pool
        self.owner = ""  # whose requests alone it may carry; "": anybody's; kept by the pool
        self.deadline = 0.0
        self.idle_since = 0.0
        self.after_upgrade = b""
        self._reset_response()

    def _reset_response(self) -> None:
        self.status = 0
        self.reason = b""
        self.headers: list[Header] = []
        self.sorted_headers = _NO_HEADERS  # once the head is complete
        self.length: int | None = None  # of the body, where it is known beforehand
        self._body: list[bytes] = []
        self._buffered = 0
        self._head_size = 0
        self._informational = 0
        self._ends_with_connection = False
        self._is_persistent = True
        self._is_paused = False

    # ------------------------------------------------------------ the exchange

    @property
    def alive(self) -> bool:
        """Whether the connection is open and still this protocol's."""
        return self._transport is not None

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow on this connection."""
        return self.state is IDLE and self._transport is not None and not self._transport.is_closing()

    def begin(self, message: bytes, *, without_body: bool) -> None:
        """Writes a request's head, and its body where that is whole. `without_body`: the response has none (HEAD)."""
        assert self.state is IDLE
        assert self._transport is not None
        self._reset_response()
        self.state = SENT
        self._without_body = without_body
        self._parser = httptools.HttpResponseParser(self)
        self.deadline = self._loop.time() + self._patience
        self._transport.write(message)

    def send(self, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        """Sends a request's body while the response is read; the response may begin, or end, before the body does."""
        self.deadline = 0.0  # we are waiting for the client, and `body` has its own timeout
        self._upload = self._loop.create_task(self._send(body, chunked=chunked))

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
            self._upload = None
            self._restart_deadline()

    async def _write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            raise _GoneError
        self._transport.write(data)
        self._restart_deadline()
        if self._writable is not None:
            await self._writable

    def _restart_deadline(self) -> None:
        """Gives the document server its full time again; there is no deadline while we have paused reading."""
        self.deadline = 0.0 if self._is_paused else self._loop.time() + self._patience

    def watch(self, on_progress: Callable[[], None] | None) -> None:
        """Calls `on_progress` instead of waking a reader, once the head has arrived and each time after that."""
        self._on_progress = on_progress

    def _report_progress(self) -> None:
        """Wakes the reader, or calls the watcher: last, because that may read the response and begin another exchange.

        Once for each piece of data, however many events the parser found in it.
        """
        if self._waiter is not None:
            self._wake()
        elif self._on_progress is not None and self.state is not SENT and self.state is not HEAD:
            self._on_progress()

    async def head(self) -> None:
        """Waits for the response's head: `status`, `reason`, `headers`, `length`.

        Raises Stale, BadGateway, or the error that the exchange was ended with (GatewayTimeout). Where part of the body
        has arrived, `read` raises the error after that part.
        """
        while self.state is SENT or self.state is HEAD:
            await self._wait()
        if self._error is not None and not self._body:
            raise self._error

    async def read(self) -> bytes:
        """Returns the next bytes of the body, b"" once it is complete. Raises BadGateway if it is cut short."""
        while not self._body:
            if self.state is COMPLETE:
                self._finish_exchange()
                return b""
            if self.state is IDLE or self.state is CLOSED:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        return self._take_body()

    def take_whole(self) -> bytes | None:
        """Returns the body if all of it has arrived, else None; never waits."""
        if self.state is not COMPLETE:
            return None
        body = self._take_body()
        self._finish_exchange()
        return body

    def peek(self) -> bytes:
        """Returns the part of the body that has arrived and was not read; it remains to be read."""
        return b"".join(self._body)

    def _take_body(self) -> bytes:
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._buffered = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
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
        """Closes the connection, in any state; in the middle of an exchange it is reset."""
        if self._upload is not None:
            self._upload.cancel()
            self._upload = None
        if self._transport is not None:
            self._transport.close() if self.state is IDLE or self.state is CLOSED else self._transport.abort()

    def _fail(self, error: Exception) -> None:
        if self.state in _UNFINISHED:
            self._error = error
            self.state = FAILED
        self.close()
        self._wake()

    def expire(self, error: Exception) -> None:
        """Ends the exchange with `error`, because its deadline passed or its session ended."""
        self._fail(error)

    def _finish_exchange(self) -> None:
        """Makes the connection idle again, or closes it: the response is complete, and its reader has taken it."""
        self._parser = None
        self.deadline = 0.0
        if self._upload is not None:
            self.close()  # the response came first: the rest of the upload would be read as the next request
            self.state = CLOSED
        elif not self._is_persistent or self._transport is None or self._transport.is_closing():
            self.state = CLOSED
            self.close()
        else:
            self.state = IDLE
            self.idle_since = self._loop.time()
            self._on_idle(self)

    # ------------------------------------------------------------ called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.close()  # bytes that belong to no exchange
            return
        if self.state is SENT:
            self.state = HEAD
        if self.state is HEAD:
            self._head_size += len(data)
        self.deadline = self._loop.time() + self._patience
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._switch_protocols(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._on_malformed(error)
        if self.state is HEAD and self._head_size > _HEAD_LIMIT:
            self._fail(BadGateway("the head of the document server's response has no end"))
        self._report_progress()

    def _on_malformed(self, error: httptools.HttpParserError) -> None:
        if self.state is COMPLETE:  # bytes after a complete response cost the connection, not the response
            self._is_persistent = False
            return
        cause = error.__context__
        self._fail(cause if isinstance(cause, Refusal) else BadGateway(f"the document server's response: {error}"))

    def _switch_protocols(self, early: bytes) -> None:
        """Stops reading: from here on the bytes are another protocol's, which `hand_over` brings."""
        self.after_upgrade = early
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self.deadline = 0.0
        self.state = UPGRADED

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self.state is BODY and self._ends_with_connection and exc is None:
            self.state = COMPLETE
        elif self.state is SENT:
            self._fail(Stale())
        elif self.state in _UNFINISHED:
            self._fail(BadGateway("the document server's response was cut short"))
        elif self.state is IDLE:
            self.state = CLOSED
        self._is_persistent = False
        self._on_end(self)
        self._report_progress()

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # ------------------------------------------------------------ called by llhttp

    def on_message_begin(self) -> None:
        if self.state is COMPLETE:
            raise BadGateway("bytes after the response")

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state is HEAD:  # afterwards they are trailers, which a recipient may drop (RFC 9110, 6.5.1)
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200 and self.status != 101:
            self._skip_informational()
            return
        version = self._parser.get_http_version()
        check_status_line(version, self.status, self.reason)
        self.sorted_headers = sort_outbound(self.headers)
        self.length, is_chunked = read_framing(self.sorted_headers, version)
        if self.status == 101:
            return  # llhttp raises HttpParserUpgrade next
        if self.length is None and not is_chunked and not self._without_body and self.status not in _BODYLESS:
            self._ends_with_connection = True
        self._is_persistent = self._parser.should_keep_alive() and not self._ends_with_connection
        self.state = COMPLETE if self._without_body else BODY

    def _skip_informational(self) -> None:
        self._informational += 1
        if self._informational > _INFORMATIONAL_LIMIT:
            raise BadGateway("too many 1xx responses from the document server")
        self.headers = []
        self.reason = b""

    def on_body(self, data: bytes) -> None:
        if self.state is COMPLETE:
            self._is_persistent = False
            return
        if self.state is not BODY:
            raise BadGateway("a 1xx response with a body")  # llhttp notices this for some status codes only
        self._body.append(data)
        self._buffered += len(data)
        if self._buffered > _HIGH and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
            self.deadline = 0.0  # the reader is slow, not the server

    def on_message_complete(self) -> None:
        if self.state is BODY:
            self.state = COMPLETE
        elif self.status == 101 and self._parser is not None and not self._parser.should_upgrade():
            raise BadGateway("a 101 response without Upgrade")

    # ------------------------------------------------------------ after an upgrade

    def hand_over(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Gives the transport of an upgraded connection to `protocol`. Raises BadGateway if it has closed."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise BadGateway("the document server closed the upgraded connection")
        self.state = CLOSED
        self._transport = None
        self._parser = None
        transport.set_protocol(protocol)
        transport.resume_reading()
        self._on_end(self)
        return transport
