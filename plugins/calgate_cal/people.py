"""Finds the user that an administrator means: by key, by present or former name, in the directory or among holders."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from calgate.plugin import Directory, Person, Refusal, Unavailable, identity_of
from calgate_cal import lua
from calgate_cal.names import normalize, spellings
from calgate_cal.replies import Holder


@dataclass(frozen=True, slots=True)
class Found:
    """A user who was found."""

    key: str  # as the store has it
    name: str
    in_directory: bool
    held: Sequence[Holder]

    def describe(self) -> str:
        """Returns the text that distinguishes this user from another of the same name."""
        kinds = ", ".join(sorted({holder.kind.capitalize() for holder in self.held}))
        where = "in the directory" if self.in_directory else "not in the directory under this name"
        return f"{self.key} ({self.name}, {where}, {f'holds {kinds}' if kinds else 'holds no CAL'})"


async def look_up(directory: Directory | None, written: str) -> Person | None:
    """Returns the directory's user of a name or SID, None if there is none. Raises AccountRefused or Unavailable."""
    return None if directory is None else await directory.look_up(identity_of(written))


async def find(directory: Directory | None, written: str, holders: Iterable[Holder]) -> Sequence[Found]:
    """Returns every user whom the written name can mean: holders by their keys and names, and the directory's user.

    A key means its user alone. Raises Unavailable if the directory is away and no holder has the name as key.
    """
    held = _matching(written, holders)
    if _is_key(written, held):
        return _found(held, None)
    try:
        person = await look_up(directory, written)
    except Unavailable:
        raise
    except Refusal:  # disabled or expired: the holder is known by their lease
        person = None
    return _found(held, person)


def with_keys(keys: Collection[str], holders: Iterable[Holder]) -> Sequence[Found]:
    """Returns the users with these keys who hold something."""
    held: dict[str, list[Holder]] = {}
    for holder in holders:
        if holder.user in keys:
            held.setdefault(holder.user, []).append(holder)
    return _found(held, None)


async def current_names(directory: Directory, keys: Collection[str]) -> Mapping[str, str]:
    """Returns the directory's names for SIDs. Skips users who are gone, disabled or cannot be looked up now."""
    names = {}
    for key in sorted(keys):
        try:
            person = await look_up(directory, key)
        except Unavailable:
            break
        except Refusal:
            continue
        if person is not None and lua.part(person.key).casefold() == key.casefold():
            names[key] = person.name
    return names


def renamed(holder: Holder, name: str) -> Holder:
    """Returns the holder under this name; the name before joins the former ones."""
    return holder if holder.name == name else replace(holder, name=name, names=(*holder.names, holder.name))


def matches(holder: Holder, wanted: str) -> bool:
    """Returns whether a normalized name is one that the holder has or had."""
    names = (holder.name, *holder.names)
    return any(wanted in spellings(name, holder.user) for name in names)


def _matching(written: str, holders: Iterable[Holder]) -> Mapping[str, list[Holder]]:
    wanted = normalize(written)
    held: dict[str, list[Holder]] = {}
    for holder in holders:
        if matches(holder, wanted):
            held.setdefault(holder.user, []).append(holder)
    return held


def _is_key(written: str, held: Mapping[str, list[Holder]]) -> bool:
    return len(held) == 1 and next(iter(held)).casefold() == written.strip().casefold()


def _found(held: Mapping[str, list[Holder]], person: Person | None) -> Sequence[Found]:
    key = None if person is None else lua.part(person.key)
    found = [
        Found(user, person.name if person and user == key else leases[-1].name, user == key, leases)
        for user, leases in held.items()
    ]
    if person is not None and key is not None and key not in held:
        found.append(Found(key, person.name, in_directory=True, held=()))
    return sorted(found, key=lambda one: (one.in_directory, one.key))
