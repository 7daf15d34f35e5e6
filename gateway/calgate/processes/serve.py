"""One process's serving: a gateway, its door, and the sockets that it answers on, until it is told to stop."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from calgate.app import Gateway, open_gateway
from calgate.config.model import Settings
from calgate.http.server import Listener, redirect_to_https
from calgate.processes.sockets import Role

_RULES_WITHIN = 5.0  # seconds; a directory that is away is no reason not to come up

OnReady = Callable[[Gateway], Awaitable[None]]


async def serve(
    settings: Settings, sockets: Sequence[tuple[Role, socket.socket]], on_ready: OnReady, stop: asyncio.Event
) -> None:
    """Serves until `stop`; then open requests finish, within `listen.drain`."""
    listen = settings.core.listen
    async with open_gateway(settings) as gateway:
        # at a reload the old workers still answer: who takes over should not begin with a 503
        await gateway.rules.wait(_RULES_WITHIN)
        listeners = [_listener(role, sock, settings, gateway) for role, sock in sockets]
        for listener in listeners:
            await listener.start()
        await on_ready(gateway)
        await stop.wait()
        for listener in listeners:
            await listener.close()
        for session in gateway.sessions.known():
            session.close_tunnels(1012, "the gateway is stopping")
        await gateway.server.drain(listen.drain)


def _listener(role: Role, sock: socket.socket, settings: Settings, gateway: Gateway) -> Listener:
    listen = settings.core.listen
    if role == "redirect":
        return Listener(redirect_to_https(public_port(settings)), sock, None)
    trusted = listen.trusted_proxies if listen.proxy_protocol else None
    return Listener(gateway.server, sock, gateway.certificates, trusted)


def public_port(settings: Settings) -> int:
    """The port of the https address, as far as this machine knows it."""
    return next((address.port for address in settings.core.listen.bind if address.port), 443)


def public_url(settings: Settings) -> str:
    """The gateway's address for people who start it."""
    address = settings.core.listen.bind[0]
    return str(address) if address.path else f"{'https' if settings.core.listen.tls else 'http'}://{address}/"
