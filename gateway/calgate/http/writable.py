"""How the bytes of responses are sent on a client's connection, and how it is closed.

A client that reads too slowly holds its response up, and one that reads nothing is disconnected.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

_COPIED = 16_384  # bytes up to which joining two pieces is cheaper than writing both
_RESET = struct.pack("ii", 1, 0)  # linger on, 0 s: uvloop's abort alone ends the connection with FIN, not RST
_SLOW_READER = 120.0  # seconds in which a client must read something, or its connection is closed


class WritableConnection(web.RequestHandler):
    """The writing half of a client's connection."""

    __slots__ = ("_has_response_begun", "_on_backpressure")

    def __init__(self, server: web.Server, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._has_response_begun = False  # bytes of a response to the present request were sent
        self._on_backpressure: Callable[[bool], None] | None = None

    def begin_response(self) -> None:
        """Notes that bytes of the response are sent from now on: an error can only end the connection."""
        self._has_response_begun = True

    def end_response(self) -> None:
        """Notes that the response is complete: malformed bytes that follow get a response of their own."""
        self._has_response_begun = False

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._on_backpressure is not None:
            self._on_backpressure(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._on_backpressure is not None:
            self._on_backpressure(False)

    def watch_backpressure(self, handler: Callable[[bool], None] | None) -> None:
        """Calls `handler` with True when the client reads too slowly, and with False when it has caught up."""
        self._on_backpressure = handler

    def send(self, data: bytes, more: bytes = b"") -> None:
        """Sends bytes to the client in one write. Raises ConnectionResetError if it has disconnected."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has disconnected")
        if len(more) < _COPIED:
            transport.write(data + more)
        else:
            transport.writelines((data, more))

    async def drain(self) -> None:
        """Waits while the client reads too slowly. Raises ConnectionResetError if it reads nothing for long."""
        while self._paused:
            waiting = self._unsent
            try:
                async with asyncio.timeout(_SLOW_READER):
                    await self._drain_helper()
            except TimeoutError as error:
                if self._unsent >= waiting:
                    self.abort()
                    raise ConnectionResetError("the client reads nothing") from error
                self._drain_waiter = None  # aiohttp keeps the future that the timeout cancelled

    @property
    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def force_close(self) -> None:
        """Like aiohttp's, but resets the connection in the middle of a response.

        A clean close there would make the response look complete in HTTP/1.0.
        """
        if self._has_response_begun:
            self.abort()
        elif self.transport is not None:
            close_in_time(self.transport)
        super().force_close()

    def abort(self) -> None:
        """Resets the connection, so that the client knows that the response is incomplete."""
        if self.transport is None:
            return
        sock = self.transport.get_extra_info("socket")  # None: TLS reports a lost connection with a delay
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


def close_in_time(transport: asyncio.Transport) -> None:
    """Closes a connection; aborts it later if the peer never reads what is still to be sent."""
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(_SLOW_READER, transport.abort)
    transport.close()
