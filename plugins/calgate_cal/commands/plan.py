"""`calgate cals plan`: how many CALs to buy, of which kind and for whom."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Any

import click

from calgate.plugin import CommandContext, Number, Refusal
from calgate_cal.admin import AdminError
from calgate_cal.commands.command import license_admin, license_of
from calgate_cal.commands.options import Changed, Length, Percent, Price, Zone
from calgate_cal.planner import page, people, text
from calgate_cal.planner import plan as planner
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.history import History, SourceError
from calgate_cal.planner.plan import Change, Options
from calgate_cal.planner.recorded import options_of, recorded
from calgate_cal.planner.sources import audit, read_files, size

_PROGRESS_FROM = 20_000_000  # bytes: smaller inputs are read in less than a second and need no progress bar


_OPTIONS: Sequence[click.Parameter] = (
    click.Option(
        ["-c", "--config", "file"],
        type=click.Path(path_type=Path, dir_okay=False),
        help="a settings file: its license's records, or only kinds, numbers and clocks with SOURCE",
    ),
    click.Option(["--license"], help="which license, where the file has several"),
    click.Option(["--since"], type=Length(), default="52w", show_default=True, help="how far back records are read"),
    click.Argument(["sources"], nargs=-1, type=click.Path(path_type=Path), metavar="SOURCE …"),
    click.Option(["--zone"], type=Zone(), help="the time zone of a log that writes local time; default: the machine's"),
    click.Option(["--dates"], type=click.Choice(["dmy", "mdy"]), help="the order of day and month in dates with /"),
    click.Option(
        ["--logged-idle"], type=Length(), default="30m", show_default=True, help="idle timeout of the logging server"
    ),
    click.Option(
        ["--identity"], default="cs-username", show_default=True, help="the field of a W3C log that names the user"
    ),
    click.Option(["--named"], type=Number(0, 1_000_000), help="how many Named CALs there are now"),
    click.Option(["--session"], type=Number(0, 1_000_000), help="how many Session CALs there are now"),
    click.Option(
        ["--price", "prices"],
        type=Price(),
        help="named=1,session=10 and perhaps document=0.4; without prices there is no cheapest mix",
    ),
    click.Option(
        ["--below"],
        type=Percent(above_zero=True),
        default="1%",
        show_default=True,
        help="the rate of denials to stay below",
    ),
    click.Option(["--growth"], type=Percent(), default="0%", show_default=True, help="that many more people"),
    click.Option(["--exclude"], multiple=True, help="a user or pattern to exclude, in any case; repeatable"),
    click.Option(
        ["--same", "same_file"],
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="names of one user: a pair with = a line",
    ),
    click.Option(
        ["--what-if", "changes"],
        type=Changed(),
        multiple=True,
        help="one setting changed, as idle_timeout=15m, queue=on, usage=50 or document=30; repeatable",
    ),
    click.Option(["--keep-named"], is_flag=True, help="users who hold Named CALs now keep them"),
    click.Option(["--margin"], type=Percent(), default="20%", show_default=True, help="on the Session part of a mix"),
    click.Option(
        ["--link"], type=Length(), default="1h", show_default=True, help="attempts this close together are one wish"
    ),
    click.Option(
        ["--retry"],
        type=click.Choice(["records", "none"]),
        default="records",
        show_default=True,
        help="how users who are denied try again; none: they go away",
    ),
    click.Option(
        ["--names"],
        type=click.Choice(["all", "none"]),
        default="all",
        show_default=True,
        help="none: numbers without people",
    ),
    click.Option(["--seed"], type=Number(0), default=1, show_default=True, help="of the random draws"),
    click.Option(
        ["--html", "html_file"],
        type=click.Path(path_type=Path, dir_okay=False, writable=True),
        callback=lambda context, option, file: _writable(file),
        help="a page for the person who signs the purchase",
    ),
    click.Option(["--json", "as_json"], is_flag=True, help="for programs"),
)


def _writable(file: Path | None) -> Path | None:
    """Refuses a file that cannot be written before minutes are spent on the plan."""
    if file is not None and not file.parent.is_dir():
        raise click.BadParameter(f"there is no folder {file.parent}; make it, or name another")
    return file


def plan(context: CommandContext) -> click.Command:
    """Returns the command; unlike the others it also works without a settings file."""
    return click.Command(
        "plan",
        callback=partial(_run, context),
        params=list(_OPTIONS),
        help="How many CALs to buy. SOURCE: folders or files of QlikView session logs, W3C logs or tables.",
    )


def _run(
    context: CommandContext,
    sources: Sequence[Path],
    file: Path | None,
    license: str | None,
    since: float,
    zone: tzinfo | None,
    same_file: Path | None,
    changes: Sequence[tuple[str, Change]],
    retry: str,
    names: str,
    html_file: Path | None,
    as_json: bool,
    **words: Any,
) -> None:
    if not sources and file is None:
        raise click.UsageError("name a folder or files to read, or a settings file with -c")
    reading = {name: words.pop(name) for name in ("dates", "logged_idle", "identity")}
    with_names = names != "none"
    try:
        same = {} if same_file is None else people.pairs(same_file.read_text("utf-8-sig"), str(same_file))
        options = Options(same=same, what_if=dict(changes), retry=retry != "none", **words)
        if file is not None:
            options = options_of(license_of(context, file, license)[1], options)
        if sources:
            history = _read(context, sources, zone, reading)
        else:
            assert file is not None
            history, site_zone = asyncio.run(_records(context, file, license, since, options))
            zone = zone or site_zone
        made = planner.make(history, options, Calendar(zone))
        if html_file is not None:
            html_file.write_text(page.html(made, with_names=with_names), encoding="utf-8")
    except Refusal as refusal:
        raise click.ClickException(refusal.detail) from refusal
    except (AdminError, SourceError, OSError, UnicodeDecodeError) as fault:
        raise click.ClickException(str(fault)) from fault
    click.echo(_as_json(made, with_names=with_names) if as_json else text.text(made, with_names=with_names))


def _as_json(made: planner.Plan, *, with_names: bool) -> str:
    return json.dumps(text.as_json(made, with_names=with_names), ensure_ascii=False)


def _read(context: CommandContext, sources: Sequence[Path], zone: tzinfo | None, reading: Mapping[str, Any]) -> History:
    with _progress(size(sources)) as progress:
        return read_files(sources, zone, document_of=context.document_of, progress=progress, **reading)


async def _records(
    context: CommandContext, file: Path, license: str | None, since: float, options: Options
) -> tuple[History, tzinfo]:
    now = time.time()
    async with license_admin(context, file, license) as admin:
        return await recorded(admin, audit.Window(now - since, now), options), admin.zone


class _progress:  # noqa: N801 - used like a function
    """A progress bar on a terminal, where there is much to read."""

    def __init__(self, total: int) -> None:
        shown = total >= _PROGRESS_FROM and sys.stderr.isatty()
        self._bar = click.progressbar(length=total, label="reading", file=sys.stderr) if shown else None
        self._at = 0

    def __enter__(self) -> Callable[[int], None]:
        if self._bar is not None:
            self._bar.__enter__()
        return self._show

    def _show(self, at: int) -> None:
        if self._bar is not None:
            self._bar.update(at - self._at)
            self._at = at

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
