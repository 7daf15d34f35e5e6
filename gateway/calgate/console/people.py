"""The screen of one user, to which every screen adds a part, and the screen of the sessions."""

import time
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from calgate.authentication.session import Session
from calgate.authentication.sessions import Sessions
from calgate.commands.sessions import is_named
from calgate.config.model import Settings
from calgate.plugin.changes import ChangeLog
from calgate.plugin.errors import AccountRefused, Unavailable
from calgate.plugin.identity import Directory, Person
from calgate.plugin.names import identity_of, parse_user
from calgate.plugin.screens import (
    Action,
    Button,
    Cell,
    Column,
    Facts,
    Field,
    Inputs,
    Link,
    Moment,
    Notice,
    Outcome,
    Screen,
    Search,
    Subject,
    Table,
    View,
    Visitor,
)
from calgate.plugin.services import Event, Store

_ROWS = 100
_QUICK = 0.25  # seconds: sessions that are read so quickly are read each time
_BELIEVED = 20  # slower readings are shown again for this many times as long as they took


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


def sessions_screen(settings: Settings, store: Store) -> Screen:
    """Returns the screen of the sessions on all gateways."""
    shown = _Sessions(settings, store)
    actions = {"end": Action("helpdesk", shown.end)}
    return Screen("sessions", "Sessions", shown.show, actions, group="people", order=20, about_user=shown.about)


class _Sessions:
    def __init__(self, settings: Settings, store: Store) -> None:
        self._store = store
        self._sessions = Sessions(store, settings.core.session, 0)
        self._changes = ChangeLog(store)
        self._known: Sequence[Session] = ()
        self._believed_until = 0.0

    async def show(self, visitor: Visitor, inputs: Inputs) -> View:
        wanted = inputs.get("search").casefold()
        found = sorted(await self._every(), key=lambda one: (one.name.casefold(), one.created))
        kept = [
            one
            for one in found
            if wanted in f"{one.name} {one.address} {one.person_key}".casefold() or is_named(one, parse_user(wanted))
        ]
        begin = _number(inputs.get("from"))
        search = Search([Field("search", "User or address", inputs.get("search"))], "Find")
        here = f"sessions?search={_quoted(inputs.get('search'))}"
        rows = kept if inputs.get("csv") else kept[begin : begin + _ROWS]
        table = Table(
            f"{len(kept)} signed in",
            _COLUMNS,
            _rows(rows),
            buttons=[_END],
            empty="Nobody is signed in.",
            earlier=f"{here}&from={max(0, begin - _ROWS)}" if begin else "",
            later=f"{here}&from={begin + _ROWS}" if begin + _ROWS < len(kept) else "",
            csv=f"{here}&csv=1",
        )
        return View([search, table])

    async def about(self, visitor: Visitor, subject: Subject) -> View:
        """Shows a user's live sessions, and when they signed in before."""
        theirs = [one for one in await self._every() if subject.has(one.name, one.person_key)]
        live = Table("Sessions", _COLUMNS_OF_A_USER, _rows(theirs[:_ROWS]), buttons=[_END], empty="Not signed in.")
        key = theirs[0].person_key if theirs else subject.key
        ended = [one for one in await self._sessions.latest_of(key) if one.ended][:_ROWS]
        rows = [row | {"ended": one.ended} for row, one in zip(_rows(one.session for one in ended), ended, strict=True)]
        return View([live, *([Table("Earlier sign-ins", _COLUMNS_OF_THE_PAST, rows)] if rows else [])])

    async def end(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        """Ends the selected sessions on every gateway at once."""
        known = {one.key: one for one in await self._every(afresh=True)}
        outcomes = []
        for key in inputs.selected:
            session = known.get(key)
            if session is None:
                outcomes.append(Outcome("A session had ended already.", is_done=False))
                continue
            # first, so that a user who signs in again at once is looked up again
            await self._store.publish(Event("person-changed", session.person_key))
            await self._sessions.end(key, f"ended by {visitor.actor}")
            what = f"{session.name} from {session.address}"
            await self._changes.record("session-ended", what, visitor.actor, visitor.reason)
            outcomes.append(Outcome(f"The session of {session.name} from {session.address} has ended."))
        self._believed_until = 0.0
        return outcomes or [Outcome("No session was selected.", is_done=False)]

    async def _every(self, *, afresh: bool = False) -> Sequence[Session]:
        began = time.monotonic()
        if afresh or began > self._believed_until:
            self._known = await self._sessions.every()
            ended = time.monotonic()
            self._believed_until = ended + (_BELIEVED * (ended - began) if ended - began > _QUICK else 0)
        return self._known


_COLUMNS = (
    Column("user", "User"),
    Column("address", "From"),
    Column("mechanism", "Signed in by"),
    Column("since", "Since"),
    Column("key", "Key"),
)
_COLUMNS_OF_A_USER = tuple(column for column in _COLUMNS if column.key not in ("user", "key"))
_COLUMNS_OF_THE_PAST = (*_COLUMNS_OF_A_USER, Column("ended", "Ended"))
_END = Button("sessions/end", "End sessions")


def _rows(sessions: Iterable[Session]) -> list[dict[str, Cell]]:
    return [
        {
            "id": one.key,
            "user": Link(one.name, f"person?user={_quoted(one.name)}"),
            "address": one.address,
            "mechanism": one.identity.mechanism,
            "since": Moment(one.created),
            "key": one.person_key,
        }
        for one in sessions
    ]


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
