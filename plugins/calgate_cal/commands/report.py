"""`calgate cals report`: what happened, and how many Session CALs would have been enough."""

import asyncio
import csv
import sys
import time
from dataclasses import asdict
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import click

from calgate.plugin import read_time
from calgate_cal import plot, report_page
from calgate_cal import report as reports
from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.commands.command import Output, command, table
from calgate_cal.commands.options import Length, Zone
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.plan import Options, prepare
from calgate_cal.planner.recorded import history_of, options_of
from calgate_cal.planner.sources.audit import Window
from calgate_cal.planner.text import percent
from calgate_cal.report import Report

_SHOWN = 8  # numbers of CALs next to the needed one


@command(
    "report", help="What happened, and how many Session CALs would have been enough (`plan` shows how many to buy)."
)
@click.option("--since", type=Length(), default="30d", show_default=True, help="how far back, as 30d or 12w")
@click.option("--month", help="a month instead, as 2026-03")
@click.option("--from", "first", help="the first day of a range instead, as 2026-03-01")
@click.option("--to", "last", help="the last day of the range; default: today")
@click.option("--zone", type=Zone(), help="the zone of days and hours; default: the site's")
@click.option("--plot", "picture", type=click.Path(path_type=Path, dir_okay=False), help="a picture (SVG) to this file")
@click.option(
    *("--html", "html_file"),
    type=click.Path(path_type=Path, dir_okay=False),
    help="a page for mail and print to this file, without names",
)
@click.option("--csv", "as_csv", is_flag=True, help="for spreadsheets: a row for each hour")
async def report(
    license_admin: LicenseAdmin,
    output: Output,
    since: float,
    month: str | None,
    first: str | None,
    last: str | None,
    zone: tzinfo | None,
    picture: Path | None,
    html_file: Path | None,
    as_csv: bool,
) -> None:
    """Shows use, denials, the rate, and what would have been with another number of Session CALs."""
    calendar = Calendar(zone or license_admin.zone)
    now = time.time()
    window = await _recorded(license_admin, _window(since, month, first, last, calendar, now))
    options = options_of(license_admin.license, Options())
    records = [record async for record in license_admin.records(window.since, window.until)]
    holders = list({holder.id: holder async for holder in license_admin.holders()}.values())
    prepared = prepare(history_of(records, holders, window, options), options, calendar)
    limits = {pool.kind: pool.limit for pool in (await license_admin.state()).pools}
    made = reports.make(license_admin.name, records, holders, prepared, window, calendar, limits)
    if picture is not None:
        await _write(picture, plot.svg(made, calendar), "plot")
    if html_file is not None:
        await _write(html_file, report_page.html(made, calendar), "page")
    if as_csv:
        _write_csv(made, calendar)
    elif output.as_json:
        output.hand(asdict(made))
    else:
        _show(made, output, calendar)


async def _write(file: Path, text: str, what: str) -> None:
    try:
        await asyncio.to_thread(file.write_text, text, encoding="utf-8")
    except OSError as error:
        raise AdminError(f"the {what} cannot be written: {error}") from error


async def _recorded(license_admin: LicenseAdmin, window: Window) -> Window:
    """The part of a window since the first record: before it nothing is known."""
    async for record in license_admin.records(window.since, window.until):
        return Window(max(window.since, record.at), window.until)
    return window


def _window(
    since: float, month: str | None, first: str | None, last: str | None, calendar: Calendar, now: float
) -> Window:
    if month is not None:
        if first or last:
            raise AdminError("say either --month, or --from and --to")
        begin = _date(f"{month}-01", "a month is written like 2026-03")
        end = (begin + timedelta(days=31)).replace(day=1)
        return _checked(_midnight(begin, calendar), min(now, _midnight(end, calendar)))
    if first is None:
        if last is not None:
            raise AdminError("--to goes with --from")
        return Window(now - since, now)
    wrong = "a day is written like 2026-03-01"
    until = now if last is None else _midnight(_date(last, wrong) + timedelta(days=1), calendar)
    return _checked(_midnight(_date(first, wrong), calendar), min(now, until))


def _checked(since: float, until: float) -> Window:
    if since >= until:
        raise AdminError("the time ends before it begins, or lies in the future")
    return Window(since, until)


def _date(text: str, wrong: str) -> datetime:
    try:
        return read_time(text, "%Y-%m-%d")
    except ValueError as error:
        raise AdminError(f"{wrong}, not {text}") from error


def _midnight(day: datetime, calendar: Calendar) -> float:
    return day.replace(tzinfo=calendar.zone).timestamp()


def _write_csv(made: Report, calendar: Calendar) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(["hour", *made.hours, "wishes", "denied"])
    for number, (wishes, denied) in enumerate(zip(made.wishes_by_hour, made.denied_by_hour, strict=True)):
        at = calendar.local(made.begin + number * reports.HOUR)
        writer.writerow([at.isoformat(), *(peaks[number] for peaks in made.hours.values()), wishes, denied])


def _show(made: Report, output: Output, calendar: Calendar) -> None:
    begin, end = (f"{calendar.local(at):%Y-%m-%d %H:%M}" for at in (made.since, made.until))
    output.say(f"{made.license} from {begin} to {end} ({calendar.local(made.until):%Z})")
    are_public = any(it.browsers for it in made.uses)
    kinds = ("kind", "limit", "users", *(("without sign-in",) if are_public else ()))
    use = table("In use", (*kinds, "peak", "95 % of hours", "median hour", "busiest hour"))
    for it in made.uses:
        busiest = max(it.by_hour, key=lambda hour: it.by_hour[hour])
        limit = str(made.now.get(it.kind, ""))
        who = (str(it.users), *((str(it.browsers),) if are_public else ()))
        use.add_row(it.kind, limit, *who, str(it.peak), str(it.p95), str(it.median), f"{busiest:02}:00")
    output.show(use)
    output.say(
        f"{made.visits:,} visits; {made.episodes:,} denied wishes ({percent(made.rate)}), of"
        f" {reports.claimants(made.denied_users, made.denied_browsers)}, in {made.attempts:,} attempts"
    )
    output.say(f"below 1 %: {made.below} Session CALs (`calgate cals plan` shows how many to buy)")
    what_if = table("With so many Session CALs", ("CALs", "denied"), ("CALs", "denied"))
    shown = {0, made.now.get("session", 0), max(made.what_if)}
    for cals, denied in made.what_if.items():
        if cals in shown or abs(cals - made.below) <= _SHOWN:
            what_if.add_row(str(cals), str(denied))
    output.show(what_if)
