"""`calgate demo`: the whole gateway in front of a demonstration document server."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import click
import uvloop

from calgate import config
from calgate import demo as demonstration
from calgate.app import Gateway
from calgate.commands.context import open_services
from calgate.http.settings import Address, read_address
from calgate.plugin.errors import ConfigError
from calgate.plugin.tasks import start_task
from calgate.processes.console_process import ConsoleProcess
from calgate.processes.serve import console_url, public_url, serve
from calgate.processes.sockets import Role
from calgate.processes.sockets import bind as bind_socket
from calgate.telemetry import log


@click.command()
@click.option("--bind", default="127.0.0.1:8080", show_default=True, help="ADDRESS:PORT to listen on.")
@click.option("--busy", is_flag=True, help="Plays people, so that the console and the report have something to show.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="The folder for its files.")
def demo(bind: str, busy: bool, folder: Path | None) -> None:
    """Starts the gateway with a demonstration document server and prints what to try. Ctrl-C stops both."""
    try:
        address = read_address(bind)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--bind") from error
    bind_socket(
        address, "--bind"
    ).close()  # fails before it touches the files of a demonstration that runs there already
    uvloop.run(_show(str(address), str(_beside(address)), folder or _own_folder(address.port), is_busy=busy))


def _beside(address: Address) -> Address:
    """Returns a free address for the console on the same host."""
    host = address.host or "127.0.0.1"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return Address(host, probe.getsockname()[1])


def _own_folder(port: int) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "calgate" / f"demo-{port}"


async def _show(bind: str, console: str, folder: Path, *, is_busy: bool) -> None:
    async with demonstration.serve() as upstream:
        try:
            file = demonstration.prepare(folder, bind, upstream, console, is_busy=is_busy)
        except OSError as error:
            raise ConfigError([f"--folder {folder}: {error.strerror}: {error.filename}"], code=1) from error
        settings = config.read(file)
        log.start("console", "warning", settings.loggers)
        async with open_services(settings) as (store, _):
            await store.redis.flushall()  # every demonstration starts empty, and remembers no other
            for noted in settings.core.state_dir.glob("*.json"):
                noted.unlink()

        url = public_url(settings)
        process = ConsoleProcess()

        async def explain(gateway: Gateway) -> None:
            for person in demonstration.PEOPLE:
                if person.owns_cal:
                    await _assign(file, f"DEMO\\{person.account}")
            tries = demonstration.things_to_try(url.rstrip("/"), file, console_url(settings), is_busy=is_busy)
            click.echo("\n".join(tries))
            click.echo(f"\nCtrl-C ends everything.\n\nready {url}")
            process.use(settings)
            if is_busy:
                played.append(start_task(demonstration.play(url.rstrip("/")), "demo: a busy morning"))

        played: list[asyncio.Task[None]] = []
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        sockets: list[tuple[Role, socket.socket]] = [
            ("main", bind_socket(settings.core.listen.bind[0], "--bind")),
            ("console", bind_socket(read_address(console), "console.bind")),
        ]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_close_at_stop(process, stop))
            try:
                await serve(settings, sockets, explain, stop)
            finally:
                stop.set()
                for one in played:
                    one.cancel()


async def _close_at_stop(process: ConsoleProcess, stop: asyncio.Event) -> None:
    """Ends the console while open requests finish."""
    await stop.wait()
    await process.close()


async def _assign(file: Path, user: str) -> None:
    """Assigns a CAL as an administrator would: by a command, while the gateway runs."""
    words = ("-P", "-m", "calgate", "cals", "assign", user, "--license", "demo", "-c", str(file))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise ConfigError([f"calgate {' '.join(words[3:])}: {output.decode().strip()}"], code=1)
