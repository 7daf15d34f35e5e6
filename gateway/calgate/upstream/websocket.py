"""WebSockets: bytes both ways after the upgrade, with an eye on frame boundaries and nothing else.

Frames are not opened: extensions were agreed end to end, pings are the two ends' own. The boundaries are followed so
that the gateway can put a Close frame of its own between two frames when the session or the lease ends (RFC 6455,
5.5.1).
"""

import asyncio
import struct
from collections.abc import Callable

from calgate.http.connection import ClientConnection, close_in_time
from calgate.upstream.connection import UpstreamConnection

_CLOSE = 0x88  # FIN and opcode 8
_CONTROL = 0x08  # the bit that opcodes of control frames have
_GONE = 1001  # "going away" (RFC 6455, 7.4.1)
_CLOSE_PATIENCE = 2.0  # seconds that the ends have to close after a Close frame


class FrameBoundaries:
    """Counts its way through a stream of frames; knows whether it stands between two (RFC 6455, section 5.2)."""

    __slots__ = ("_head", "_left", "data_frames")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self.data_frames = 0  # begun so far: those that are no ping, pong or close (section 5.5)

    @property
    def between_frames(self) -> bool:
        return not self._head and not self._left

    def feed(self, data: bytes) -> int:
        """Takes bytes in; answers the offset behind the first frame that ended in them, 0 where none did."""
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
    """One WebSocket through the gateway: this is the far end's protocol, and feeds the near end's connection."""

    def __init__(self, connection: ClientConnection, on_use: Callable[[], None], idle: float) -> None:
        """`on_use`: told when the browser sends data, not pings; `idle`: seconds without a byte until it is closed."""
        self._connection = connection
        self._on_use = on_use
        self._idle = idle
        self._heard = 0.0
        self._upstream: asyncio.Transport | None = None
        self._down, self._up = FrameBoundaries(), FrameBoundaries()
        self._closing: bytes | None = None
        self._ended = asyncio.get_running_loop().create_future()

    async def run(self, upstream_connection: UpstreamConnection, head: bytes) -> None:
        """Sends the head of the 101, then carries bytes until one end closes; then closes the other.

        Raises BadGateway, before anything was sent, where the far end is gone already.
        """
        early = upstream_connection.after_upgrade
        self._upstream = upstream_connection.hand_over(self)
        self._connection.on_backpressure = self._near_is_full
        watching = asyncio.create_task(self._watch_silence())
        try:
            self._connection.send(head)
            if early:
                self.data_received(early)
            self._connection.take_over(ClientReader(self))
            await self._ended
        finally:
            watching.cancel()
            self._connection.on_backpressure = None
            close_in_time(self._upstream)

    async def _watch_silence(self) -> None:
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        left = self._idle
        while left > 0:
            await asyncio.sleep(left)
            left = self._heard + self._idle - loop.time()
        self.close(_GONE, f"nothing was said for {self._idle:g} s")

    def _near_is_full(self, full: bool) -> None:
        """Holds the far end back while the near one reads slowly."""
        if self._upstream is not None and not self._upstream.is_closing():
            self._upstream.pause_reading() if full else self._upstream.resume_reading()

    # ------------------------------------------------------------ from the far end to the near one

    def data_received(self, data: bytes) -> None:
        if self._ended.done():
            return  # nothing comes after a Close frame
        self._heard = asyncio.get_running_loop().time()
        edge = self._down.feed(data)
        if self._closing is not None:
            if not edge:
                self._send_down(data)
                return
            self._send_down(data[:edge])
            self._say_close()
            return
        self._send_down(data)

    def _send_down(self, data: bytes) -> None:
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

    # ------------------------------------------------------------ from the near end to the far one

    def from_near(self, data: bytes) -> None:
        """Bytes from the browser."""
        if self._upstream is not None and not self._upstream.is_closing() and self._closing is None:
            self._upstream.write(data)
            self._heard = asyncio.get_running_loop().time()
            before = self._up.data_frames
            self._up.feed(data)
            if self._up.data_frames > before:
                self._on_use()

    # ------------------------------------------------------------ the end

    def close(self, code: int, reason: str) -> None:
        """Sends a Close frame between two frames of the far end's, then ends."""
        if self._closing is not None or self._ended.done():
            return
        payload = struct.pack(">H", code) + reason.encode()[:120]
        self._closing = bytes([_CLOSE, len(payload)]) + payload
        asyncio.get_running_loop().call_later(_CLOSE_PATIENCE, self.end)
        if self._down.between_frames:
            self._say_close()

    def _say_close(self) -> None:
        assert self._closing is not None
        self._send_down(self._closing)
        self.end()

    def end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


class ClientReader:
    """What aiohttp feeds once the connection is no longer HTTP: its place for a WebSocket reader."""

    def __init__(self, tunnel: WebSocketTunnel) -> None:
        self._tunnel = tunnel

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._tunnel.from_near(data)
        return False, b""

    def feed_eof(self) -> None:
        self._tunnel.end()
