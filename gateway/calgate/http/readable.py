"""How headers and bodies of requests are read on a client's connection, and how the rest of a body is discarded."""

import asyncio
from contextlib import suppress
from typing import Any, Protocol, cast

from aiohttp import StreamReader, web
from aiohttp.web_protocol import _ErrInfo

from calgate.http.headers import Header, RequestHeaderFilter, RequestHeaders
from calgate.http.writable import WritableConnection

_REMEMBERED = 4096  # bytes of headers that a connection keeps for its next request; it may be idle for long


class Reader(Protocol):
    """Reads a connection after an upgrade."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]: ...
    def feed_eof(self) -> None: ...


class ReadableConnection(WritableConnection):
    """The reading half of a client's connection."""

    __slots__ = ("_last_headers", "_last_raw_headers", "_present_body", "_uploading")

    def __init__(self, server: web.Server, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._last_raw_headers: tuple[Header, ...] = ()
        self._last_headers: RequestHeaders | None = None
        self._present_body: StreamReader | None = None  # of the present request, until its response is complete
        self._uploading: asyncio.Task[Any] | None = None  # the task that reads that body

    def sorted_headers(self, raw_headers: tuple[Header, ...], header_filter: RequestHeaderFilter) -> RequestHeaders:
        """Returns the request's headers, sorted; equal headers of the previous request are not sorted again.

        A page that polls sends the very same headers each time. The result is shared, so it is never changed. Raises
        what `RequestHeaderFilter.sort` raises.
        """
        if self._last_headers is not None and raw_headers == self._last_raw_headers:
            return self._last_headers
        headers = header_filter.sort(raw_headers, self._last_headers)
        is_small = headers.size <= _REMEMBERED
        self._last_raw_headers, self._last_headers = (raw_headers, headers) if is_small else ((), None)
        return headers

    def begin_upload(self) -> None:
        """Notes that the calling task reads the present request's body from now on."""
        self._uploading = asyncio.current_task()

    def end_upload(self) -> None:
        self._uploading = None

    def upgrade(self, reader: Reader) -> None:
        """Gives the connection's bytes to `reader` from now on, those that came early first: it ceases to be HTTP.

        Uses a private hook of aiohttp's (for its WebSocket reader), so the version is pinned and a test covers it.
        """
        self.set_parser(cast(Any, reader))

    async def _read_and_forget(self, content: StreamReader) -> None:
        """Discards the rest of a body; closes the connection of a client that does not finish sending it in time."""
        if self._uploading is not None and self._uploading is not asyncio.current_task():
            self._uploading.cancel()  # the response came before the end of the upload, and a body has one reader
            await asyncio.wait({self._uploading})
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lingering_time):
                while not self._force_close and not content.is_eof():
                    await content.readany()
        if not content.is_eof():
            self.close()

    def _notice_broken_body(self) -> None:
        """Ends the last request's body with an error where it was not complete: the malformed bytes belong to it."""
        if not isinstance(self._messages[-1][0], _ErrInfo):
            return
        body = self._messages[-2][1] if len(self._messages) > 1 else self._present_body
        if body is not None and not body.is_eof():
            body.set_exception(web.RequestPayloadError("the body's framing is broken"))
            body.feed_eof()  # there is nothing to discard before the connection closes
