"""The screen of one user, to which every screen adds a part."""

from urllib.parse import quote

from calgate.plugin.errors import AccountRefused, Unavailable
from calgate.plugin.identity import Directory, Person
from calgate.plugin.names import identity_of
from calgate.plugin.screens import (
    Cell,
    Facts,
    Field,
    Inputs,
    Link,
    Notice,
    Screen,
    Search,
    Subject,
    View,
    Visitor,
)


def person_screen(directory: Directory) -> Screen:
    """Returns the screen of one user."""

    async def show(visitor: Visitor, inputs: Inputs) -> View:
        user = inputs.get("user")
        search = Search([Field("user", "User", user, hint="CORP\\alice, alice@corp.example or a SID")], "Find")
        if not user:
            return View([search])
        person, notice = await _look_up(directory, user)
        subject = Subject(person.name, person.key) if person is not None else Subject(user, user)
        return View([search, notice if person is None else _account(person)], about=subject)

    return Screen("person", "A person", show, group="people", order=10)


async def _look_up(directory: Directory, user: str) -> tuple[Person | None, Notice]:
    """Returns the directory's user, or why there is none."""
    unknown = f"No directory knows {user}; what is below is what the store has under this name."
    try:
        return await directory.look_up(identity_of(user)), Notice(unknown, "warn")
    except AccountRefused as refusal:
        return None, Notice(f"{user}: the account may not sign in ({refusal.code}): {refusal.detail}", "warn")
    except Unavailable as refusal:
        return None, Notice(f"The directory does not respond: {refusal.detail}", "fail")


def _account(person: Person) -> Facts:
    facts: dict[str, Cell] = {
        "Account": person.name,
        "Name": person.display_name,
        "Key": person.key,
        "Groups": len(person.groups),
        "Access": Link("why, or why not", f"why?user={_quoted(person.name)}"),
    }
    return Facts(person.display_name or person.name, facts)


def _quoted(text: str) -> str:
    return quote(text, safe="")
