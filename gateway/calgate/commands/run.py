"""`calgate run`: the gateway as a service."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import uvloop

from calgate import config, journal
from calgate.commands.options import config_option
from calgate.config import Settings
from calgate.gateway import Gateway, open_gateway
from calgate.listener import Door, bind, listen, redirect_to_https

log = logging.getLogger(__name__)


@click.command()
@config_option
def run(file: Path) -> None:
    """Runs the gateway until SIGTERM or Ctrl-C; open requests finish first.

    Exit codes: 0 stopped as asked, 1 an address, certificate, keytab or store cannot be used, 2 the file is faulty.
    """
    settings = config.read(file)
    journal.start(settings.core.log.format, settings.core.log.level)
    uvloop.run(serve(settings, _say_ready))


async def _say_ready(url: str) -> None:
    log.info("ready on %s", url)


async def serve(settings: Settings, on_ready: Callable[[str], Awaitable[None]]) -> None:
    """Runs a gateway until it is told to stop by a signal; `on_ready` gets its address once it serves."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    core = settings.core
    sockets = [bind(address, "listen.bind") for address in core.listen.bind]
    redirect = [bind(core.listen.redirect_http, "listen.redirect_http")] if core.listen.redirect_http else []
    async with open_gateway(settings) as gateway:
        door = Door(gateway.serve, gateway.refuse)
        servers = await listen(door, sockets, gateway.certificate)
        if redirect:
            public_port = next((address.port for address in core.listen.bind if address.port), 443)
            redirection = redirect_to_https(public_port)
            servers += [await loop.create_server(redirection, sock=sock) for sock in redirect]
        await on_ready(_public_url(settings))
        await stop.wait()
        await _stop(gateway, door, servers, core.listen.drain)


async def _stop(gateway: Gateway, door: Door, servers: list[asyncio.Server], within: float) -> None:
    for server in servers:
        server.close()
    for session in gateway.sessions.known():
        session.close_tunnels(1012, "the gateway is stopping")
    await door.drain(within)


def _public_url(settings: Settings) -> str:
    address = settings.core.listen.bind[0]
    return str(address) if address.path else f"{'https' if settings.core.listen.tls else 'http'}://{address}/"
