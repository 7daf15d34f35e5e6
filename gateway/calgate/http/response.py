"""Responses to the client. aiohttp's server accepts any object that has `prepare`, `write_eof` and `keep_alive`.

aiohttp's Response builds a case-insensitive map, formats it again and writes head and body separately; here the headers
are a list of raw ones, and a small response goes out in one write.
"""

from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import Protocol, cast

from aiohttp import HttpVersion11, web

from calgate.http.connection import RawRequest
from calgate.http.headers import Header
from calgate.plugin.errors import Refusal

_BODYLESS = frozenset({204, 304})
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


class ResponseBody(Protocol):
    """A body that arrives in pieces: `read` returns the next, b"" at its end; `close` gives up the rest."""

    length: int | None

    async def read(self) -> bytes: ...
    def take_whole(self) -> bytes | None: ...
    def close(self) -> None: ...


class Response:
    """A status, raw headers (without framing), and a body: bytes, or a stream."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_is_head",
        "body",
        "body_stream",
        "headers",
        "keep_alive",
        "reason",
        "status",
    )

    def __init__(
        self,
        status: int,
        headers: list[Header],
        body: bytes = b"",
        *,
        reason: bytes = b"",
        body_stream: ResponseBody | None = None,
        keep_alive: bool = True,
    ) -> None:
        self.status = status
        self.reason = reason or _PHRASES.get(status, b"")
        self.headers = headers
        self.body = body
        self.body_stream = body_stream
        self.keep_alive = keep_alive
        self._chunked = False

    def as_response(self) -> web.StreamResponse:
        """Returns this response as the type that aiohttp's handlers are declared with."""
        return cast(web.StreamResponse, self)

    async def prepare(self, raw: RawRequest) -> None:
        """Begins the response; aiohttp awaits it."""
        self.begin(raw)

    def begin(self, raw: RawRequest) -> None:
        """Sends the head, and with it the body where all of it has arrived."""
        connection = self._connection = raw.connection
        connection.begin_response()
        self._is_head = is_head = raw.method == "HEAD"
        stream = self.body_stream
        whole = self.body if stream is None else stream.take_whole()
        has_body = not is_head and self.status not in _BODYLESS
        if whole is not None and has_body and self.keep_alive and raw.keep_alive and raw.version is HttpVersion11:
            self.body_stream = None
            connection.send(b"%b\r\nContent-Length: %d\r\n\r\n" % (self._status_and_headers(), len(whole)), whole)
            return
        length: int | None = len(self.body)
        if stream is not None:
            length = stream.length if whole is None or is_head else len(whole)
        if length is None and has_body:
            self._chunked = raw.version >= HttpVersion11
            self.keep_alive = self.keep_alive and self._chunked
        self.keep_alive = self.keep_alive and raw.keep_alive
        head = self._head(length if self.status not in _BODYLESS else None, http_1_0=raw.version < HttpVersion11)
        if whole is None:
            self._begin(head)
            return
        self.body_stream = None
        self._chunked = False
        self._connection.send(head, whole if has_body else b"")

    def _begin(self, head: bytes) -> None:
        """Sends the head of a streamed body; closes the stream where the client has disconnected."""
        try:
            self._connection.send(head)
        except ConnectionResetError:
            if self.body_stream is not None:
                self.body_stream.close()
            raise

    def _status_and_headers(self) -> bytes:
        return b"\r\n".join((b"HTTP/1.1 %d %b" % (self.status, self.reason), *map(b": ".join, self.headers)))

    def _head(self, length: int | None, *, http_1_0: bool) -> bytes:
        lines = [self._status_and_headers()]
        if length is not None:
            lines.append(b"Content-Length: %d" % length)
        elif self._chunked:
            lines.append(b"Transfer-Encoding: chunked")
        if not self.keep_alive:
            lines.append(b"Connection: close")
        elif http_1_0:
            lines.append(b"Connection: keep-alive")
        lines.append(b"\r\n")
        return b"\r\n".join(lines)

    async def write_eof(self) -> None:
        """Streams the rest. A body that is cut short resets the connection, so that it cannot pass for a whole one."""
        connection = self._connection
        body_stream = self.body_stream
        if body_stream is not None:
            try:
                await self._stream(body_stream)
            except Refusal as error:
                connection.abort()
                raise ConnectionResetError(error.detail) from error
            except BaseException:
                body_stream.close()
                raise
        await connection.drain()
        connection.end_response()

    async def _stream(self, body_stream: ResponseBody) -> None:
        connection = self._connection
        if self._is_head or self.status in _BODYLESS:
            body_stream.close()
            return
        while piece := await body_stream.read():
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)
            await connection.drain()
        if self._chunked:
            connection.send(b"0\r\n\r\n")


_date: tuple[int, bytes] = (0, b"")


def date() -> bytes:
    """Returns the present time as a Date header has it (RFC 9110, 5.6.7); formatted once a second."""
    global _date
    second = int(time())
    if _date[0] != second:
        _date = (second, formatdate(second, usegmt=True).encode())
    return _date[1]
