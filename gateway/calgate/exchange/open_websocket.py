"""A WebSocket that its session can end."""

from calgate.pages import words_for
from calgate.plugin.errors import Refusal
from calgate.plugin.licensing import Lease
from calgate.upstream.websocket import WebSocketTunnel


class OpenWebSocket:
    """Ends the WebSocket with its session or CAL: with a Close frame (RFC 6455, section 7.4)."""

    outlives_expiry = False

    def __init__(self, tunnel: WebSocketTunnel, lease: Lease | None) -> None:
        self.lease = lease
        self._tunnel = tunnel

    def close(self, code: int, reason: str) -> None:
        self._tunnel.close(code, reason)

    def end(self, refusal: Refusal, reason: str) -> None:
        self.close(1008, reason)

    def refuse(self, refusal: Refusal) -> None:
        self.close(1008, words_for(refusal).title)
