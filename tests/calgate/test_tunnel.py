"""A WebSocket's way through the gateway."""

from types import SimpleNamespace
from typing import cast

from calgate.caller import Caller
from calgate.tunnel import Tunnel


async def test_nothing_comes_after_the_close_frame_though_the_server_goes_on_talking() -> None:
    sent: list[bytes] = []
    tunnel = Tunnel(cast(Caller, SimpleNamespace(send=sent.append)), lambda: None, 60)
    tunnel.data_received(b"\x81\x05hel")
    tunnel.close(1008, "over")
    for words in (b"lo\x81\x05never", b"\x81\x05never"):
        tunnel.data_received(words)
    assert sent == [b"\x81\x05hel", b"lo", b"\x88\x06\x03\xf0over"]
