"""Keeps Named CALs in step with a group: who should get one, and who should lose one that a sync gave."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from calgate.plugin import AccountRefused, Directory, GroupMembers, Person
from calgate_cal import lua, people
from calgate_cal.admin import AdminError
from calgate_cal.audit import Record
from calgate_cal.replies import Holder


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a plan."""

    what: Literal["assign", "undo", "remove"]
    user: str  # key
    name: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes of a sync, in the order in which it makes them."""

    changes: Sequence[Change]
    short: int  # members for whom no CAL is free
    disabled: int  # members whose accounts cannot sign in: they get none


async def plan(
    group: str,
    directory: Directory | None,
    holders: Iterable[Holder],
    records: Iterable[Record],
    *,
    free: int,
    remove: bool,
) -> Plan:
    """Compares a group with the Named CALs. Raises AdminError for a group that is unknown or empty, and Unavailable."""
    if directory is None or not isinstance(directory, GroupMembers):
        raise AdminError("sync: no directory can list the members of a group; add [users] or [ldap]")
    keys = await directory.members_of(group)
    identifier = (await directory.resolve([group]))[group]
    if keys is None or identifier is None:
        raise AdminError(f"sync: the directory has no group {group}; nothing is changed")
    if not keys:
        raise AdminError(
            f"sync: the group {group} has no members; nothing is changed, since that is more often an error"
        )
    members, disabled = await _people(directory, keys, identifier)
    named = {holder.user: holder for holder in holders if holder.kind == "named"}
    wanted = [person for person in members if not _serves(named.get(lua.part(person.key)))]
    back = [person for person in wanted if lua.part(person.key) in named]  # in quarantine: the removal is undone
    new = [person for person in wanted if lua.part(person.key) not in named]
    lost = await _lost(group, identifier, directory, named.values(), records) if remove else []
    changes = [
        *(Change("remove", holder.user, holder.name) for holder in lost),
        *(Change("undo", lua.part(person.key), person.name) for person in back),
        *(Change("assign", lua.part(person.key), person.name) for person in new[: max(0, free)]),
    ]
    return Plan(changes, max(0, len(new) - max(0, free)), disabled)


def run_name(group: str, run: str) -> str:
    """Returns the text about the run that is in the record of each of its changes."""
    return f"sync {group} {run}"


async def _people(directory: Directory, keys: Sequence[str], identifier: str) -> tuple[list[Person], int]:
    """Looks every member up as a sign-in would; the list alone decides nothing."""
    found, disabled = list[Person](), 0
    for key in keys:
        try:
            person = await people.look_up(directory, key)
        except AccountRefused:
            disabled += 1
            continue
        if person is not None and identifier in person.groups:
            found.append(person)
    return sorted(found, key=lambda person: (person.name.casefold(), person.key)), disabled


def _is_of(by: str, group: str) -> bool:
    """Whether a record was made by a sync of this group: its last word names the run."""
    return by.rpartition(" ")[0].casefold().endswith(f" sync {group}".casefold())


def _serves(holder: Holder | None) -> bool:
    return holder is not None and holder.state != "quarantined"


async def _lost(
    group: str, identifier: str, directory: Directory, named: Iterable[Holder], records: Iterable[Record]
) -> list[Holder]:
    """Owners who are members no longer, of CALs that a sync of this group gave.

    Owners who are gone or disabled are left to `unused`, and one whom the directory cannot tell about raises
    Unavailable: an error is never an absence.
    """
    given = {record.id for record in records if record.what == "assigned" and _is_of(record["by"], group)}
    lost = []
    for holder in sorted(named, key=lambda holder: (holder.name.casefold(), holder.user)):
        if holder.id not in given or not _serves(holder):
            continue
        try:
            person = await people.look_up(directory, holder.user)
        except AccountRefused:
            continue
        if person is not None and identifier not in person.groups:
            lost.append(holder)
    return lost
