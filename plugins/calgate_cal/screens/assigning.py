"""Assigns CALs: to users who are named, or who are searched for in the directory."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from calgate.plugin import (
    Button,
    Cell,
    Column,
    Field,
    Form,
    Inputs,
    Match,
    Notice,
    Outcome,
    Part,
    PeopleSearch,
    Refusal,
    Search,
    Table,
    Visitor,
    parse_user,
)
from calgate_cal import lua
from calgate_cal.admin import AdminError
from calgate_cal.replies import Holder
from calgate_cal.screens.licenses import Licenses, parts_of, person, row_id

_MOST_FOUND = 50  # people
_LONGEST = 100  # characters of a search
_FIND_WITHIN = 5.0  # seconds
_STATES = {
    "": "",
    "account-disabled": "disabled",
    "account-expired": "expired",
    "account-locked": "locked",
}
_COLUMNS = (
    *(Column("name", "Name"), Column("user", "User"), Column("principal", "UPN"), Column("mail", "Mail")),
    *(Column("state", "Account"), Column("holds", "Has")),
)
_DOCUMENT = Field("document", "Document", hint="none: a Named CAL")
_ASSIGN = "holders/assign"


def form(license: str, user: str) -> Form:
    """Returns the form for users whose names are known."""
    return Form(
        *("Assign a CAL", _ASSIGN, "Assign"),
        [
            Field("license", "", license, is_hidden=True),
            Field("user", "User", user, hint="CORP\\alice; several with commas"),
            _DOCUMENT,
        ],
    )


class Assigning:
    """The part of a screen with which CALs are assigned."""

    def __init__(self, licenses: Licenses) -> None:
        self._licenses = licenses

    async def parts(self, visitor: Visitor, inputs: Inputs, license: str, holders: Iterable[Holder]) -> Sequence[Part]:
        """Returns the form, and the search if a directory can be searched, for those who may assign."""
        named = form(license, inputs.get("user"))
        directory = self._licenses.directory
        if not isinstance(directory, PeopleSearch) or not visitor.may("admin"):
            return [named]
        text = inputs.get("find")[:_LONGEST]
        search = Search(
            [
                Field("license", "", license, is_hidden=True),
                Field("find", "Find in the directory", text, hint="how a name begins"),
            ],
            "Find people",
        )
        return [search, *(await _found(directory, text, license, holders) if text else ()), named]

    async def assign(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        """Assigns to the users of the form, or to those of the selected rows."""
        wanted = [(inputs.get("license") or self._licenses.names[0], user) for user in _listed(inputs.get("user"))]
        outcomes = []
        for row in inputs.selected:
            try:
                license, user = parts_of(row, 2)
                wanted.append((license, user))
            except AdminError as error:
                outcomes.append(Outcome(str(error), is_done=False))
        for license, user in dict.fromkeys(wanted):
            outcomes.append(await self._assign(license, user, inputs.get("document") or None, visitor))
        return outcomes or [Outcome("Name or select a user.", is_done=False)]

    async def _assign(self, license: str, user: str, document: str | None, visitor: Visitor) -> Outcome:
        called = user
        try:
            admin = self._licenses.admin(license, visitor)
            called = (await admin.person(user)).name  # a selected row has only the key
            name = await admin.assign(user, document)
            kind = f"Document CAL for {document}" if document else "Named CAL"
            if await admin.could_use(user):
                return Outcome(f"{name} has a {kind} now.")
            return Outcome(f"{name} has a {kind} now, but no access rule lets this user in.")
        except AdminError as error:
            return Outcome(f"{called}: {error}.", is_done=False)
        except Refusal as refusal:
            return Outcome(f"{called}: {refusal.detail}.", is_done=False)


async def _found(directory: PeopleSearch, text: str, license: str, holders: Iterable[Holder]) -> Sequence[Part]:
    try:
        async with asyncio.timeout(_FIND_WITHIN):
            matches = await directory.find_people(text, _MOST_FOUND)
    except TimeoutError:
        return [Notice(f"The directory did not finish the search within {_FIND_WITHIN:g} s.", "fail")]
    except Refusal as refusal:
        return [Notice(f"The directory cannot be searched: {refusal.detail}", "fail")]
    held = _kinds_held(matches.people, holders)
    cut = f"More than these {len(matches.people)} users match; type more of the name to see the others."
    rows = [_row(license, one, held.get(one.key, "")) for one in matches.people]
    table = Table(
        "Found in the directory",
        [column for column in _COLUMNS if any(row[column.key] for row in rows)],  # few directories have all
        rows,
        buttons=[Button(_ASSIGN, "Assign")],
        empty=f"Nobody in the directory has a name that begins with {text}.",
        fields=[_DOCUMENT],
    )
    return [*([Notice(cut, "warn")] if matches.is_cut else []), table]


def _kinds_held(people: Sequence[Match], holders: Iterable[Holder]) -> Mapping[str, str]:
    """Returns the kinds of CALs that each user has, by key."""
    keys = {lua.part(one.key).casefold(): one.key for one in people}
    kinds: dict[str, set[str]] = {}
    for holder in holders:
        if (key := keys.get(holder.user.casefold())) is not None:
            kinds.setdefault(key, set()).add(holder.kind.capitalize())
    return {key: ", ".join(sorted(found)) for key, found in kinds.items()}


def _row(license: str, one: Match, held: str) -> dict[str, Cell]:
    return {
        "id": row_id(license, one.key),
        "name": one.display_name,
        "user": person(one.name, one.key),
        "key": one.key,
        "principal": one.principal_name,
        "mail": one.mail,
        "state": _STATES.get(one.refusal, "state unknown: the gateway's account may not read it"),
        "holds": held,
    }


def _listed(text: str) -> Sequence[str]:
    """Returns the users of a list; a DN has commas of its own, so it stands alone."""
    users = [text] if parse_user(text).form == "dn" else text.split(",")
    return [user.strip() for user in users if user.strip()]
