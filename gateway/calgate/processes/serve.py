"""Serves in one process: a gateway and its listeners, until it is stopped."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence

from calgate.app import Gateway, open_gateway
from calgate.config.model import Settings
from calgate.http.listener import Listener
from calgate.http.redirect import redirect_to_https
from calgate.processes.sockets import Role

_RULES_WITHIN = 5.0  # seconds: the gateway also starts when the directory is unreachable

WAS_READY = "CALGATE_WAS_READY"
"""Set in the environment once the service has been ready, also before a reload or an upgrade."""

OnReady = Callable[[Gateway], Awaitable[None]]


async def at_once() -> None:
    """Waits for nothing: a gateway of one process may listen as soon as it has started."""


async def serve(
    settings: Settings,
    sockets: Sequence[tuple[Role, socket.socket]],
    on_ready: OnReady,
    stop: asyncio.Event,
    may_listen: Callable[[], Awaitable[None]] = at_once,
) -> None:
    """Serves until `stop` is set; then open requests have `listen.drain` to finish.

    Once everything has started it waits for `may_listen`, and only then listens and changes what gateways share.
    """
    listen = settings.core.listen
    async with open_gateway(settings) as gateway:
        gateway.was_ready = WAS_READY in os.environ
        # at a reload the old workers still serve: a new one should not begin with 503s
        await gateway.rules.wait(_RULES_WITHIN)
        listeners = [_listener(role, sock, settings, gateway) for role, sock in sockets]
        await may_listen()
        if stop.is_set():
            return  # another worker could not start
        await gateway.activate()
        for listener in listeners:
            await listener.start()
        await on_ready(gateway)
        await stop.wait()
        for listener in listeners:
            await listener.close()
        for session in gateway.sessions.known():
            session.close_websockets(1012, "the gateway is stopping")
        await asyncio.gather(*(server.drain(listen.drain) for server in (gateway.server, gateway.console_server)))


def _listener(role: Role, sock: socket.socket, settings: Settings, gateway: Gateway) -> Listener:
    listen = settings.core.listen
    if role == "redirect":
        return Listener(redirect_to_https(listen, public_port(settings)), sock, None)
    trusted = listen.trusted_proxies if listen.proxy_protocol else None
    return Listener(
        gateway.console_server if role == "console" else gateway.server, sock, gateway.certificates, trusted
    )


def public_port(settings: Settings) -> int:
    """Returns the port of the https address, as far as this machine knows it."""
    return next((address.port for address in settings.core.listen.bind if address.port), 443)


def console_url(settings: Settings) -> str:
    """Returns the console's address as far as this machine knows it; "" without a console."""
    console = settings.core.console
    if console is None:
        return ""
    scheme = "https" if settings.core.listen.tls else "http"
    if console.bind is not None:
        return f"{scheme}://{console.bind}/"
    port = settings.core.listen.bind[0].port
    return f"{scheme}://{console.host}{f':{port}' if port not in (80, 443) else ''}/"


def public_url(settings: Settings) -> str:
    """Returns the gateway's address, for the log and for the person who starts it."""
    address = settings.core.listen.bind[0]
    return str(address) if address.path else f"{'https' if settings.core.listen.tls else 'http'}://{address}/"
