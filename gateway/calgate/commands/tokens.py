"""`calgate tokens`: API tokens, by which service accounts sign in without Kerberos."""

import asyncio
import getpass
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from zoneinfo import ZoneInfo

import click
from rich.table import Table

from calgate import config
from calgate.authentication.token import Token
from calgate.authentication.token_store import TokenStore
from calgate.commands.context import open_services
from calgate.plugin.changes import ChangeLog, actor, reason_option
from calgate.plugin.errors import ConfigError, Refusal, Unavailable
from calgate.plugin.identity import Person
from calgate.plugin.names import identity_of
from calgate.plugin.options import config_option, console, json_option, read_time

_ROLES = ("reader", "helpdesk", "admin")


@click.group()
def tokens() -> None:
    """API tokens: `Authorization: Bearer …` signs a service account in, over https."""


@tokens.command()
@click.argument("user")
@config_option
@click.option("--until", required=True, metavar="DATE", help="The last day, like 2027-06-30, in the site's time zone.")
@click.option("--route", "routes", multiple=True, help="Host and path of a route, as in the settings file. Repeatable.")
@click.option("--network", "networks", multiple=True, help="Use from this network only, like 10.0.0.0/8. Repeatable.")
@click.option("--delegate", is_flag=True, help="Allow routes whose sign-on gives credentials of the user to a server.")
@click.option("--console", "role", type=click.Choice(_ROLES), help="Lets it enter the administrators' console.")
@click.option("--may-remove", is_flag=True, help="Lets it take something away in the console.")
@reason_option
@json_option
def new(
    user: str,
    file: Path,
    until: str,
    routes: tuple[str, ...],
    networks: tuple[str, ...],
    delegate: bool,
    role: str | None,
    may_remove: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Makes a token for the service account USER ("CORP\\svc-report") and shows it once.

    Access rules and CALs are those of the account. The token ends when its account may no longer sign in.
    """
    settings = config.read(file)
    if may_remove and role is None:
        raise click.UsageError("--may-remove is about the console: add --console ROLE")
    description = Token(
        key="",
        id="",
        domain="",
        account="",
        person_key="",
        made_by=os.environ.get("SUDO_USER", "") if os.geteuid() == 0 else "",
        created=time.time(),
        until=_end_of(until, ZoneInfo(settings.core.timezone)),
        routes=_routes(settings, routes, needed=role is None),
        networks=tuple(map(_network, networks)),
        delegates=delegate,
        console=role or "",
        may_remove=may_remove,
    )
    token, secret = asyncio.run(_new(settings, user, description, reason))
    if as_json:
        click.echo(json.dumps({**_row(token), "token": secret}, indent=2))
        return
    click.echo(f"Token {token.id} of {token.user}, valid through {until}. It is shown only now:", err=True)
    click.echo(secret)


def _end_of(day: str, zone: ZoneInfo) -> float:
    """Returns the Unix time at which a day ends. Raises UsageError for anything that is not a day still to come."""
    try:
        last = read_time(day, "%Y-%m-%d").replace(tzinfo=zone)
    except ValueError:
        raise click.UsageError(f"--until is a day like 2027-06-30, not {day!r}") from None
    end = (last + timedelta(days=1)).timestamp()
    if end <= time.time():
        raise click.UsageError(f"--until {day} has passed: choose a later day")
    return end


def _routes(settings: config.Settings, wanted: Sequence[str], *, needed: bool) -> frozenset[str]:
    """Returns the names of routes. Raises UsageError for a route that the settings do not have or that is public."""
    known = {route.host.lower() + route.path: route for route in settings.core.routes}
    if needed and not wanted:
        raise click.UsageError(f"--route is missing: name a route of {settings.file}: {', '.join(known)}")
    for name in wanted:
        if name not in known:
            raise click.UsageError(f"--route {name}: {settings.file} has no such route; there is {', '.join(known)}")
        if known[name].sign_in == "off":
            raise click.UsageError(f'--route {name}: it is public (sign_in = "off"), so it needs no token')
    return frozenset(wanted)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise click.UsageError(f"--network {text}: {error}; a network is written like 10.0.0.0/8") from None


async def _new(settings: config.Settings, user: str, description: Token, reason: str) -> tuple[Token, str]:
    async with open_services(settings) as (store, plugins):
        try:
            person = await plugins.directory.look_up(identity_of(user))
            if person is None:
                raise ConfigError([f"{user}: no directory has this account; check the spelling"], code=1)
            token, secret = await TokenStore(store).new(_for(person, description))
            await ChangeLog(store).record("token-made", f"{token.id} of {token.user}", actor(), reason)
            return token, secret
        except Refusal as refusal:
            raise ConfigError([f"{user}: {refusal.detail}"], code=1) from refusal


def _for(person: Person, description: Token) -> Token:
    made_by = description.made_by or getpass.getuser()
    return replace(description, domain=person.domain, account=person.account, person_key=person.key, made_by=made_by)


@tokens.command("list")
@config_option
@json_option
def list_(file: Path, as_json: bool) -> None:
    """Lists the tokens, with their last use, until 30 days after their end."""
    settings = config.read(file)
    found = asyncio.run(_every(settings))
    if as_json:
        click.echo(json.dumps([_row(token) for token in found], indent=2))
        return
    table = Table()
    zone = ZoneInfo(settings.core.timezone)
    for heading in ("id", "user", "state", "until", "last used", "from", "routes", "networks", "console", "made by"):
        table.add_column(heading, overflow="fold")
    for token in found:
        last_used = _moment(token.last_used, zone) if token.last_used is not None else "never"
        table.add_row(
            *(token.id, token.user, _state(token), _moment(token.until, zone), last_used, token.last_address),
            *(", ".join(sorted(token.routes)), ", ".join(map(str, token.networks)), token.console, token.made_by),
        )
    console().print(table)


def _row(token: Token) -> dict[str, object]:
    return {
        "id": token.id,
        "user": token.user,
        "key": token.person_key,
        "state": _state(token),
        "created": token.created,
        "until": token.until,
        "last_used": token.last_used,
        "last_address": token.last_address,
        "routes": sorted(token.routes),
        "networks": [str(network) for network in token.networks],
        "delegate": token.delegates,
        "console": token.console,
        "may_remove": token.may_remove,
        "made_by": token.made_by,
    }


def _state(token: Token) -> str:
    if token.revoked is not None:
        return "revoked"
    return "expired" if time.time() >= token.until else "valid"


def _moment(at: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M")


async def _every(settings: config.Settings) -> Sequence[Token]:
    try:
        async with open_services(settings) as (store, _):
            return await TokenStore(store).every()
    except Unavailable as refusal:
        raise ConfigError([refusal.detail], code=1) from refusal


@tokens.command()
@click.argument("id_", metavar="ID")
@config_option
@reason_option
def revoke(id_: str, file: Path, reason: str) -> None:
    """Revokes the token ID on every gateway at once, and ends what is open under it. Exit 1: there is none."""
    settings = config.read(file)
    if not asyncio.run(_revoke(settings, id_, reason)):
        click.echo(f"no valid token has the id {id_}; `calgate tokens list` shows them", err=True)
        raise SystemExit(1)
    click.echo(f"token {id_} is revoked")


async def _revoke(settings: config.Settings, id_: str, reason: str) -> bool:
    try:
        async with open_services(settings) as (store, _):
            known = TokenStore(store)
            token = next((token for token in await known.every() if token.id == id_), None)
            if token is None or not await known.revoke(token):
                return False
            await ChangeLog(store).record("token-revoked", f"{token.id} of {token.user}", actor(), reason)
            return True
    except Unavailable as refusal:
        raise ConfigError([refusal.detail], code=1) from refusal
