"""`calgate changes`: who changed what apart from licenses, and why."""

import asyncio
import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click
from rich.table import Table

from calgate import config
from calgate.commands.context import open_services
from calgate.plugin.changes import Change, ChangeLog
from calgate.plugin.errors import ConfigError, Unavailable
from calgate.plugin.options import Number, config_option, console, json_option


@click.command()
@config_option
@click.option("--most", type=Number(min=1), default=100, show_default=True, help="How many, the latest first.")
@json_option
def changes(file: Path, most: int, as_json: bool) -> None:
    """Lists what administrators changed: ended sessions, drained servers, lifted blocks, API tokens.

    Changes to licenses are in `calgate cals log`. Times are in the time zone of the settings.
    """
    settings = config.read(file)
    found = asyncio.run(_latest(settings, most))
    if as_json:
        rows = [
            {"at": one.at, "what": one.what, "subject": one.subject, "by": one.by, "reason": one.reason}
            for one in found
        ]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    table = Table()
    zone = ZoneInfo(settings.core.timezone)
    for heading in (f"when ({settings.core.timezone})", "what", "of", "by", "reason"):
        table.add_column(heading, overflow="fold")
    for one in found:
        at = datetime.fromtimestamp(one.at, zone).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(at, one.what, one.subject, one.by, one.reason)
    console().print(table)


async def _latest(settings: config.Settings, most: int) -> list[Change]:
    try:
        async with open_services(settings) as (store, _):
            found: list[Change] = []
            async for change in ChangeLog(store).latest():
                found.append(change)
                if len(found) >= most:
                    break
            return found
    except Unavailable as refusal:
        raise ConfigError([refusal.detail], code=1) from refusal
