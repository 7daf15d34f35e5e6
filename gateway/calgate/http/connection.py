"""A client's connection: its address, its requests one after the other, and an unfinished sign-in handshake.

Built on aiohttp's `RequestHandler`, which parses requests and keeps their order. The handshake is kept here because it
belongs to one connection and to nothing else: not to an address, not to a cookie (RFC 4559, section 6).
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

from aiohttp import HttpVersion, HttpVersion11, StreamReader, web
from aiohttp.helpers import set_exception
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import ERROR, _ErrInfo

from calgate.http.address import canonical_address
from calgate.http.headers import Header
from calgate.http.known_heads import Key, KnownHead, KnownHeads, RequestSplitter
from calgate.http.parse_errors import refusal_for
from calgate.http.readable import ReadableConnection
from calgate.http.writable import close_in_time
from calgate.plugin.errors import Refusal
from calgate.plugin.identity import Handshake

HEADER_LIMIT = 65_536  # bytes of one header: a Kerberos ticket with 1000 groups is 12.7 KB of base64, more with claims
FIELDS_LIMIT = 128
_TOO_LATE = web.RequestPayloadError("the body was read after the response")

logger = logging.getLogger(__name__)


class RawRequest:
    """One request on one connection."""

    __slots__ = (
        "body",
        "connection",
        "content",
        "exchange",
        "keep_alive",
        "key",
        "known",
        "method",
        "raw_headers",
        "raw_path",
        "request",
        "values",
        "version",
    )

    def __init__(
        self,
        connection: "ClientConnection",
        content: StreamReader,
        method: str,
        raw_path: str,
        version: HttpVersion,
        raw_headers: tuple[Header, ...],
        *,
        keep_alive: bool,
    ) -> None:
        self.connection = connection
        self.content = content
        self.method = method
        self.raw_path = raw_path
        self.version = version
        self.raw_headers = raw_headers
        self.keep_alive = keep_alive
        self.key: Key | None = None  # by which its headers can be remembered
        self.values: Sequence[bytes] = ()  # those in its headers that may change
        self.known: KnownHead | None = (
            None  # its parsed headers, where they are known; the parser has not seen the request then
        )
        self.body = b""  # where its headers are known: all of it, which is not in `content`
        self.request: object = None  # the handler's reading of it
        self.exchange: Abandonable | None = None  # begun at once, until it is finished or a task takes it over

    @classmethod
    def of_message(
        cls, message: RawRequestMessage, content: StreamReader, connection: "ClientConnection"
    ) -> "RawRequest":
        """Returns a request that aiohttp has parsed."""
        return cls(
            connection,
            content,
            message.method,
            message.path,
            message.version,
            message.raw_headers,
            keep_alive=not message.should_close,
        )

    def _cancel(self, error: BaseException) -> None:
        """Raises `error` in the reader of the body: the client has disconnected, or the gateway stops."""
        set_exception(self.content, error)

    def _finish(self) -> None:
        """Called by aiohttp before the response is sent; there is nothing to clean up."""


class Abandonable(Protocol):
    """An exchange that ends with the client's connection."""

    def abandon(self) -> None: ...


class Server(Protocol):
    """The HTTP server that a connection belongs to: it makes the responses to requests that could not be parsed."""

    is_draining: bool
    known_heads: KnownHeads

    def begin(self, raw: RawRequest) -> bool: ...
    def refuse(self, raw: RawRequest, refusal: Refusal) -> web.StreamResponse: ...
    def broken(self, raw: RawRequest) -> web.StreamResponse: ...


