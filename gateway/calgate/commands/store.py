"""`calgate store move`: takes a site's data from one store to another."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import click
from redis.exceptions import RedisError
from rich.table import Table

from calgate import config
from calgate.config.model import Core
from calgate.plugin.errors import ConfigError
from calgate.plugin.options import config_option, console
from calgate.store import EmbeddedFaultError, NoServerError
from calgate.store.client import Client, connector
from calgate.store.embedded import private_server
from calgate.store.move import Inventory, MoveError, copy, take_inventory


@click.group()
def store() -> None:
    """The store of sessions and CALs."""


@store.command()
@config_option
@click.option(
    "--to",
    "new",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A settings file whose [store] names the new store; the rest of it does not matter.",
)
@click.option("--apply", is_flag=True, help="Copy; without this, only show what would be copied.")
@click.option("--restart", is_flag=True, help="Delete what an interrupted move left in the new store, and begin again.")
def move(file: Path, new: Path, apply: bool, restart: bool) -> None:
    """Copies CALs, records, sessions and everything else to another store, and compares both sides.

    Between the private store, Redis, Valkey, Sentinel and Cluster, in any direction. All gateways must be stopped, and
    the new store must have no keys of this site. The old store keeps its data; never run gateways on both. No gateway
    works on a store that an interrupted move has left incomplete.
    """
    old_core, new_core = config.read(file).core, config.read(new).core
    faults = _faults(old_core, new_core, new)
    if faults:
        raise ConfigError(faults, code=1)
    try:
        found = asyncio.run(_move(old_core, new_core, apply=apply, restart=restart))
    except (MoveError, EmbeddedFaultError, NoServerError) as error:
        raise ConfigError([f"store move: {error}"], code=1) from error
    except (RedisError, OSError) as error:
        raise ConfigError(
            [f"store move: a store does not respond as it should, nothing was moved: {error}"], 1
        ) from error
    _print(found, old_core.store.prefix)
    if apply:
        click.echo(f"Copied and compared. Put the [store] of {new} into the settings file, then start the gateways.")
    else:
        click.echo("Nothing was copied; stop all gateways and add --apply.")


def _faults(old: Core, new: Core, file: Path) -> list[str]:
    if old.store.embedded and new.store.embedded:
        return [f"{file}: its store is a private one as well; to move that, stop the gateway and move the folder"]
    if old.store.prefix != new.store.prefix:
        return [f"{file}: store.prefix is {new.store.prefix!r}, and the data are under {old.store.prefix!r}; set that"]
    return []


async def _move(old: Core, new: Core, *, apply: bool, restart: bool) -> Inventory:
    async with _client(old) as source:
        if not apply:
            return await take_inventory(source, old.store.prefix)
        async with _client(new) as target:
            return await copy(source, target, old.store.prefix, restart=restart)


@contextlib.asynccontextmanager
async def _client(core: Core) -> AsyncIterator[Client]:
    """Opens a store without listening to its events, so that what listens is a gateway."""
    async with contextlib.AsyncExitStack() as stack:
        embedded = core.store.embedded
        socket = await stack.enter_async_context(private_server(core.state_dir)) if embedded else None
        yield await stack.enter_async_context(connector(core.store, socket)())


def _print(found: Inventory, prefix: str) -> None:
    table = Table()
    for heading in ("what", "keys", "entries"):
        table.add_column(heading, overflow="fold", justify="left" if heading == "what" else "right")
    for family, (keys, members) in found.by_family(prefix).items():
        table.add_row(family, str(keys), str(members))
    console().print(table)
