"""`calgate cals …`: who has what, and changing it."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from calgate.contract import Desk
from calgate.refusal import Refusal
from calgate_cal.actor import actor
from calgate_cal.office import Declined, Holder, Office, State

_ORDER = {"named": 0, "document": 1, "session": 2, "usage": 3}


def commands(desk: Desk) -> click.Group:
    """The group `cals`."""
    group = click.Group("cals", help="Who holds which CAL, and changing it.")
    for command in (_list(desk), _assign(desk), _remove(desk), _undo(desk)):
        group.add_command(command)
    return group


_FILE = click.option("-c", "--config", "file", required=True, type=click.Path(path_type=Path), help="settings file")
_LICENSE = click.option("--license", "license", help="which license, where the file has several")
_JSON = click.option("--json", "as_json", is_flag=True, help="for programs")
_DOCUMENT = click.option("--document", help="the Document CAL for this document instead of the Named CAL")


def _list(desk: Desk) -> click.Command:
    @click.command("list", help="Every pool, and who holds what.")
    @_FILE
    @_LICENSE
    @_JSON
    def show(file: Path, license: str | None, as_json: bool) -> None:
        async def work(office: Office) -> None:
            state = await office.state()
            holders = [holder async for holder in office.holders()]
            holders.sort(key=lambda holder: (_ORDER[holder.kind], holder.name.casefold(), holder.since))
            if as_json:
                _print_json(
                    {
                        "license": office.name,
                        "now": state.now,
                        "pools": [asdict(pool) | {"free": pool.free} for pool in state.pools],
                        "holders": [asdict(holder) for holder in holders],
                    }
                )
            else:
                _print(_pools(office.name, state, holders), _holders(holders))

        _run(desk, file, license, work)

    return show


def _assign(desk: Desk) -> click.Command:
    @click.command("assign", help="Give USER a Named CAL, or a Document CAL.")
    @click.argument("user")
    @_DOCUMENT
    @_FILE
    @_LICENSE
    @_JSON
    def assign(user: str, document: str | None, file: Path, license: str | None, as_json: bool) -> None:
        async def work(office: Office) -> None:
            name = await office.assign(user, document)
            _say(as_json, f"{name} has a {_cal(document)} now", assigned=name, document=document)

        _run(desk, file, license, work)

    return assign


def _remove(desk: Desk) -> click.Command:
    @click.command("remove", help="Take USER's Named CAL away, or a Document CAL. If it was used, it is in quarantine.")
    @click.argument("user")
    @_DOCUMENT
    @_FILE
    @_LICENSE
    @_JSON
    def remove(user: str, document: str | None, file: Path, license: str | None, as_json: bool) -> None:
        async def work(office: Office) -> None:
            name, until = await office.remove(user, document)
            after = f"in quarantine until {_local(until)}" if until else "free at once"
            _say(as_json, f"{name}'s {_cal(document)} is {after}", removed=name, document=document, quarantine=until)

        _run(desk, file, license, work)

    return remove


def _undo(desk: Desk) -> click.Command:
    @click.command("undo", help="Give USER back what was removed, while the quarantine lasts.")
    @click.argument("user")
    @_DOCUMENT
    @_FILE
    @_LICENSE
    @_JSON
    def undo(user: str, document: str | None, file: Path, license: str | None, as_json: bool) -> None:
        async def work(office: Office) -> None:
            name = await office.undo(user, document)
            _say(as_json, f"{name} has the {_cal(document)} again", undone=name, document=document)

        _run(desk, file, license, work)

    return undo


# ---------------------------------------------------------------- running


def _run(desk: Desk, file: Path, license: str | None, work: Callable[[Office], Coroutine[Any, Any, None]]) -> None:
    """Runs against the store of the settings file; what is declined or away is one line and exit 1."""

    async def run() -> None:
        async with _office(desk, file, license) as office:
            await work(office)

    try:
        asyncio.run(run())
    except Declined as no:
        raise click.ClickException(str(no)) from no
    except Refusal as no:
        raise click.ClickException(no.detail) from no


@contextlib.asynccontextmanager
async def _office(desk: Desk, file: Path, wanted: str | None) -> AsyncIterator[Office]:
    async with desk.open(file) as (config, services):
        names = sorted(config.licenses)
        if wanted is None and len(names) != 1:
            raise Declined(f"the file has several licenses ({', '.join(names)}): say which with --license")
        name = names[0] if wanted is None else wanted
        if name not in config.licenses:
            raise Declined(f"the file has no license {name}, but {', '.join(names)}")
        yield Office(name, config.licenses[name], services.store, services.directory, actor())


# ---------------------------------------------------------------- showing


def _print(*tables: Table) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables:
        console.print(table)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def _say(as_json: bool, sentence: str, **values: object) -> None:
    if as_json:
        _print_json(values)
    else:
        click.echo(sentence)


def _cal(document: str | None) -> str:
    return f"Document CAL for {document}" if document else "Named CAL"


def _local(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _pools(name: str, state: State, holders: list[Holder]) -> Table:
    table = Table(title=f"License {name}", title_justify="left")
    for heading in ("kind", "in license", "limit", "occupied", "quarantined", "free", "next free by itself"):
        table.add_column(heading, justify="left" if heading in ("kind", "next free by itself") else "right")
    for pool in state.pools:
        quarantined = sum(holder.kind == pool.kind and holder.state == "quarantined" for holder in holders)
        figures = (pool.in_license, pool.limit, pool.occupied, quarantined, pool.free)
        table.add_row(pool.kind, *map(str, figures), _local(pool.free_at))
    return table


def _holders(holders: list[Holder]) -> Table:
    table = Table(title="Holders", title_justify="left")
    for heading in ("kind", "user", "document", "state", "since", "last used", "from", "comes back"):
        table.add_column(heading, overflow="fold")
    for it in holders:
        times = (_local(it.since), _local(it.last_used))
        table.add_row(it.kind, it.name, it.document, it.state, *times, it.client, _local(it.until))
    return table
