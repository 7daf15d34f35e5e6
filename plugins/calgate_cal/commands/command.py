"""The common parts of the commands of `calgate cals`: options, the license, output and errors."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from calgate.plugin import SETTINGS_FILE, CommandContext, Refusal, actor, console, parse_duration
from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.settings import Config, License

Work = Callable[..., Awaitable[None]]

_LONGEST = 36_500 * 86_400.0  # seconds


class _Document(click.ParamType[str]):
    """A document's name, which is never empty: an empty name would mean the Named CAL."""

    name = "document"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.strip():
            self.fail("a document has a name", param, ctx)
        return value


KIND = click.Choice(["named", "document", "session", "usage"])
NAME = _Document()
DOCUMENT = click.option("--document", type=NAME, help="the Document CAL for this document instead of the Named CAL")


class Output:
    """Standard output: sentences and tables for people, JSON for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def say(self, sentence: str, **values: object) -> None:
        """Prints one result."""
        if self.as_json:
            self.hand(values)
        else:
            click.echo(sentence)

    def hand(self, value: object) -> None:
        """Prints a value for a program."""
        click.echo(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))

    def show(self, *tables: Table) -> None:
        """Prints tables for people; without a terminal they are as wide as they need to be, and no cell is folded."""
        to = console()
        for table in tables:
            title, table.title = table.title, None  # a table narrower than its title would fold it
            to.print(title, style="bold")
            to.print(table)


def table(title: str, headings: Sequence[str], right: Sequence[str] = ()) -> Table:
    """Makes an empty table; columns of numbers are aligned to the right."""
    made = Table(title=title)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return made


def local(at: float | None, zone: tzinfo | None = None) -> str:
    """Returns a time as this site's people read it, with its zone; without `zone`, in the machine's."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")


def duration(text: str) -> float:
    """Returns seconds. Raises AdminError for a text that is no duration, or one longer than 100 years."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise AdminError(str(error)) from error
    if not seconds <= _LONGEST:
        raise AdminError(f"a duration is at most 100 years, not {text}")
    return seconds


def cal(document: str | None) -> str:
    """Returns what a message calls the CAL."""
    return f"Document CAL for {document}" if document else "Named CAL"


def command(name: str, *, help: str) -> Callable[[Work], click.Command]:  # noqa: A002 - click's own word
    """Makes `async def work(license_admin, output, …)` a command with the options that all have.

    A refused change, or a store that does not respond, prints one line and exits with 1.
    """

    def make(work: Work) -> click.Command:
        def run(file: Path, license: str | None, reason: str, as_json: bool, **words: Any) -> None:
            context: CommandContext = click.get_current_context().obj
            try:
                asyncio.run(_work(work, context, file, license, reason, Output(as_json=as_json), words))
            except AdminError as no:
                raise click.ClickException(str(no)) from no
            except Refusal as no:
                raise click.ClickException(no.detail) from no

        own = reversed(getattr(work, "__click_params__", ()))  # where click's decorators leave them
        return click.Command(name, callback=run, params=[*own, *_common()], help=help)

    return make


def _common() -> Sequence[click.Option]:
    return (
        click.Option(
            ["-c", "--config", "file"],
            type=click.Path(path_type=Path, dir_okay=False),
            default=SETTINGS_FILE,
            show_default=True,
            help="The settings file.",
        ),
        click.Option(["--license", "license"], help="which license, where the file has several"),
        click.Option(["--reason"], default="", help="why, in your words: it is in the records of what this changes"),
        click.Option(["--json", "as_json"], is_flag=True, help="for programs"),
    )


async def _work(
    work: Work,
    context: CommandContext,
    file: Path,
    license: str | None,
    reason: str,
    output: Output,
    words: dict[str, Any],
) -> None:
    async with license_admin(context, file, license, reason) as admin:
        await work(admin, output, **words)


@contextlib.asynccontextmanager
async def license_admin(
    context: CommandContext, file: Path, wanted: str | None, reason: str = ""
) -> AsyncIterator[LicenseAdmin]:
    """Opens the license of a settings file that is wanted, or its only one. Raises AdminError."""
    async with context.open(file) as (config, services):
        name, license = _chosen(config, wanted)
        yield LicenseAdmin(name, license, services.store, services.directory, actor(), services.site, reason)


def license_of(context: CommandContext, file: Path, wanted: str | None) -> tuple[str, License]:
    """Returns name and settings of a license without opening the store. Raises AdminError."""
    config = context.read(file)
    assert isinstance(config, Config)
    return _chosen(config, wanted)


def _chosen(config: Config, wanted: str | None) -> tuple[str, License]:
    names = sorted(config.licenses)
    if wanted is None and len(names) != 1:
        raise AdminError(f"the file has several licenses ({', '.join(names)}): say which with --license")
    name = names[0] if wanted is None else wanted
    if name not in config.licenses:
        raise AdminError(f"the file has no license {name}, but {', '.join(names)}")
    return name, config.licenses[name]
