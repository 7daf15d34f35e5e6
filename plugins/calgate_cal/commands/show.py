"""Commands that look: list, who-has, queue."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import tzinfo

import click
from rich.table import Table

from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.commands.command import KIND, NAME, Output, command, local, table
from calgate_cal.replies import KINDS, Holder, State


@command("list", help="Every pool, and the holders of its CALs.")
@click.option("--kind", type=KIND, help="only CALs of this kind")
async def list_(license_admin: LicenseAdmin, output: Output, kind: str | None) -> None:
    """Prints pools and holders."""
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
        return
    zone = license_admin.zone
    pools = _pools(license_admin.name, state, holders, zone)
    output.show(pools, *_allocations(state, holders), _holders(shown, zone))


@command("who-has", help="The CALs of USER, or the holders of CALs for a document.")
@click.argument("user", required=False)
@click.option("--document", type=NAME, help="show the holders of Document and Usage CALs for it")
async def who_has(license_admin: LicenseAdmin, output: Output, user: str | None, document: str | None) -> None:
    """Prints some of the holders. A name without a host means the document on any host."""
    if (user is None) == (document is None):
        raise AdminError("say either a user or --document")
    holders = await _sorted_holders(license_admin)
    if user is not None:
        keys = await license_admin.keys_of(user)
        held = [holder for holder in holders if holder.user in keys]
    else:
        wanted = license_admin.document(document or "")
        held = [holder for holder in holders if wanted in (holder.document, holder.document.rpartition("|")[2])]
    if output.as_json:
        output.hand([asdict(holder) for holder in held])
    elif held:
        output.show(_holders(held, license_admin.zone))
    else:
        output.say(f"{user} holds no CAL" if user else f"nobody holds a CAL for {document}")


@command("queue", help="The users who wait, in order.")
async def queue(license_admin: LicenseAdmin, output: Output) -> None:
    """Prints the queue."""
    waiting = await license_admin.queue()
    if output.as_json:
        output.hand([asdict(waiter) for waiter in waiting])
        return
    if not waiting:
        output.say("nobody waits")
        return
    zone = license_admin.zone
    shown = table("Queue", ("place", "user", "document", "since", "offered", "place kept until"), ("place",))
    for waiter in waiting:
        times = local(waiter.since, zone), local(waiter.kept_until, zone)
        shown.add_row(str(waiter.place), waiter.name, waiter.document, times[0], waiter.offer or "", times[1])
    output.show(shown)


COMMANDS = (list_, who_has, queue)


async def _sorted_holders(license_admin: LicenseAdmin) -> list[Holder]:
    found = {holder.id: holder async for holder in license_admin.holders()}
    named = await license_admin.with_current_names(list(found.values()))
    return sorted(named, key=lambda holder: (KINDS.index(holder.kind), holder.name.casefold(), holder.since))


def _quarantined(holders: Sequence[Holder], kind: str) -> int:
    return sum(holder.kind == kind and holder.state == "quarantined" for holder in holders)


def _pools(name: str, state: State, holders: Sequence[Holder], zone: tzinfo) -> Table:
    numbers = ["in license", "limit", "occupied", "quarantined", "free"]
    has_beyond = any(pool.beyond for pool in state.pools)
    if has_beyond:
        numbers.append("beyond the limit")
    has_anonymous = any(pool.anonymous for pool in state.pools)
    if has_anonymous:
        numbers.append("anonymous")
    shown = table(f"License {name}", ("kind", *numbers, "next free by itself"), numbers)
    for pool in state.pools:
        counts = [pool.in_license, pool.limit, pool.occupied, _quarantined(holders, pool.kind), pool.free]
        if has_beyond:
            counts.append(pool.beyond)
        if has_anonymous:
            counts.append(pool.anonymous)
        shown.add_row(pool.kind, *map(str, counts), local(pool.free_at, zone))
    return shown


def _allocations(state: State, holders: Sequence[Holder]) -> Sequence[Table]:
    if not state.allocations:
        return ()
    shown = table("Document CALs allocated", ("document", "allocated", "out"), ("allocated", "out"))
    for document, cals in state.allocations.items():
        out = sum(holder.kind == "document" and holder.document == document for holder in holders)
        shown.add_row(document, str(cals), str(out))
    return (shown,)


def _holders(holders: Sequence[Holder], zone: tzinfo) -> Table:
    headings = ("kind", "user", "document", "state", "since", "last used", "from", "comes back")
    shown = table("Holders", headings)
    ambiguous = _ambiguous_names(holders)
    for holder in holders:
        user = f"{holder.name} ({holder.user})" if holder.name.casefold() in ambiguous else holder.name
        state = f"{holder.state}, beyond the limit" if holder.beyond else holder.state
        times = (local(holder.since, zone), local(holder.last_used, zone))
        shown.add_row(holder.kind, user, holder.document, state, *times, holder.client, local(holder.until, zone))
    return shown


def _ambiguous_names(holders: Sequence[Holder]) -> set[str]:
    """Returns names that several users have: an account that was deleted and created again is another user."""
    keys: dict[str, set[str]] = {}
    for holder in holders:
        keys.setdefault(holder.name.casefold(), set()).add(holder.user)
    return {name for name, users in keys.items() if len(users) > 1}
