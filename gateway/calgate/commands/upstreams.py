"""`calgate upstreams`: drains a document server for maintenance, and restores it."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from calgate import config
from calgate.commands.context import open_services
from calgate.config.model import Settings
from calgate.plugin.errors import ConfigError, Unavailable
from calgate.plugin.options import config_option, json_option
from calgate.routes import upstream_of
from calgate.upstream.drained import DrainedServers


@click.group()
def upstreams() -> None:
    """The document servers: which there are, and which are drained."""


@upstreams.command("list")
@config_option
@json_option
def list_(file: Path, as_json: bool) -> None:
    """Lists the document servers of every route and whether they are drained."""
    settings = config.read(file)
    drained = asyncio.run(_drained(settings))
    rows = [(route.path, name, name in drained) for route in settings.core.routes for name in _names(settings, route)]
    if as_json:
        click.echo(json.dumps([{"route": r, "upstream": n, "drained": d} for r, n, d in rows], indent=2))
        return
    table = Table()
    for heading in ("route", "document server", "state"):
        table.add_column(heading)
    for route, name, is_drained in rows:
        table.add_row(route, name, "drained" if is_drained else "in use")
    Console(markup=False, emoji=False).print(table)


@upstreams.command()
@click.argument("upstream")
@config_option
def drain(upstream: str, file: Path) -> None:
    """Drains UPSTREAM on every gateway: its sessions go to the route's other servers."""
    _change(file, upstream, drained=True)


@upstreams.command()
@click.argument("upstream")
@config_option
def restore(upstream: str, file: Path) -> None:
    """Restores UPSTREAM on every gateway."""
    _change(file, upstream, drained=False)


def _change(file: Path, upstream: str, *, drained: bool) -> None:
    settings = config.read(file)
    known = [name for route in settings.core.routes for name in _names(settings, route)]
    if upstream.rstrip("/") not in known:
        raise ConfigError([f"{upstream}: no route has this document server; there are {', '.join(known)}"], code=1)
    asyncio.run(_set(settings, upstream.rstrip("/"), drained=drained))
    click.echo(f"{upstream} is {'drained' if drained else 'in use'}")


def _names(settings: Settings, route: config.Route) -> Sequence[str]:
    return [upstream_of(route, url).name for url in route.upstreams]


async def _drained(settings: Settings) -> frozenset[str]:
    try:
        async with open_services(settings) as (store, _):
            return await DrainedServers(store).read()
    except Unavailable as refusal:
        raise ConfigError([refusal.detail], code=1) from refusal


async def _set(settings: Settings, name: str, *, drained: bool) -> None:
    try:
        async with open_services(settings) as (store, _):
            await DrainedServers(store).change(name, drained=drained)
    except Unavailable as refusal:
        raise ConfigError([refusal.detail], code=1) from refusal
