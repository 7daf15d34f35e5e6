"""Changing: assign, remove, undo, allocate, limit, dynamic, end, import."""

import asyncio
import json
from pathlib import Path

import click

from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.commands.command import DOCUMENT, KIND, NAME, Output, cal, command, local


@command("assign", help="Give USER a Named CAL, or a Document CAL; or everybody of a file, a name a line.")
@click.argument("user", required=False)
@click.option("--file", "names", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="a name a line")
@DOCUMENT
async def assign(
    license_admin: LicenseAdmin, output: Output, user: str | None, names: Path | None, document: str | None
) -> None:
    """One user, or a file of them: each is told, and one that is declined does not stop the rest."""
    if (user is None) == (names is None):
        raise AdminError("say either a user or --file")
    if user is not None:
        name = await license_admin.assign(user, document)
        output.say(f"{name} has a {cal(document)} now", assigned=name, document=document)
        return
    assert names is not None
    text = await _text_of(names)
    wanted = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    declined = 0
    for each in wanted:
        try:
            name = await license_admin.assign(each, document)
            output.say(f"{name} has a {cal(document)} now", assigned=name, document=document)
        except AdminError as no:
            declined += 1
            output.say(f"{each}: {no}", declined=each, reason=str(no))
    if declined:
        raise AdminError(f"{declined} of {len(wanted)} were not assigned")


@command("remove", help="Take USER's Named CAL away, or a Document CAL. If it was used, it is in quarantine.")
@click.argument("user")
@DOCUMENT
async def remove(license_admin: LicenseAdmin, output: Output, user: str, document: str | None) -> None:
    """Used: in quarantine; never used: gone."""
    name, until = await license_admin.remove(user, document)
    after = f"in quarantine until {local(until)}" if until else "free at once"
    output.say(f"{name}'s {cal(document)} is {after}", removed=name, document=document, quarantine=until)


@command("undo", help="Give USER back what was removed, while the quarantine lasts.")
@click.argument("user")
@DOCUMENT
async def undo(license_admin: LicenseAdmin, output: Output, user: str, document: str | None) -> None:
    """Takes a removal back."""
    name = await license_admin.undo(user, document)
    output.say(f"{name} has the {cal(document)} again", undone=name, document=document)


@command("allocate", help="Let COUNT of the Document CALs be given out for DOCUMENT.")
@click.argument("document", type=NAME)
@click.argument("count", type=click.IntRange(0, 1_000_000))
async def allocate(license_admin: LicenseAdmin, output: Output, document: str, count: int) -> None:
    """How many Document CALs a document has."""
    await license_admin.allocate(document, count)
    output.say(f"{document} has {count} Document CALs allocated", document=document, allocated=count)


@command("limit", help="Let at most COUNT of KIND be out; `default` for what the settings file says.")
@click.argument("kind", type=KIND)
@click.argument("count")
async def limit(license_admin: LicenseAdmin, output: Output, kind: str, count: str) -> None:
    """Lowering takes nothing away: no new grants until enough have come back."""
    if count != "default" and not (count.isascii() and count.isdigit()):
        raise AdminError(f"a limit is a number or `default`, not {count}")
    wanted = None if count == "default" else int(count)
    await license_admin.limit(kind, wanted)
    said = "what the settings file says" if wanted is None else str(wanted)
    output.say(f"the limit of {kind} is {said} now", kind=kind, limit=wanted)


@command("dynamic", help="Assign CALs of KIND by themselves to whoever comes, or stop that.")
@click.argument("kind", type=click.Choice(["named", "document"]))
@click.argument("switch", type=click.Choice(["on", "off", "default"]))
@click.option("--document", type=NAME, help="for this document only")
async def dynamic(license_admin: LicenseAdmin, output: Output, kind: str, switch: str, document: str | None) -> None:
    """Dynamic assignment while the gateway runs."""
    if document and kind != "document":
        raise AdminError("--document goes with Document CALs")
    await license_admin.dynamic(kind, {"on": True, "off": False, "default": None}[switch], document)
    of = f" for {document}" if document else ""
    output.say(f"dynamic assignment of {kind}{of} is {switch} now", kind=kind, document=document, dynamic=switch)


@command("end", help="End USER's Session CALs as if he had signed out: the minimum still counts, unless --force.")
@click.argument("user")
@click.option("--client", help="only on this client, as `list` shows it")
@click.option("--force", is_flag=True, help="free at once; recorded as forced")
async def end(license_admin: LicenseAdmin, output: Output, user: str, client: str | None, force: bool) -> None:
    """Every gateway forgets it within a second."""
    for holder, until in await license_admin.end(user, client, force=force):
        when = f"comes back at {local(until)}" if until else "is free"
        output.say(f"{holder.name}'s Session CAL from {holder.client} {when}", ended=holder.name, until=until)


@command("import", help="Put an export back into a license without permanent state.")
@click.argument("file_in", metavar="EXPORT", type=click.Path(path_type=Path, exists=True, dir_okay=False))
async def import_(license_admin: LicenseAdmin, output: Output, file_in: Path) -> None:
    """What `export` wrote."""
    try:
        saved = json.loads(await _text_of(file_in))
    except ValueError as error:
        raise AdminError(f"{file_in} is not JSON: {error}") from error
    if not isinstance(saved, dict):
        raise AdminError(f"{file_in} is not an export")
    cals = await license_admin.restore(saved)
    output.say(f"{cals} CALs are back", restored=cals)


async def _text_of(file: Path) -> str:
    try:
        return await asyncio.to_thread(file.read_text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AdminError(f"{file} cannot be read: {error}") from error


COMMANDS = (assign, remove, undo, allocate, limit, dynamic, end, import_)
