"""A connection: who is at its far end, and the handshake that is half done on it.

Built on aiohttp's `RequestHandler`, which parses requests and keeps their order. A handshake lives here because it
belongs to one connection and to nothing else: not to an address, not to a cookie (RFC 4559, section 6).
"""

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, cast

from aiohttp import HttpVersion, StreamReader, web
from aiohttp.helpers import set_exception
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import ERROR, _ErrInfo

from calgate.http.address import canonical_address
from calgate.http.headers import Header, RequestHeaderFilter, RequestHeaders
from calgate.plugin.errors import BadRequest, HeadersTooLarge, Refusal
from calgate.plugin.identity import Handshake

HEADER_LIMIT = 65_536  # one field: a Kerberos ticket of 1000 groups is 12.7 KB of base64, more with claims
FIELDS_LIMIT = 128
_REMEMBERED = 4096  # bytes of fields that a connection keeps from one request to the next: it may idle for long
_COPIED = 16_384  # bytes up to which two pieces are joined: cheaper than a write of two
_TOO_LATE = web.RequestPayloadError("the body was asked for after the answer")
_RESET = struct.pack("ii", 1, 0)  # linger for no time: uvloop's abort alone is a clean close, as far as TCP can tell
_SLOW_READER = 120.0  # seconds without a byte taken until a reader counts as gone

logger = logging.getLogger(__name__)


class RawRequest:
    """One request on one connection."""

    __slots__ = ("connection", "content", "keep_alive", "method", "raw_headers", "raw_path", "version")

    def __init__(self, message: RawRequestMessage, content: StreamReader, connection: "ClientConnection") -> None:
        self.connection = connection
        self.content = content
        self.method: str = message.method
        self.raw_path: str = message.path
        self.version: HttpVersion = message.version
        self.raw_headers: tuple[Header, ...] = message.raw_headers
        self.keep_alive: bool = not message.should_close

    def _cancel(self, error: BaseException) -> None:
        """The client is gone, or the gateway stops: who reads the body is told."""
        set_exception(self.content, error)

    def _finish(self) -> None:
        """The answer is about to be sent: there is nothing to tidy up."""


class Server(Protocol):
    """The HTTP server that a connection belongs to: it writes the responses to requests that could not be parsed."""

    def refuse(self, raw: RawRequest, refusal: Refusal) -> web.StreamResponse: ...
    def broken(self, raw: RawRequest) -> web.StreamResponse: ...