class ClientConnection(ReadableConnection):
    """One client connection: it owns the sign-in handshake, the upload and the response of its present request."""

    __slots__ = (
        "__weakref__",
        "_asleep",
        "_handshake",
        "_is_between_requests",
        "_is_flushing",
        "_splitter",
        "address",
        "failed_sign_ins",
        "is_secure",
        "opened_at",
        "server",
    )

    def __init__(self, server: "Server", client: str | None, **settings: Any) -> None:
        super().__init__(cast(web.Server, server), **settings)
        self.server = server
        self.address = client or ""  # from a PROXY header; else from the socket, when the connection is made
        self.is_secure = False
        self.opened_at = 0.0  # Unix time
        self.failed_sign_ins = 0
        self._handshake: Handshake | None = None
        self._asleep: asyncio.Future[None] | None = None  # what the task waits for while a request is served at once
        self._splitter = RequestSplitter()
        self._is_between_requests = True  # the parser has not begun a request
        self._is_flushing = False  # a response that was sent at once waits for a slow reader

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        if not self.address:
            self.address = canonical_address(peer[0]) if isinstance(peer, tuple) else "unix"
        self.is_secure = transport.get_extra_info("sslcontext") is not None
        self.opened_at = time.time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._handshake = None
        if self._messages and isinstance(raw := self._messages[0][0], RawRequest) and raw.exchange is not None:
            raw.exchange.abandon()
        super().connection_lost(exc)

    # ------------------------------------------------------------ the sign-in handshake

    @property
    def has_handshake(self) -> bool:
        """Whether a handshake waits for the client's next token on this connection."""
        return self._handshake is not None

    def keep_handshake(self, handshake: Handshake) -> None:
        """Keeps an unfinished handshake for this connection's next request."""
        self._handshake = handshake

    def take_handshake(self) -> Handshake | None:
        """Returns the unfinished handshake and forgets it, so that it is continued once or never."""
        handshake, self._handshake = self._handshake, None
        return handshake

    def count_failed_sign_in(self) -> None:
        self.failed_sign_ins += 1

    # ------------------------------------------------------------ requests, one after the other

    async def start(self) -> None:
        """Serves the requests in the order they came, until the connection ends.

        Replaces aiohttp's method, which makes a task, a writer and a full request object for each request: a sixth of
        the time of a warm request. Everything else is aiohttp's: parsed requests are in `_messages`, and
        `_handle_request` makes the responses, those to errors included.
        """
        try:
            while not self._force_close:
                if not self._messages:
                    await self._wait_for_request()
                    if self._close:
                        break
                    continue
                message, content = self._take_message()
                if not await self._serve_one(message, content) or self._close or self._force_close:
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

    async def _wait_for_request(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._is_flushing:
            await self._flush()

    def _take_message(self) -> tuple[RawRequestMessage | _ErrInfo, StreamReader]:
        message, content = self._messages.popleft()
        was_parsed = not isinstance(message, RawRequest) or message.known is None
        if self._parser is not None and was_parsed:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        return message, content

    async def _serve_one(self, message: RawRequestMessage | _ErrInfo, content: StreamReader) -> bool:
        """Serves one request. Returns whether another may follow on the connection."""
        handler: Any = self._request_handler
        if isinstance(message, _ErrInfo):
            handler = self._make_error_handler(message)
            message = ERROR
        raw = message if isinstance(message, RawRequest) else RawRequest.of_message(message, content, self)
        try:
            response, is_lost = await self._handle_request(cast(web.BaseRequest, raw), None, handler)
        except ConnectionError:
            return False
        if is_lost:
            return False
        self._keepalive = bool(response.keep_alive)
        if not content.is_eof():
            await self._read_and_forget(content)
        content.set_exception(_TOO_LATE)
        return self._keepalive

    def _await_another(self) -> None:
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    # ------------------------------------------------------------ requests that are served at once, without the task

    def data_received(self, data: bytes) -> None:
        """Reads requests; wakes the task that serves them, unless the server can serve the next one at once."""
        waiter = self._waiter
        if waiter is None or waiter.done() or self._messages:
            if data:  # aiohttp passes b"" where a body has been read
                self._is_between_requests = False
            self._receive(data)
            return
        self._waiter = None  # aiohttp would wake the task
        key, values = self._receive_plain(data)
        if self._messages and self._begin_at_once(key, values):
            self._asleep = waiter
            return
        self._waiter = waiter
        if self._messages:
            waiter.set_result(None)

    def _receive_plain(self, data: bytes) -> tuple[Key | None, Sequence[bytes]]:
        """Reads a request; returns the key by which its headers can be remembered, and their changing values.

        Where they were read before, the parser does not see the request: only between two requests, since bytes that
        it is waiting for belong to a request that it has begun.
        """
        was_between_requests = self._is_between_requests
        parts = self._splitter.split(data) if not self._close and not self._force_close else None
        key: Key | None = None
        values: Sequence[bytes] = ()
        if parts is not None and was_between_requests:
            method, path, block, values, body = parts
            key = (method, block, self.address, self.is_secure)
            known = self.server.known_heads.find(key, values)
            if known is not None:
                raw = RawRequest(self, EMPTY_PAYLOAD, method, path, HttpVersion11, known.raw_headers, keep_alive=True)
                raw.known, raw.body = known, body
                self._messages.append((cast(RawRequestMessage, raw), EMPTY_PAYLOAD))
                return None, ()
        self._receive(data)
        self._is_between_requests = self._has_one_request_of(data, parts[4] if parts is not None else b"")
        return (key, values) if self._is_between_requests else (None, ())

    def _has_one_request_of(self, data: bytes, body: bytes) -> bool:
        """Whether the parser has just made one whole request of these bytes, or of these and earlier ones.

        `body`: what follows on the head in these bytes; the parser must have taken all of it.
        """
        if len(self._messages) != 1 or self._upgraded:
            return False
        message, content = self._messages[0]
        if isinstance(message, _ErrInfo):
            return False
        if body:
            return content.is_eof() and content.exception() is None and content.total_bytes == len(body)
        return content is EMPTY_PAYLOAD and data.endswith(b"\r\n\r\n")

    def _receive(self, data: bytes) -> None:
        """Like aiohttp's method, but also wakes a reader that is waiting for the rest of a broken body."""
        super().data_received(data)
        if self._messages:
            self._notice_broken_body()

    def _begin_at_once(self, key: Key | None, values: Sequence[bytes]) -> bool:
        """Begins to serve the request that has arrived; `key`: by which its headers can be remembered."""
        message, content = self._messages[0]
        if len(self._messages) > 1 or self._upgraded or isinstance(message, _ErrInfo):
            return False
        if isinstance(message, RawRequest):
            raw = message
        else:
            raw = RawRequest.of_message(message, content, self)
            self._messages[0] = (cast(RawRequestMessage, raw), content)  # the task goes on with what has been read
            raw.key, raw.values = key, values
        if not self.server.begin(raw):
            return False
        self._request_in_progress = True
        self.begin(raw)
        return True

    @property
    def can_finish_at_once(self) -> bool:
        """Whether a response can be sent now that leaves the connection open."""
        is_open = self.transport is not None and not self.transport.is_closing() and not self._force_close
        return is_open and not self._close and not self.server.is_draining

    def wake(self) -> None:
        """Lets the task go on with the request that was begun at once."""
        waiter, self._asleep = self._asleep, None
        self._waiter = waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def finish_at_once(self) -> None:
        """Ends the request that was begun at once: its response has been sent."""
        self._take_message()
        self.end_response()
        if self._paused:
            self._is_flushing = True
            self.wake()
            return
        self._end_request()
        if self._messages:
            self.wake()
        else:
            self._waiter, self._asleep = self._asleep, None
            self._await_another()

    async def _flush(self) -> None:
        """Waits until a slow client has read the response that was sent at once: until then the request goes on."""
        with suppress(ConnectionResetError):  # then the connection is lost, and this task with it
            await self.drain()
        self._is_flushing = False
        self._end_request()
        self._await_another()

    def _end_request(self) -> None:
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)

    # ------------------------------------------------------------ the present request

    def begin(self, raw: RawRequest) -> None:
        """Makes this the request that is being served."""
        self._has_response_begun = False
        self._present_body = raw.content
        self._uploading = None
        if self._messages:
            self._notice_broken_body()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being served."""
        return not self._request_in_progress and not self._messages

    @property
    def tls_connection(self) -> ssl.SSLObject | None:
        """The TLS state of this connection; None: it has no TLS."""
        return self.transport.get_extra_info("ssl_object") if self.transport is not None else None

    def handle_error(
        self, raw: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Responds to a request that aiohttp could not parse, or after a bug in the gateway; logs none of its bytes."""
        if self._has_response_begun:
            raise ConnectionResetError("the response had begun")
        if status == 400 and not isinstance(exc, Refusal):
            return self.server.refuse(raw, refusal_for(exc))
        logger.error("a bug in the gateway ended a request", exc_info=exc)
        return self.server.broken(raw)
