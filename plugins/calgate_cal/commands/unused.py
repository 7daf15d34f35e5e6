"""`calgate cals unused`: CALs whose owners are gone or disabled, or do not use them."""

import csv
import secrets
import sys
import time
from collections import Counter
from collections.abc import Sequence

import click

from calgate.plugin import Number, spreadsheet_cell
from calgate_cal import unused as cals
from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.commands.command import Output, cal, command, local, table
from calgate_cal.unused import Finding

PENDING = 3  # the exit code for changes that are planned and not made


@command("unused", help="CALs whose owners are gone, disabled, or do not use them. Changes nothing without --apply.")
@click.option("--days", type=Number(1, 3650), default=90, show_default=True, help="unused for that long")
@click.option("--remove", is_flag=True, help="take CALs of owners gone or disabled, and unused ones, away")
@click.option("--apply", "is_applied", is_flag=True, help="with --remove: do it")
@click.option("--csv", "as_csv", is_flag=True, help="for spreadsheets")
async def unused(
    license_admin: LicenseAdmin, output: Output, days: int, remove: bool, is_applied: bool, as_csv: bool
) -> None:
    """Lists them, worst first; with --remove what would be removed, with --apply as well removes it."""
    if is_applied and not remove:
        raise AdminError("--apply goes with --remove")
    holders = {holder.id: holder async for holder in license_admin.holders()}
    found = await cals.find(
        *(holders.values(), license_admin.directory, license_admin.site, license_admin.license),
        days=days,
        now=time.time(),
    )
    planned = [finding for finding in found if remove and finding.is_removed]
    removed = await _remove(license_admin, planned) if is_applied else []
    rows = [_row(finding, removed=finding in removed) for finding in found]
    if as_csv:
        writer = csv.DictWriter(sys.stdout, _COLUMNS)
        writer.writeheader()
        writer.writerows({name: spreadsheet_cell(value) for name, value in row.items()} for row in rows)
    elif output.as_json:
        output.hand(rows)
    else:
        _show(output, license_admin, found)
        if planned:
            output.say(
                f"{len(planned)} CALs {'were removed' if is_applied else 'would be removed; --apply removes them'}"
            )
    if planned and not is_applied:
        raise click.exceptions.Exit(PENDING)


async def _remove(license_admin: LicenseAdmin, planned: Sequence[Finding]) -> list[Finding]:
    """Removes them one by one, each with the run's id in its record."""
    run = license_admin.acting_for(f"unused {secrets.token_hex(3)}")
    for finding in planned:
        await run.remove(finding.holder.user, finding.holder.document or None)
    return list(planned)


_COLUMNS = ("why", "kind", "user", "name", "document", "since", "last_used", "back_at", "removed")


def _row(finding: Finding, *, removed: bool) -> dict[str, object]:
    holder = finding.holder
    return {
        "why": finding.why,
        "kind": holder.kind,
        "user": holder.user,
        "name": holder.name,
        "document": holder.document,
        "since": holder.since,
        "last_used": holder.last_used,
        "back_at": finding.back_at,
        "removed": removed,
    }


def _show(output: Output, admin: LicenseAdmin, found: Sequence[Finding]) -> None:
    if not found:
        output.say("no CAL is unused")
        return
    shown = table(f"Unused CALs of {admin.name}", ("why", "user", "CAL", "since", "last used", "a removal gives back"))
    for finding in found:
        holder = finding.holder
        back = "at once" if finding.back_at is None else local(finding.back_at, admin.zone)
        times = (local(holder.since, admin.zone), local(holder.last_used, admin.zone) or "never")
        shown.add_row(finding.why, holder.name, cal(holder.document or None), *times, back)
    output.show(shown)
    counts = Counter(finding.why for finding in found)
    output.say(", ".join(f"{counts[why]} {why}" for why in cals.ORDER if counts[why]))