class ClientConnection(web.RequestHandler):
    """One client connection, and what is known of it."""

    __slots__ = (
        "__weakref__",
        "_last_fields",
        "_last_headers",
        "address",
        "failures",
        "handshake",
        "has_answered",
        "is_secure",
        "on_backpressure",
        "receiving",
        "server",
        "uploading",
    )

    def __init__(self, server: "Server", client: str | None, **settings: Any) -> None:
        super().__init__(cast(web.Server, server), **settings)
        self.server = server
        self.address = client or ""  # a proxy's word is better than the socket's, which is the proxy
        self.is_secure = False
        self.handshake: Handshake | None = None
        self.has_answered = False  # bytes of an answer to the present request are on their way
        self.on_backpressure: Callable[[bool], None] | None = (
            None  # told when the client reads too slowly, and when again
        )
        self.receiving: StreamReader | None = None  # the present request's body, until its answer is whole as well
        self.uploading: asyncio.Task[Any] | None = None  # who reads that body
        self.failures = 0  # sign-ins that failed on this connection
        self._last_fields: tuple[Header, ...] = ()
        self._last_headers: RequestHeaders | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        if not self.address:
            self.address = canonical_address(peer[0]) if isinstance(peer, tuple) else "unix"
        self.is_secure = transport.get_extra_info("sslcontext") is not None
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.handshake = None
        super().connection_lost(exc)

    # ------------------------------------------------------------ its requests, one after the other

    async def start(self) -> None:
        """Answers the requests in the order they came, until the connection ends.

        In the place of aiohttp's, which makes a task, a writer and a request with everything an application may want
        for each: a sixth of a warm request's time, for a gateway that wants none of it. The rest is aiohttp's: what it
        parsed stands in `_messages`, and `_handle_request` answers, errors included.
        """
        try:
            while not self._force_close:
                message, content = await self._next_message()
                if not await self._answer_one(message, content) or self._close or self._force_close:
                    break
                self._await_another()
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception:
            logger.exception("a bug in the gateway ended a connection")
            self.force_close()
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                close_in_time(self.transport)

    async def _next_message(self) -> tuple[RawRequestMessage | _ErrInfo, StreamReader]:
        if not self._messages:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message, content = self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        return message, content

    async def _answer_one(self, message: RawRequestMessage | _ErrInfo, content: StreamReader) -> bool:
        """Whether the connection may bring another."""
        handler: Any = self._request_handler
        if isinstance(message, _ErrInfo):
            handler = self._make_error_handler(message)
            message = ERROR
        raw = cast(web.BaseRequest, RawRequest(message, content, self))
        try:
            response, is_gone = await self._handle_request(raw, None, handler)
        except ConnectionError:
            return False
        if is_gone:
            return False
        self._keepalive = bool(response.keep_alive)
        if not content.is_eof():
            await self._read_and_forget(content)
        content.set_exception(_TOO_LATE)
        return self._keepalive

    async def _read_and_forget(self, content: StreamReader) -> None:
        """The rest of a body that nobody wanted; a client that does not come to its end loses the connection."""
        if self.uploading is not None and self.uploading is not asyncio.current_task():
            self.uploading.cancel()  # the answer came before the upload's end, and a body has one reader
            await asyncio.wait({self.uploading})
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lingering_time):
                while not self._force_close and not content.is_eof():
                    await content.readany()
        if not content.is_eof():
            self.close()

    def _await_another(self) -> None:
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    def sorted_headers(self, fields: tuple[Header, ...], header_filter: RequestHeaderFilter) -> RequestHeaders:
        """The request's fields, sorted; those that were the last request's too are not sorted again.

        A browser sends much the same from one request to the next, and a page that polls exactly so. What is
        remembered is never changed. Raises what `RequestHeaderFilter.sort` raises.
        """
        if self._last_headers is not None and fields == self._last_fields:
            return self._last_headers
        headers = header_filter.sort(fields)
        is_small = headers.size <= _REMEMBERED
        self._last_fields, self._last_headers = (fields, headers) if is_small else ((), None)
        return headers

    def begin(self, raw: RawRequest) -> None:
        """This request is the one that is answered from now on."""
        self.has_answered = False
        self.receiving = raw.content
        self.uploading = None
        if self._messages:
            self._notice_broken_body()

    def data_received(self, data: bytes) -> None:
        """As aiohttp's, which forgets one thing: that whoever waits for the rest of a broken body waits in vain."""
        super().data_received(data)
        if self._messages:
            self._notice_broken_body()

    def _notice_broken_body(self) -> None:
        """Bytes that could not be read are of the last request's body, if more of that was to come."""
        if not isinstance(self._messages[-1][0], _ErrInfo):
            return
        body = self._messages[-2][1] if len(self._messages) > 1 else self.receiving
        if body is not None and not body.is_eof():
            body.set_exception(web.RequestPayloadError("the body's framing is broken"))
            body.feed_eof()  # nor is there anything that could be read and thrown away before the connection closes

    @property
    def is_idle(self) -> bool:
        """No request is being answered."""
        return not self._request_in_progress and not self._messages

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.on_backpressure is not None:
            self.on_backpressure(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.on_backpressure is not None:
            self.on_backpressure(False)

    def take_over(self, reader: "Reader") -> None:
        """From here the connection's bytes go to `reader`, those that came early first: it is HTTP no more.

        Private ground of aiohttp's (its WebSocket reader stands here), so the version is pinned and a test stands on
        it.
        """
        self.set_parser(cast(Any, reader))

    def send(self, data: bytes, more: bytes = b"") -> None:
        """Queues bytes for the client, in one write; raises ConnectionResetError when it is gone."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if len(more) < _COPIED:
            transport.write(data + more)
        else:
            transport.writelines((data, more))

    async def drain(self) -> None:
        """Waits until the client has taken enough of what was sent; one that takes nothing for long is let go."""
        while self._paused:
            waiting = self._unsent
            try:
                async with asyncio.timeout(_SLOW_READER):
                    await self._drain_helper()
            except TimeoutError as error:
                if self._unsent >= waiting:
                    self.abort()
                    raise ConnectionResetError("the client reads nothing") from error
                self._drain_waiter = None  # aiohttp's keeps the one that the timeout cancelled

    @property
    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def force_close(self) -> None:
        """As aiohttp's, which closes cleanly: in the middle of an answer that would make it a whole one in HTTP/1.0."""
        if self.has_answered:
            self.abort()
        elif self.transport is not None:
            close_in_time(self.transport)
        super().force_close()

    def abort(self) -> None:
        """Resets the connection: so a client knows that what it has is not whole, also where a close would end it."""
        if self.transport is None:
            return
        beneath = self.transport.get_extra_info("socket")  # None: it is lost already, as TLS tells us with a delay
        if beneath is not None:
            with suppress(OSError):
                beneath.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    @property
    def tls_connection(self) -> ssl.SSLObject | None:
        """The TLS of this very connection; None: plain."""
        return self.transport.get_extra_info("ssl_object") if self.transport is not None else None

    def handle_error(
        self, raw: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """A request that aiohttp could not parse, or a bug of ours. Its bytes go into no log."""
        if self.has_answered:
            raise ConnectionResetError("an answer had begun")
        if status == 400 and not isinstance(exc, Refusal):
            kind: type[Refusal] = HeadersTooLarge if _is_too_large(exc) else BadRequest
            return self.server.refuse(raw, kind(f"not HTTP that can be read in one way: {type(exc).__name__}"))
        logger.error("a bug in the gateway ended a request", exc_info=exc)
        return self.server.broken(raw)


def _is_too_large(error: BaseException | None) -> bool:
    """Whether a header is longer than we read; aiohttp has a class for one that is long, and none for too many."""
    too_many = isinstance(error, BadHttpMessage) and error.message == "Too many headers received"
    return too_many or isinstance(error, LineTooLong)


def close_in_time(transport: asyncio.Transport) -> None:
    """Closes a connection; one whose far end does not take what is still to be sent is let go."""
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(_SLOW_READER, transport.abort)
    transport.close()


class Reader(Protocol):
    """What reads a connection after an upgrade."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]: ...
    def feed_eof(self) -> None: ...
