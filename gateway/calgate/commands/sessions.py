"""`calgate sessions`: lists and ends sessions."""

import asyncio
import json
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from calgate import config
from calgate.authentication.session import Session
from calgate.authentication.sessions import Sessions
from calgate.commands.context import open_services
from calgate.plugin.errors import ConfigError, Unavailable
from calgate.plugin.names import identity_of
from calgate.plugin.options import config_option, json_option
from calgate.plugin.services import Event


@click.group()
def sessions() -> None:
    """Who is signed in, on all gateways."""


@sessions.command("list")
@config_option
@json_option
def list_(file: Path, as_json: bool) -> None:
    """Lists the sessions that have not ended."""
    found = sorted(asyncio.run(_every(file)), key=lambda session: (session.name, session.created))
    if as_json:
        rows = [
            {
                "user": s.name,
                "key": s.person_key,
                "address": s.address,
                "mechanism": s.identity.mechanism,
                "since": s.created,
            }
            for s in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table()
    for heading in ("user", "address", "signed in by", "since"):
        table.add_column(heading)
    for s in found:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(s.created))
        table.add_row(s.name, s.address, s.identity.mechanism, since)
    Console(markup=False, emoji=False).print(table)


async def _every(file: Path) -> list[Session]:
    settings = config.read(file)
    try:
        async with open_services(settings) as (store, _):
            return await Sessions(store, settings.core.session, 0).every()
    except Unavailable as refusal:
        raise ConfigError([refusal.detail], code=1) from refusal


@sessions.command()
@click.argument("user", required=False)
@config_option
@click.option("--address", help="End the sessions from this address instead of (or as well as) a user's.")
def end(user: str | None, file: Path, address: str | None) -> None:
    """Ends the sessions of USER, or those from an address, on every gateway at once."""
    if user is None and address is None:
        raise click.UsageError("name a USER, or an --address")
    count = asyncio.run(_end(file, user, address))
    click.echo(f"{count} session{'' if count == 1 else 's'} ended")
    if not count:
        raise SystemExit(1)


async def _end(file: Path, user: str | None, address: str | None) -> int:
    settings = config.read(file)
    count = 0
    try:
        async with open_services(settings) as (store, _):
            sessions = Sessions(store, settings.core.session, 0)
            for session in await sessions.every():
                if address in (None, session.address) and (user is None or _is_of(session, user)):
                    # first, so that whoever signs in again at once is looked up anew
                    await store.publish(Event("person-changed", session.person_key))
                    count += await sessions.end(session.key, "ended by an administrator")
    except Unavailable as refusal:
        raise ConfigError([refusal.detail], code=1) from refusal
    return count


def _is_of(session: Session, user: str) -> bool:
    wanted = identity_of(user)
    domain, _, account = session.name.partition("\\")
    same_domain = not wanted.domain or domain.casefold() == wanted.domain.partition(".")[0].casefold()
    return user == session.person_key or (account.casefold() == wanted.account.casefold() and same_domain)
