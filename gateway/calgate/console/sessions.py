"""The screen of the sessions on all gateways, and its part of a user's own screen."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from calgate.authentication.session import Session
from calgate.authentication.sessions import Sessions
from calgate.config.model import Settings
from calgate.plugin.changes import ChangeLog
from calgate.plugin.errors import Refusal
from calgate.plugin.screens import (
    Action,
    Button,
    Cell,
    Column,
    Field,
    Form,
    Inputs,
    Link,
    Moment,
    Notice,
    Outcome,
    Part,
    Screen,
    Search,
    SessionColumn,
    SignedIn,
    Subject,
    Table,
    View,
    Visitor,
)
from calgate.plugin.services import Event, Store

_ROWS = 100
_MOST_ENDED = 1000  # sessions of one change: each is several calls to the store
_QUICK = 0.25  # seconds: sessions that are read so quickly are read each time
_BELIEVED = 20  # slower readings are shown again for this many times as long as they took
_CLIENTS = ("address", "browser", "user")  # as a license can distinguish clients

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
_STILL_READING = Notice("The console is still reading what sessions hold. It appears here by itself.")


def sessions_screen(settings: Settings, store: Store, others: Sequence[Screen]) -> Screen:
    """Returns the screen of the sessions on all gateways; `others` can add columns to it."""
    shown = _Sessions(settings, store, others)
    actions = {"end": Action("helpdesk", shown.end), "end-all": Action("helpdesk", shown.end_all)}
    return Screen(
        *("sessions", "Sessions", shown.show, actions),
        group="people",
        order=20,
        about_user=shown.about,
        summary=shown.summary,
    )


class _Sessions:
    def __init__(self, settings: Settings, store: Store, others: Sequence[Screen]) -> None:
        self._store = store
        self._others = others
        self._sessions = Sessions(store, settings.core.session, 0)
        self._changes = ChangeLog(store)
        self._known: Sequence[Session] = ()
        self._believed_until = 0.0

    async def show(self, visitor: Visitor, inputs: Inputs) -> View:
        wanted = inputs.get("search").casefold()
        found = sorted(await self._every(), key=lambda one: (one.name.casefold(), one.created))
        kept = [one for one in found if wanted in f"{one.name} {one.address} {one.person_key}".casefold()]
        begin = _number(inputs.get("from"))
        search = Search([Field("search", "User or address", inputs.get("search"))], "Find")
        here = f"sessions?search={_quoted(inputs.get('search'))}"
        table = Table(
            f"{len(kept)} signed in",
            _COLUMNS,
            (),
            buttons=[_END],
            empty="Nobody is signed in.",
            earlier=f"{here}&from={max(0, begin - _ROWS)}" if begin else "",
            later=f"{here}&from={begin + _ROWS}" if begin + _ROWS < len(kept) else "",
            csv=f"{here}&csv=1",
        )
        view = await self._listed(visitor, table, kept if inputs.get("csv") else kept[begin : begin + _ROWS])
        fields = [Field("user", "User", hint="CORP\\alice"), Field("address", "or address", hint="10.20.3.4")]
        end_all = Form("End all sessions of a user or an address", "sessions/end-all", "End them all", fields)
        return replace(view, parts=[search, *view.parts, *([end_all] if kept else [])])

    async def summary(self, visitor: Visitor) -> Mapping[str, Cell]:
        """Returns how many are signed in."""
        return {"Sessions": Link(len(await self._every()), "sessions")}

    async def about(self, visitor: Visitor, subject: Subject) -> View:
        """Shows a user's live sessions, and when they signed in before."""
        theirs = [one for one in await self._every() if subject.has(one.name, one.person_key)]
        table = Table("Sessions", _COLUMNS_OF_A_USER, (), buttons=[_END], empty="Not signed in.")
        view = await self._listed(visitor, table, theirs[:_ROWS])
        key = theirs[0].person_key if theirs else subject.key
        ended = [one for one in await self._sessions.latest_of(key) if one.ended][:_ROWS]
        rows = [row | {"ended": one.ended} for row, one in zip(_rows(one.session for one in ended), ended, strict=True)]
        of_user = Field("user", "", subject.name, is_hidden=True)
        end_all = Form("", "sessions/end-all", f"End all sessions of {subject.name}", [of_user])
        parts: list[Part] = [*view.parts]
        parts += [end_all] if len(theirs) > 1 else []
        parts += [Table("Earlier sign-ins", _COLUMNS_OF_THE_PAST, rows)] if rows else []
        return replace(view, parts=parts)

    async def _listed(self, visitor: Visitor, table: Table, sessions: Sequence[Session]) -> View:
        """Returns the table with these sessions, and with the columns that other screens add."""
        rows, columns, notices = _rows(sessions), list(table.columns), []
        signed_in = [_signed_in(one) for one in sessions]
        for added in self._columns(visitor):
            try:
                cells = await added.show(visitor, signed_in)
            except Refusal as refusal:
                notices.append(Notice(f"{added.column.title}: {refusal.detail}", "fail"))
                continue
            if cells is None:
                return View([_STILL_READING, replace(table, rows=rows)], is_live=True, is_partial=True)
            columns.append(added.column)
            for row, cell in zip(rows, cells, strict=True):
                row[added.column.key] = cell
        return View([*notices, replace(table, columns=columns, rows=rows)])

    def _columns(self, visitor: Visitor) -> Iterable[SessionColumn]:
        return [one.on_sessions for one in self._others if one.on_sessions is not None and visitor.may(one.role)]

    # ------------------------------------------------------------ changes

    async def end(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        """Ends the selected sessions on every gateway at once."""
        known = {one.key: one for one in await self._every(afresh=True)}
        outcomes = []
        for key in inputs.selected:
            session = known.get(key)
            if session is None:
                outcomes.append(Outcome("A session had ended already.", is_done=False))
            else:
                outcomes.append(await self._end(session, visitor))
        self._believed_until = 0.0
        return outcomes or [Outcome("No session was selected.", is_done=False)]

    async def end_all(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        """Ends all sessions of a user, given by name or key, or from an address, or of this user from this address."""
        user, address = inputs.get("user"), inputs.get("address")
        if not user and not address:
            return [Outcome("Name a user or an address.", is_done=False)]
        matches = _matching(user, address)
        found = [one for one in await self._every(afresh=True) if matches(one)]
        outcomes = [await self._end(one, visitor) for one in found[:_MOST_ENDED]]
        self._believed_until = 0.0
        if len(found) > _MOST_ENDED:
            outcomes.append(Outcome(f"{len(found) - _MOST_ENDED} more are signed in; end them again.", is_done=False))
        return outcomes or [
            Outcome(f"Nobody is signed in as {user or 'anybody'} from {address or 'anywhere'}.", is_done=False)
        ]

    async def _end(self, session: Session, visitor: Visitor) -> Outcome:
        # first, so that a user who signs in again at once is looked up again
        await self._store.publish(Event("person-changed", session.person_key))
        await self._sessions.end(session.key, f"ended by {visitor.actor}")
        what = f"{session.name} from {session.address}"
        await self._changes.record("session-ended", what, visitor.actor, visitor.reason)
        return Outcome(f"The session of {session.name} from {session.address} has ended.")

    async def _every(self, *, afresh: bool = False) -> Sequence[Session]:
        began = time.monotonic()
        if afresh or began > self._believed_until:
            self._known = await self._sessions.every()
            ended = time.monotonic()
            self._believed_until = ended + (_BELIEVED * (ended - began) if ended - began > _QUICK else 0)
        return self._known


def _matching(user: str, address: str) -> Callable[[Session], bool]:
    subject = Subject(user, user)
    return lambda one: (not user or subject.has(one.name, one.person_key)) and (not address or one.address == address)


def _signed_in(session: Session) -> SignedIn:
    return SignedIn(session.person_key, session.name, {kind: session.client_by(kind) for kind in _CLIENTS})


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
