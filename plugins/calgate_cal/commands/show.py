"""Looking: list, who-has, queue."""

from collections.abc import Sequence
from dataclasses import asdict

import click
from rich.table import Table

from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.commands.command import KIND, NAME, Output, command, local, table
from calgate_cal.replies import KINDS, Holder, State


@command("list", help="Every pool, and who holds what.")
@click.option("--kind", type=KIND, help="only these")
async def list_(license_admin: LicenseAdmin, output: Output, kind: str | None) -> None:
    """Pools and holders."""
    state = await license_admin.state()
    holders = await _sorted_holders(license_admin)
    shown = [holder for holder in holders if kind in (None, holder.kind)]
    if output.as_json:
        output.hand(
            {
                "license": license_admin.name,
                "now": state.now,
                "pools": [
                    asdict(pool) | {"free": pool.free, "quarantined": _quarantined(holders, pool.kind)}
                    for pool in state.pools
                ],
                "allocations": state.allocations,
                "holders": [asdict(holder) for holder in shown],
            }
        )
    else:
        output.show(_pools(license_admin.name, state, holders), *_allocations(state, holders), _holders(shown))


@command("who-has", help="What USER holds, or who holds something for a document.")
@click.argument("user", required=False)
@click.option("--document", type=NAME, help="who holds a Document or Usage CAL for it")
async def who_has(license_admin: LicenseAdmin, output: Output, user: str | None, document: str | None) -> None:
    """Some of the holders."""
    if (user is None) == (document is None):
        raise AdminError("say either a user or --document")
    held = [it for it in await _sorted_holders(license_admin) if _is_of(it, user) and document in (None, it.document)]
    if output.as_json:
        output.hand([asdict(holder) for holder in held])
    elif held:
        output.show(_holders(held))
    else:
        output.say(f"{user} holds no CAL" if user else f"nobody holds a CAL for {document}")


@command("queue", help="Who waits, in order.")
async def queue(license_admin: LicenseAdmin, output: Output) -> None:
    """The queue."""
    waiting = await license_admin.queue()
    if output.as_json:
        output.hand([asdict(waiter) for waiter in waiting])
        return
    if not waiting:
        output.say("nobody waits")
        return
    shown = table("Queue", ("place", "user", "document", "since", "offered", "place kept until"), ("place",))
    for it in waiting:
        kept = local(it.kept_until)
        shown.add_row(str(it.place), it.name, it.document, local(it.since), it.offer or "", kept)
    output.show(shown)


COMMANDS = (list_, who_has, queue)


async def _sorted_holders(license_admin: LicenseAdmin) -> list[Holder]:
    found = {holder.id: holder async for holder in license_admin.holders()}
    return sorted(found.values(), key=lambda it: (KINDS.index(it.kind), it.name.casefold(), it.since))


def _is_of(holder: Holder, user: str | None) -> bool:
    names = (holder.name.casefold(), holder.name.casefold().partition("\\")[2], holder.user.casefold())
    return user is None or user.casefold() in names


def _quarantined(holders: Sequence[Holder], kind: str) -> int:
    return sum(holder.kind == kind and holder.state == "quarantined" for holder in holders)


def _pools(name: str, state: State, holders: Sequence[Holder]) -> Table:
    figures = ("in license", "limit", "occupied", "quarantined", "free")
    shown = table(f"License {name}", ("kind", *figures, "next free by itself"), figures)
    for pool in state.pools:
        counts = (pool.in_license, pool.limit, pool.occupied, _quarantined(holders, pool.kind), pool.free)
        shown.add_row(pool.kind, *map(str, counts), local(pool.free_at))
    return shown


def _allocations(state: State, holders: Sequence[Holder]) -> Sequence[Table]:
    if not state.allocations:
        return ()
    shown = table("Document CALs allocated", ("document", "allocated", "out"), ("allocated", "out"))
    for document, cals in state.allocations.items():
        out = sum(holder.kind == "document" and holder.document == document for holder in holders)
        shown.add_row(document, str(cals), str(out))
    return (shown,)


def _holders(holders: Sequence[Holder]) -> Table:
    headings = ("kind", "user", "document", "state", "since", "last used", "from", "comes back")
    shown = table("Holders", headings)
    for it in holders:
        times = (local(it.since), local(it.last_used))
        shown.add_row(it.kind, it.name, it.document, it.state, *times, it.client, local(it.until))
    return shown
