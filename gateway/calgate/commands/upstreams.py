"""`calgate upstreams`: drains a document server for maintenance, and restores it."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table

from calgate import config
from calgate.commands.context import open_services
from calgate.config.model import Settings
from calgate.plugin.changes import ChangeLog, actor, reason_option
from calgate.plugin.errors import ConfigError, Unavailable
from calgate.plugin.options import config_option, console, json_option
from calgate.routes import upstream_of
from calgate.upstream.drained import DrainedServers


@click.group()
def upstreams() -> None:
    """The document servers, and draining them."""


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
        table.add_column(heading, overflow="fold")
    for route, name, is_drained in rows:
        table.add_row(route, name, "drained" if is_drained else "in use")
    console().print(table)


@upstreams.command()
@click.argument("upstream")
@config_option
@click.option("--force", is_flag=True, help="Also if it is the last one of a route, whose users then get 503.")
@reason_option
def drain(upstream: str, file: Path, force: bool, reason: str) -> None:
    """Drains UPSTREAM on every gateway: its sessions go to the route's other servers."""
    settings = config.read(file)
    name = _known(settings, upstream)
    emptied = [] if force else _emptied_by(settings, name, asyncio.run(_drained(settings)))
    if emptied:
        routes = ", ".join(f"{route.host}{route.path}" for route in emptied)
        fault = f"{upstream}: the only document server in use of {routes}, whose users would get 503; --force drains it"
        raise ConfigError([fault], code=1)
    _change(settings, name, reason, drained=True)


@upstreams.command()
@click.argument("upstream")
@config_option
@reason_option
def restore(upstream: str, file: Path, reason: str) -> None:
    """Restores UPSTREAM on every gateway."""
    settings = config.read(file)
    _change(settings, _known(settings, upstream), reason, drained=False)


def _emptied_by(settings: Settings, name: str, drained: frozenset[str]) -> Sequence[config.Route]:
    """Returns the routes that would have no document server left."""
    names = [(route, set(_names(settings, route))) for route in settings.core.routes]
    return [route for route, servers in names if name in servers - drained and servers <= drained | {name}]


def _known(settings: Settings, upstream: str) -> str:
    """Returns the name of a document server as the settings have it. Raises ConfigError if no route has it."""
    known = [name for route in settings.core.routes for name in _names(settings, route)]
    if upstream.rstrip("/") not in known:
        raise ConfigError([f"{upstream}: no route has this document server; there are {', '.join(known)}"], code=1)
    return upstream.rstrip("/")


def _change(settings: Settings, name: str, reason: str, *, drained: bool) -> None:
    asyncio.run(_set(settings, name, reason, drained=drained))
    click.echo(f"{name} is {'drained' if drained else 'in use'}")


def _names(settings: Settings, route: config.Route) -> Sequence[str]:
    return [upstream_of(route, url).name for url in route.upstreams]


async def _drained(settings: Settings) -> frozenset[str]:
    try:
        async with open_services(settings) as (store, _):
            return await DrainedServers(store).read()
    except Unavailable as refusal:
        raise ConfigError([refusal.detail], code=1) from refusal


async def _set(settings: Settings, name: str, reason: str, *, drained: bool) -> None:
    try:
        async with open_services(settings) as (store, _):
            await DrainedServers(store).change(name, drained=drained)
            what = "server-drained" if drained else "server-restored"
            await ChangeLog(store).record(what, name, actor(), reason)
    except Unavailable as refusal:
        raise ConfigError([refusal.detail], code=1) from refusal
