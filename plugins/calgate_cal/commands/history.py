"""What was decided: log, explain, export."""

import csv
import sys
import time
from datetime import UTC, datetime

import click

from calgate.plugin import parse_duration
from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.audit import DENIALS, Record
from calgate_cal.commands.command import Output, command, local, table

_WHY = {
    "full": "all are out",
    "promised": "what is free is kept for people who wait",
    "reserved": "what is free is reserved for other groups",
    "capped": "the user's group has all that it may have at once",
    "quarantined": "the user's own is in quarantine",
    "not-assigned": "none is assigned to the user, and he gets none by himself",
    "not-allocated": "none is allocated to the document",
    "in-use-elsewhere": "the user's own is in use on another machine",
    "taken-over": "another machine of the user took it over",
}


@command("log", help="Every decision and change.")
@click.option("--since", default="7d", show_default=True, help="how far back, as 7d, 12h, 30m")
@click.option("--user", help="only about this user")
@click.option("--what", help="only this: granted, denied, assigned, …")
@click.option("--csv", "as_csv", is_flag=True, help="for spreadsheets")
async def log(
    license_admin: LicenseAdmin, output: Output, since: str, user: str | None, what: str | None, as_csv: bool
) -> None:
    """The records of a time."""
    records = [it async for it in license_admin.records(time.time() - _duration(since)) if _is_about(it, user, what)]
    rows = [{"at": it.at, "what": it.what, "id": it.id, **it.facts} for it in records]
    if as_csv:
        names = ("at", "what", "kind", "name", "user", "client", "document", "reference", "by", "lease", "id")
        writer = csv.DictWriter(sys.stdout, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    elif output.as_json:
        output.hand(rows)
    else:
        shown = table(
            f"Log of {license_admin.name}", ("at", "what", "kind", "user", "document", "from", "by", "reference")
        )
        for it in records:
            who = (it["kind"], it["name"], it["document"], it["client"], it["by"], it["reference"])
            shown.add_row(local(it.at), it.what, *who)
        output.show(shown)


@command("explain", help="Why USER was denied: every pool as it was. The last denial, or the one at a time.")
@click.argument("user")
@click.option("--at", "at", help="about when: 10:42, or 2026-01-10 10:42")
@click.option("--reference", help="the reference number on the page")
async def explain(
    license_admin: LicenseAdmin, output: Output, user: str, at: str | None, reference: str | None
) -> None:
    """The nearest denial to a time, else the last."""
    denials = [it async for it in license_admin.records(0) if it.what in DENIALS and _is_about(it, user, None)]
    if reference is not None:
        denials = [it for it in denials if it["reference"] == reference]
    if not denials:
        raise AdminError(f"no denial of {user} is on record")
    wanted = _moment(at) if at else denials[-1].at
    denial = min(denials, key=lambda it: abs(it.at - wanted))
    if output.as_json:
        output.hand({"at": denial.at, **denial.facts, "pools": denial.pools})
        return
    output.say(
        f"{denial['name']} was denied {denial['document']} at {local(denial.at)} from {denial['client']}"
        f" (reference {denial['reference']}, {denial['code']})"
    )
    shown = table("The pools then", ("kind", "limit", "occupied", "why not", "next free"), ("limit", "occupied"))
    for pool in denial.pools:
        free_at = pool.get("free_at")
        figures = (str(pool["limit"]), str(pool["occupied"]))
        why = _WHY.get(pool["note"], pool["note"])
        shown.add_row(pool["kind"], *figures, why, local(free_at / 1000 if free_at else None))
    output.show(shown)


@command("export", help="All permanent state as JSON: Named, Document and Usage CALs, limits, allocations.")
async def export(license_admin: LicenseAdmin, output: Output) -> None:
    """For `import`, or for safe keeping."""
    output.hand(await license_admin.export())


COMMANDS = (log, explain, export)


def _is_about(record: Record, user: str | None, what: str | None) -> bool:
    name = record["name"].casefold()
    names = (name, name.partition("\\")[2], record["user"].casefold())
    return (user is None or user.casefold() in names) and what in (None, record.what)


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise AdminError(str(error)) from error


def _moment(text: str) -> float:
    """A local time; without a date the last time the clock showed it."""
    for form in ("%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%H:%M"):
        try:
            given = datetime.strptime(text, form).astimezone()
        except ValueError:
            continue
        if form != "%H:%M":
            return given.timestamp()
        today = datetime.now(UTC).astimezone().replace(hour=given.hour, minute=given.minute, second=0)
        at = today.timestamp()
        return at if at <= time.time() else at - 86400
    raise AdminError(f"a time is written like 10:42 or 2026-01-10 10:42, not {text}")


def _harmless(value: object) -> object:
    """A spreadsheet runs what begins like a formula, and a user or document name may."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
