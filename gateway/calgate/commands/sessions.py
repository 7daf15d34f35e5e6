"""`calgate sessions`: lists and ends sessions."""

import asyncio
import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click
from rich.table import Table

from calgate import config
from calgate.authentication.session import Session
from calgate.authentication.sessions import Sessions
from calgate.commands.context import open_services
from calgate.plugin.changes import ChangeLog, actor, reason_option
from calgate.plugin.errors import ConfigError, Refusal, Unavailable
from calgate.plugin.identity import Directory
from calgate.plugin.names import Name, identity_of, parse_user
from calgate.plugin.options import config_option, console, json_option
from calgate.plugin.services import Event


@click.group()
def sessions() -> None:
    """The signed-in users, on all gateways."""


@sessions.command("list")
@config_option
@json_option
def list_(file: Path, as_json: bool) -> None:
    """Lists the sessions that have not ended. Times are in the time zone of the settings."""
    settings = config.read(file)
    found = sorted(asyncio.run(_every(settings)), key=lambda session: (session.name, session.created))
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
    for heading in ("user", "key", "address", "signed in by", f"since ({settings.core.timezone})"):
        table.add_column(heading, overflow="fold")
    zone = ZoneInfo(settings.core.timezone)
    for s in found:
        since = datetime.fromtimestamp(s.created, zone).strftime("%Y-%m-%d %H:%M:%S %z")
        table.add_row(s.name, s.person_key, s.address, s.identity.mechanism, since)
    console().print(table)


async def _every(settings: config.Settings) -> list[Session]:
    try:
        async with open_services(settings) as (store, _):
            return await Sessions(store, settings.core.session, 0).every()
    except Unavailable as refusal:
        raise ConfigError([refusal.detail], code=1) from refusal


@sessions.command()
@click.argument("user", required=False)
@config_option
@click.option("--address", help="End the sessions from this address instead of (or as well as) a user's.")
@reason_option
def end(user: str | None, file: Path, address: str | None, reason: str) -> None:
    """Ends the sessions of USER, or those from an address, on every gateway at once.

    USER is any name that the user has, or had when signing in. A name that was reused can mean two users, who are
    then both listed; the key that `calgate sessions list` shows means one.
    """
    if user is None and address is None:
        raise click.UsageError("name a USER, or an --address")
    ended = asyncio.run(_end(config.read(file), user, address, reason))
    users = Counter((session.name, session.person_key) for session in ended)
    for (name, key), count in sorted(users.items()) if len(users) > 1 else ():
        click.echo(f"{name} (key {key}): {_counted(count)}")
    click.echo(_counted(len(ended)))
    if not ended:
        raise SystemExit(1)


def _counted(count: int) -> str:
    return f"{count} session{'' if count == 1 else 's'} ended"


async def _end(settings: config.Settings, user: str | None, address: str | None, reason: str) -> list[Session]:
    ended = []
    by = actor()
    try:
        async with open_services(settings) as (store, plugins):
            sessions = Sessions(store, settings.core.session, 0)
            key = await _key_of(plugins.directory, user) if user is not None else None
            for session in await sessions.every():
                if address in (None, session.address) and (user is None or _is_of(session, user, key)):
                    # first, so that a user who signs in again at once is looked up again
                    await store.publish(Event("person-changed", session.person_key))
                    if await sessions.end(session.key, f"ended by {by}"):
                        ended.append(session)
                        what = f"{session.name} from {session.address}"
                        await ChangeLog(store).record("session-ended", what, by, reason)
    except Unavailable as refusal:
        raise ConfigError([refusal.detail], code=1) from refusal
    return ended


async def _key_of(directory: Directory, user: str) -> str | None:
    """Returns the key of the user who has this name now; None if there is none, or the directory cannot tell."""
    try:
        person = await directory.look_up(identity_of(user))
    except Refusal:  # a disabled account has sessions to end, and a directory that is away must not prevent it
        return None
    return person.key if person is not None else None


def _is_of(session: Session, user: str, key: str | None) -> bool:
    """Whether it is a session of the user who has this name or key, or of one who had the name at the sign-in."""
    return session.person_key in (key, user) or is_named(session, parse_user(user))


def is_named(session: Session, name: Name) -> bool:
    """Whether the user signed in under this name, or has it as their key."""
    if name.form == "sid":
        return session.person_key.casefold() == name.account.casefold()
    domain, _, account = session.name.casefold().partition("\\")
    wanted = name.domain.casefold()
    same_domain = wanted in ("", domain) or wanted.partition(".")[0] == domain  # the DNS name of a NetBIOS name
    return account == name.account.casefold() and same_domain
