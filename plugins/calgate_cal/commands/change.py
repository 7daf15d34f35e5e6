"""Commands that change: assign, remove, undo, allocate, limit, dynamic, end, import, clock."""

import asyncio
import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path

import click

from calgate.plugin import Number
from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.commands.command import DOCUMENT, KIND, NAME, Output, cal, command, local


@command("assign", help="Give USER a Named CAL, or a Document CAL; or all users of a file, one name per line.")
@click.argument("user", required=False)
@click.option("--file", "names", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="one name per line")
@DOCUMENT
async def assign(
    license_admin: LicenseAdmin, output: Output, user: str | None, names: Path | None, document: str | None
) -> None:
    """Assigns to one user, or to those of a file: each result is printed, and a refusal does not stop the others."""
    if (user is None) == (names is None):
        raise AdminError("say either a user or --file")
    if user is not None:
        await _assign(license_admin, output, user, document)
        return
    assert names is not None
    text = await _text_of(names)
    wanted = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    refused = 0
    for each in wanted:
        try:
            await _assign(license_admin, output, each, document)
        except AdminError as error:
            refused += 1
            output.say(f"{each}: {error}", declined=each, reason=str(error))
    if refused:
        raise AdminError(f"{refused} of {len(wanted)} were not assigned")


async def _assign(license_admin: LicenseAdmin, output: Output, user: str, document: str | None) -> None:
    """Assigns, and says so if no access rule ever lets the user use the CAL."""
    if document is not None:
        document = license_admin.document(document)
    name = await license_admin.assign(user, document)
    if await license_admin.could_use(user):
        output.say(f"{name} has a {cal(document)} now", assigned=name, document=document)
        return
    output.say(
        f"{name} has a {cal(document)} now, but no access rule lets this user in; add a rule, or remove the CAL",
        assigned=name,
        document=document,
        no_rule=True,
    )


@command("remove", help="Take USER's Named CAL away, or a Document CAL. A used CAL is quarantined first.")
@click.argument("user")
@DOCUMENT
async def remove(license_admin: LicenseAdmin, output: Output, user: str, document: str | None) -> None:
    """Removes a CAL: quarantined if it was used, else free at once."""
    name, until = await license_admin.remove(user, document)
    after = f"in quarantine until {local(until, license_admin.zone)}" if until else "free at once"
    output.say(f"{name}'s {cal(document)} is {after}", removed=name, document=document, quarantine=until)


@command("undo", help="Give USER back what was removed, while the quarantine lasts.")
@click.argument("user")
@DOCUMENT
async def undo(license_admin: LicenseAdmin, output: Output, user: str, document: str | None) -> None:
    """Takes a removal back."""
    name = await license_admin.undo(user, document)
    output.say(f"{name} has the {cal(document)} again", undone=name, document=document)


@command("allocate", help="Let COUNT of the Document CALs be given out for DOCUMENT, or for HOST|DOCUMENT.")
@click.argument("document", type=NAME)
@click.argument("count", type=Number(0, 1_000_000))
async def allocate(license_admin: LicenseAdmin, output: Output, document: str, count: int) -> None:
    """Sets how many Document CALs a document has."""
    document = await license_admin.allocate(document, count)
    output.say(f"{document} has {count} Document CALs allocated", document=document, allocated=count)


@command("limit", help="Let at most COUNT CALs of KIND be in use; `default`: as many as the settings file says.")
@click.argument("kind", type=KIND)
@click.argument("count")
async def limit(license_admin: LicenseAdmin, output: Output, kind: str, count: str) -> None:
    """Sets a limit. A lower limit takes nothing away: no new grants until enough CALs have come back."""
    if count != "default" and not (count.isascii() and count.isdigit()):
        raise AdminError(f"a limit is a number or `default`, not {count}")
    wanted = None if count == "default" else int(count)
    await license_admin.limit(kind, wanted)
    value = "what the settings file says" if wanted is None else str(wanted)
    output.say(f"the limit of {kind} is {value} now", kind=kind, limit=wanted)


@command("dynamic", help="Assign CALs of KIND to users who need one without an administrator, or stop that.")
@click.argument("kind", type=click.Choice(["named", "document"]))
@click.argument("switch", type=click.Choice(["on", "off", "default"]))
@click.option("--document", type=NAME, help="for this document only")
async def dynamic(license_admin: LicenseAdmin, output: Output, kind: str, switch: str, document: str | None) -> None:
    """Switches dynamic assignment at run time."""
    if document and kind != "document":
        raise AdminError("--document goes with Document CALs")
    document = license_admin.document(document) if document else None
    await license_admin.dynamic(kind, {"on": True, "off": False, "default": None}[switch], document)
    of = f" for {document}" if document else ""
    output.say(f"dynamic assignment of {kind}{of} is {switch} now", kind=kind, document=document, dynamic=switch)


@command("end", help="End USER's Session CALs as if they had signed out: the minimum still counts, unless --force.")
@click.argument("user")
@click.option("--client", help="only on this client, as `list` shows it")
@click.option("--force", is_flag=True, help="free at once; recorded as forced")
async def end(license_admin: LicenseAdmin, output: Output, user: str, client: str | None, force: bool) -> None:
    """Ends Session CALs; every gateway drops them within a second."""
    for holder, until in await license_admin.end(user, client, force=force):
        when = f"comes back at {local(until, license_admin.zone)}" if until else "is free"
        output.say(f"{holder.name}'s Session CAL from {holder.client} {when}", ended=holder.name, until=until)


@command("clock", help="Accept the store's present clock as right, after a time in which it was ahead.")
async def clock(license_admin: LicenseAdmin, output: Output) -> None:
    """Moves records and uses that lie in the future to the present."""
    changed = await license_admin.set_clock()
    if changed is None:
        output.say("no record is ahead of the store's clock; nothing was changed", corrected=0, moved=0)
        return
    corrected, moved = changed
    sentence = (
        f"the store's clock is accepted as right: {corrected} CALs corrected, {moved} records moved to the present"
    )
    output.say(sentence, corrected=corrected, moved=moved)


@command("import", help="Put an export back into a license without permanent state.")
@click.argument("file_in", metavar="EXPORT", type=click.Path(path_type=Path, exists=True, dir_okay=False))
async def import_(license_admin: LicenseAdmin, output: Output, file_in: Path) -> None:
    """Restores what `export` wrote."""
    try:
        saved = json.loads(await _text_of(file_in))
    except ValueError as error:
        raise AdminError(f"{file_in} is not JSON: {error}") from error
    if not isinstance(saved, dict):
        raise AdminError(f"{file_in} is not an export")
    cals = await license_admin.restore(saved)
    output.say(f"{cals} CALs are back", restored=cals)


async def _text_of(file: Path) -> str:
    """Reads a text file; Windows' editors put a byte order mark in front, and PowerShell's `>` writes UTF-16."""
    try:
        content = await asyncio.to_thread(file.read_bytes)
        return content.decode("utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
    except OSError as error:
        raise AdminError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AdminError(f"{file} is neither UTF-8 nor UTF-16 with a byte order mark; save it as UTF-8") from error


COMMANDS = (assign, remove, undo, allocate, limit, dynamic, end, clock, import_)
