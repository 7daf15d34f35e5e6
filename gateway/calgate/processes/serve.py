"""Serves in one process: a gateway and its listeners, until it is stopped."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from calgate.app import Gateway, open_gateway
from calgate.config.model import Settings
from calgate.http.server import Listener, redirect_to_https
from calgate.processes.sockets import Role

_RULES_WITHIN = 5.0  # seconds: the gateway also starts when the directory is unreachable

OnReady = Callable[[Gateway], Awaitable[None]]


async def serve(
    settings: Settings, sockets: Sequence[tuple[Role, socket.socket]], on_ready: OnReady, stop: asyncio.Event
) -> None:
    """Serves until `stop` is set; then open requests have `listen.drain` to finish."""
    listen = settings.core.listen
    async with open_gateway(settings) as gateway:
        # at a reload the old workers still serve: a new one should not begin with 503s
        await gateway.rules.wait(_RULES_WITHIN)
        listeners = [_listener(role, sock, settings, gateway) for role, sock in sockets]
        for listener in listeners:
            await listener.start()
        await on_ready(gateway)
        await stop.wait()
        for listener in listeners:
            await listener.close()
        for session in gateway.sessions.known():
            session.close_websockets(1012, "the gateway is stopping")
        await gateway.server.drain(listen.drain)


def _listener(role: Role, sock: socket.socket, settings: Settings, gateway: Gateway) -> Listener:
    listen = settings.core.listen
    if role == "redirect":
        return Listener(redirect_to_https(public_port(settings)), sock, None)
    trusted = listen.trusted_proxies if listen.proxy_protocol else None
    return Listener(gateway.server, sock, gateway.certificates, trusted)


def public_port(settings: Settings) -> int:
    """Returns the port of the https address, as far as this machine knows it."""
    return next((address.port for address in settings.core.listen.bind if address.port), 443)


def public_url(settings: Settings) -> str:
    """Returns the gateway's address, for the log and for the person who starts it."""
    address = settings.core.listen.bind[0]
    return str(address) if address.path else f"{'https' if settings.core.listen.tls else 'http'}://{address}/"
