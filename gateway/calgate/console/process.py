"""`calgate console-process`: the console's own process, so that a report over a year never delays a user's request."""

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import click
from aiohttp import web

from calgate import config
from calgate.commands.context import open_services
from calgate.commands.site import SettingsSite
from calgate.console.screens import screens_of
from calgate.console.server import ConsoleServer
from calgate.endpoints.console_socket import listen
from calgate.plugin.options import config_option
from calgate.processes.lent_settings import borrow
from calgate.telemetry import log

logger = logging.getLogger(__name__)

_DRAIN = 2.0  # seconds that open requests have at the end
_NICE = 5  # users' requests come first where processors are few
_SWITCH = 0.0005  # seconds after which a screen gets its turn while a thread replays a year; Python has 5 ms


@click.command("console-process", hidden=True)
@config_option
@click.option("--settings", "lent_settings", type=int, required=True, help="Descriptor lent by the parent.")
def console_process(file: Path, lent_settings: int) -> None:
    """Serves the administrators' console to the workers of one gateway; its parent starts it."""
    settings = config.parse(file, borrow(lent_settings))
    section = settings.core.log
    log.start(section.format, section.level, settings.loggers)
    os.nice(_NICE)
    sys.setswitchinterval(_SWITCH)
    asyncio.run(_serve(settings))


async def _serve(settings: config.Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):  # a terminal sends them to all; the parent acts
        loop.add_signal_handler(ignored, lambda: None)
    await loop.connect_read_pipe(lambda: _Lifeline(stop), sys.stdin)
    async with AsyncExitStack() as stack:
        store, plugins = await stack.enter_async_context(open_services(settings))
        logging.getLogger("calgate").setLevel(settings.core.log.level.upper())  # which commands lower to errors
        site = SettingsSite(settings.core, plugins.directory)
        server = ConsoleServer(screens_of(settings, store, plugins, site), site.zone, settings.core.timezone)
        runner = web.ServerRunner(web.Server(server.respond, access_log=None), shutdown_timeout=_DRAIN)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listen(settings.core.state_dir)).start()
        logger.debug("console: serves the workers")
        await stop.wait()


class _Lifeline(asyncio.Protocol):
    """The pipe from the parent: it closes when the parent ends, or replaces its program."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop.set()
