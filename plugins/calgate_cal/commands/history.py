"""Commands about past decisions: log, explain, export."""

import csv
import math
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo

import click

from calgate.plugin import read_time, spreadsheet_cell
from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.audit import DENIALS, Record
from calgate_cal.commands.command import Output, command, duration, local, table
from calgate_cal.names import fold_reference
from calgate_cal.reasons import WHY


@command("log", help="Every decision and change.")
@click.option("--since", default="7d", show_default=True, help="how far back, as 7d, 12h, 30m")
@click.option("--user", help="only about this user")
@click.option("--what", help="only this: granted, denied, assigned, …")
@click.option("--csv", "as_csv", is_flag=True, help="for spreadsheets")
async def log(
    license_admin: LicenseAdmin, output: Output, since: str, user: str | None, what: str | None, as_csv: bool
) -> None:
    """Prints the records of a time."""
    keys = await license_admin.keys_of(user) if user else ()
    records = [
        record
        async for record in license_admin.records(time.time() - duration(since))
        if what in (None, record.what) and (user is None or license_admin.is_about(record, user, keys))
    ]
    if as_csv:
        _write_csv(records, license_admin.zone)
    elif output.as_json:
        output.hand([{"at": record.at, "what": record.what, "id": record.id, **record.facts} for record in records])
    else:
        headings = ("at", "what", "kind", "user", "document", "from", "by", "reference")
        shown = table(f"Log of {license_admin.name}", headings)
        for record in records:
            facts = [record[name] for name in ("kind", "name", "document", "client", "by", "reference")]
            shown.add_row(local(record.at, license_admin.zone), record.what, *facts)
        output.show(shown)


_COLUMNS = (
    *("at", "what", "kind", "name", "user", "client", "document", "code", "cals", "reference", "by"),
    *("lease", "used", "ended", "waited", "id"),
)
_TIMES = frozenset({"used", "ended"})  # milliseconds in the records


def _write_csv(records: Sequence[Record], zone: tzinfo) -> None:
    """Writes times in ISO 8601 with their offset, and nothing that a spreadsheet would run."""
    writer = csv.DictWriter(sys.stdout, _COLUMNS)
    writer.writeheader()
    for record in records:
        row = {name: record[name] for name in _COLUMNS} | {"what": record.what, "id": record.id}
        row |= {name: _iso(int(row[name]) / 1000, zone) for name in _TIMES if row[name].isdigit()}
        row["at"] = _iso(record.at, zone)
        writer.writerow({name: spreadsheet_cell(value) for name, value in row.items()})


def _iso(at: float, zone: tzinfo) -> str:
    return datetime.fromtimestamp(at, zone).isoformat(timespec="milliseconds")


@command("explain", help="Why USER was denied: every pool as it was. The last denial, or the one at a time.")
@click.argument("user")
@click.option("--at", "at", help="about when: 10:42, or 2026-01-10 10:42, in this site's time zone")
@click.option("--reference", help="the reference number on the page")
async def explain(
    license_admin: LicenseAdmin, output: Output, user: str, at: str | None, reference: str | None
) -> None:
    """Prints the denial nearest to a time, else the last."""
    denial = await _denial(license_admin, user, at, reference)
    zone = license_admin.zone
    if output.as_json:
        output.hand({"at": denial.at, **denial.facts, "pools": denial.pools})
        return
    output.say(
        f"{denial['name']} was denied {denial['document']} at {local(denial.at, zone)} from {denial['client']}"
        f" (reference {denial['reference']}, {denial['code']})"
    )
    shown = table("The pools then", ("kind", "limit", "occupied", "why not", "next free"), ("limit", "occupied"))
    for pool in denial.pools:
        free_at = pool.get("free_at")
        numbers = (str(pool["limit"]), str(pool["occupied"]))
        why = WHY.get(pool["note"], pool["note"])
        shown.add_row(pool["kind"], *numbers, why, local(free_at / 1000 if free_at else None, zone))
    output.show(shown)


async def _denial(license_admin: LicenseAdmin, user: str, at: str | None, reference: str | None) -> Record:
    """Finds the denial. A waiting page shows a reference for each poll, of which only the first is a denial's."""
    wanted = None if at is None else _moment(at, license_admin.zone)
    keys = await license_admin.keys_of(user)
    records = [record async for record in license_admin.records(0) if license_admin.is_about(record, user, keys)]
    until = math.inf
    if reference is not None:
        until = await _time_of(reference, records, license_admin)
    denials = [record for record in records if record.what in DENIALS and record.at <= until]
    if not denials:
        raise AdminError(
            f"no denial of {user} is on record" + (f" with the reference {reference}" if reference else "")
        )
    return denials[-1] if wanted is None else min(denials, key=lambda denial: abs(denial.at - wanted))


async def _time_of(reference: str, records: Sequence[Record], license_admin: LicenseAdmin) -> float:
    """Returns when a reference was used; -inf if it never was."""
    folded = fold_reference(reference)
    for record in records:
        if folded and fold_reference(record["reference"]) == folded:
            return record.at
    waiting = [
        waiter for waiter in await license_admin.queue() if folded and fold_reference(waiter.reference) == folded
    ]
    return time.time() if waiting else -math.inf


@command("export", help="All permanent state as JSON: Named, Document and Usage CALs, limits, allocations.")
async def export(license_admin: LicenseAdmin, output: Output) -> None:
    """Prints the state for `import`, or for safekeeping."""
    output.hand(await license_admin.export())


COMMANDS = (log, explain, export)


def _moment(text: str, zone: tzinfo) -> float:
    """Reads a time of this site's zone; without a date, the last time that its clocks showed it."""
    for form in ("%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%H:%M"):
        try:
            given = read_time(text, form).replace(tzinfo=zone)
        except ValueError:
            continue
        if form != "%H:%M":
            return given.timestamp()
        now = datetime.now(zone)
        today = now.replace(hour=given.hour, minute=given.minute, second=0, microsecond=0)
        return (today if today <= now else today - timedelta(days=1)).timestamp()  # by the wall clock, across a change
    raise AdminError(f"a time is written like 10:42 or 2026-01-10 10:42, not {text}")
