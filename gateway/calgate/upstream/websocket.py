"""WebSockets: forwards bytes both ways after the upgrade, and keeps track of frame boundaries.

Frames are not decoded: extensions are negotiated end to end, and pings pass through. The boundaries are tracked so that
the gateway can insert a Close frame between two frames when the session or the lease ends (RFC 6455, 5.5.1).
"""

import asyncio
import struct
from collections.abc import Callable

from calgate.http.connection import ClientConnection
from calgate.http.writable import close_in_time
from calgate.plugin.tasks import start_task
from calgate.upstream.connection import UpstreamConnection

_CLOSE = 0x88  # FIN and opcode 8
_CONTROL = 0x08  # the bit that is set in opcodes of control frames
_GONE = 1001  # "going away" (RFC 6455, 7.4.1)
_CLOSE_PATIENCE = 2.0  # seconds until the end of an unfinished frame, before the connection is closed without a Close


class FrameBoundaries:
    """Tracks the frames in a stream of bytes, and whether one has just ended (RFC 6455, section 5.2)."""

    __slots__ = ("_head", "_left", "data_frames")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self.data_frames = 0  # begun so far, without ping, pong and close (section 5.5)

    @property
    def between_frames(self) -> bool:
        return not self._head and not self._left

    def feed(self, data: bytes) -> int:
        """Consumes `data`. Returns the offset just past the first frame that ends in it, or 0."""
        position = edge = 0
        while position < len(data):
            if self._left:
                taken = min(self._left, len(data) - position)
                self._left -= taken
                position += taken
                if not self._left:
                    edge = edge or position
                continue
            need = _head_length(self._head) - len(self._head)
            self._head += data[position : position + need]
            position += min(need, len(data) - position)
            if len(self._head) == _head_length(self._head):
                self._left = _payload_length(self._head)
                self.data_frames += not self._head[0] & _CONTROL
                self._head = b""
                if not self._left:
                    edge = edge or position
        return edge


def _head_length(head: bytes) -> int:
    if len(head) < 2:
        return 2
    size = head[1] & 0x7F
    return 2 + (8 if size == 127 else 2 if size == 126 else 0) + (4 if head[1] & 0x80 else 0)


def _payload_length(head: bytes) -> int:
    size = head[1] & 0x7F
    if size == 126:
        return int(struct.unpack_from(">H", head, 2)[0])
    if size == 127:
        return int(struct.unpack_from(">Q", head, 2)[0])
    return size


class WebSocketTunnel(asyncio.Protocol):
    """One WebSocket through the gateway: the protocol of the upstream connection, which feeds the client connection."""

    def __init__(self, connection: ClientConnection, on_use: Callable[[], None], idle: float) -> None:
        """`on_use` is called when the browser sends data, not pings; `idle`: seconds without a byte until the end."""
        self._connection = connection
        self._on_use = on_use
        self._idle = idle
        self._last_byte_at = 0.0
        self._upstream: asyncio.Transport | None = None
        self._from_upstream, self._from_client = FrameBoundaries(), FrameBoundaries()
        self._closing: bytes | None = None
        self._ended = asyncio.get_running_loop().create_future()

    async def run(self, upstream_connection: UpstreamConnection, head: bytes) -> None:
        """Sends the head of the 101 and forwards bytes until one side closes, then closes the other.

        Raises BadGateway, before anything is sent, where the document server has closed already.
        """
        early = upstream_connection.after_upgrade
        self._upstream = upstream_connection.hand_over(self)
        self._connection.watch_backpressure(self._pause_upstream)
        watching = start_task(self._close_when_idle(), "WebSocket: idle timeout")
        try:
            self._connection.send(head)
            if early:
                self.data_received(early)
            self._connection.upgrade(ClientReader(self))
            await self._ended
        finally:
            watching.cancel()
            self._connection.watch_backpressure(None)
            close_in_time(self._upstream)

    async def _close_when_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._last_byte_at = loop.time()
        left = self._idle
        while left > 0:
            await asyncio.sleep(left)
            left = self._last_byte_at + self._idle - loop.time()
        self.close(_GONE, f"idle for {self._idle:g} s")

    def _pause_upstream(self, paused: bool) -> None:
        """Stops reading from the document server while the client reads too slowly."""
        if self._upstream is not None and not self._upstream.is_closing():
            self._upstream.pause_reading() if paused else self._upstream.resume_reading()

    # ------------------------------------------------------------ from the document server to the client

    def data_received(self, data: bytes) -> None:
        if self._ended.done():
            return  # nothing follows a Close frame
        self._last_byte_at = asyncio.get_running_loop().time()
        edge = self._from_upstream.feed(data)
        if self._closing is not None:
            if not edge:
                self._send_to_client(data)
                return
            self._send_to_client(data[:edge])
            self._send_close()
            return
        self._send_to_client(data)

    def _send_to_client(self, data: bytes) -> None:
        try:
            self._connection.send(data)
        except ConnectionResetError:
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()

    def pause_writing(self) -> None:
        self._connection.pause_reading()

    def resume_writing(self) -> None:
        self._connection.resume_reading(resume_parser=False)

    # ------------------------------------------------------------ from the client to the document server

    def client_data_received(self, data: bytes) -> None:
        """Forwards bytes from the browser."""
        if self._upstream is not None and not self._upstream.is_closing() and self._closing is None:
            self._upstream.write(data)
            self._last_byte_at = asyncio.get_running_loop().time()
            before = self._from_client.data_frames
            self._from_client.feed(data)
            if self._from_client.data_frames > before:
                self._on_use()

    # ------------------------------------------------------------ the end

    def close(self, code: int, reason: str) -> None:
        """Sends a Close frame between two frames of the document server's, then ends."""
        if self._closing is not None or self._ended.done():
            return
        payload = struct.pack(">H", code) + reason.encode()[:120]
        self._closing = bytes([_CLOSE, len(payload)]) + payload
        asyncio.get_running_loop().call_later(_CLOSE_PATIENCE, self.end)
        if self._from_upstream.between_frames:
            self._send_close()

    def _send_close(self) -> None:
        assert self._closing is not None
        self._send_to_client(self._closing)
        self.end()

    def end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


class ClientReader:
    """Takes the place of aiohttp's WebSocket reader: gets the client's bytes after the upgrade."""

    def __init__(self, tunnel: WebSocketTunnel) -> None:
        self._tunnel = tunnel

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._tunnel.client_data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        self._tunnel.end()
