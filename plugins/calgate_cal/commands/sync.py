"""`calgate cals sync`: Named CALs in step with a group."""

import secrets
from collections.abc import Sequence

import click

from calgate_cal import sync as syncing
from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.commands.command import Output, command
from calgate_cal.commands.unused import PENDING
from calgate_cal.sync import Plan

_DONE = {"assign": "has a Named CAL now", "undo": "has the Named CAL again", "remove": "no longer has a Named CAL"}
_PLANNED = {"assign": "would get a Named CAL", "undo": "would get the Named CAL back", "remove": "would lose it"}


class MaxChanges(click.ParamType[tuple[float, bool]]):
    """A number of changes, or a share of the Named CALs: 10 or 10%."""

    name = "number or percent"

    def convert(
        self, value: str | tuple[float, bool], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, bool]:
        if isinstance(value, tuple):
            return value
        number, is_share = value.removesuffix("%"), value.endswith("%")
        if not (number.isascii() and number.isdigit()):
            self.fail(f"write 10 or 10%, not {value}", param, ctx)
        return float(number), is_share


@command("sync", help="Give the members of a group Named CALs. Changes nothing without --apply.")
@click.option("--group", help="the group; default: named.group of the license")
@click.option("--remove", is_flag=True, help="take CALs of former members away that a sync of this group gave")
@click.option(
    "--max-changes", type=MaxChanges(), default="10", show_default=True, help="stop if there are more: 10, 10%"
)
@click.option("--apply", "is_applied", is_flag=True, help="do it")
async def sync(
    license_admin: LicenseAdmin,
    output: Output,
    group: str | None,
    remove: bool,
    max_changes: tuple[float, bool],
    is_applied: bool,
) -> None:
    """Shows the plan, and with --apply carries it out."""
    wanted = group or license_admin.license.named.group
    if wanted is None:
        raise AdminError("sync: no group; say --group, or set named.group in the license")
    run = secrets.token_hex(3)
    async with license_admin.only_run("sync", run):
        plan = await _plan(license_admin, wanted, remove=remove)
        _check(plan, license_admin, max_changes, is_applied=is_applied)
        if is_applied:
            await _apply(license_admin.acting_for(syncing.run_name(wanted, run)), plan)
    _show(output, plan, is_applied=is_applied)
    if plan.changes and not is_applied:
        raise click.exceptions.Exit(PENDING)


async def _plan(license_admin: LicenseAdmin, group: str, *, remove: bool) -> Plan:
    holders = {holder.id: holder async for holder in license_admin.holders()}
    records = [record async for record in license_admin.records(0) if record.what == "assigned"] if remove else []
    free = next(pool.free for pool in (await license_admin.state()).pools if pool.kind == "named")
    return await syncing.plan(
        *(group, license_admin.directory, list(holders.values()), records), free=free, remove=remove
    )


def _check(plan: Plan, license_admin: LicenseAdmin, most: tuple[float, bool], *, is_applied: bool) -> None:
    number, is_share = most
    allowed = number * license_admin.license.named.in_license / 100 if is_share else number
    if is_applied and len(plan.changes) > allowed:
        raise AdminError(
            f"sync: {len(plan.changes)} changes are more than --max-changes allows ({allowed:.0f}); nothing is changed"
        )


async def _apply(admin: LicenseAdmin, plan: Plan) -> None:
    for change in plan.changes:
        if change.what == "remove":
            await admin.remove(change.user)
        elif change.what == "undo":
            await admin.undo(change.user)
        else:
            await admin.assign(change.user)


def _show(output: Output, plan: Plan, *, is_applied: bool) -> None:
    if output.as_json:
        rows: Sequence[dict[str, str]] = [
            {"what": change.what, "user": change.user, "name": change.name} for change in plan.changes
        ]
        output.hand({"applied": is_applied, "changes": rows, "short": plan.short, "disabled": plan.disabled})
        return
    said = _DONE if is_applied else _PLANNED
    for change in plan.changes:
        output.say(f"{change.name} {said[change.what]}")
    if plan.short:
        output.say(f"{_members(plan.short)} none: no Named CAL is free for them")
    if plan.disabled:
        what = "the account is" if plan.disabled == 1 else "their accounts are"
        output.say(f"{_members(plan.disabled)} none: {what} disabled, expired or locked")
    if not plan.changes:
        output.say("nothing to do")
    elif not is_applied:
        output.say(f"{len(plan.changes)} changes; --apply makes them")


def _members(number: int) -> str:
    return "1 member gets" if number == 1 else f"{number} members get"
