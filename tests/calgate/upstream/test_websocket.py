"""A WebSocket's way through the gateway."""

from types import SimpleNamespace
from typing import cast

from calgate.http.connection import ClientConnection
from calgate.upstream.websocket import WebSocketTunnel


async def test_tunnel_sends_nothing_after_its_close_frame() -> None:
    sent: list[bytes] = []
    tunnel = WebSocketTunnel(cast(ClientConnection, SimpleNamespace(send=sent.append)), lambda: None, 60)
    tunnel.data_received(b"\x81\x05hel")
    tunnel.close(1008, "over")
    for words in (b"lo\x81\x05never", b"\x81\x05never"):
        tunnel.data_received(words)
    assert sent == [b"\x81\x05hel", b"lo", b"\x88\x06\x03\xf0over"]
