"""The holders of CALs: search, filter, sort; assign, remove, undo, end."""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from calgate.plugin import (
    Action,
    Button,
    Cell,
    Column,
    Field,
    Inputs,
    Moment,
    Notice,
    Outcome,
    Part,
    Screen,
    Search,
    SessionColumn,
    Subject,
    Table,
    View,
    Visitor,
)
from calgate_cal import people
from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.names import normalize
from calgate_cal.replies import KINDS, Holder
from calgate_cal.screens.assigning import Assigning, form
from calgate_cal.screens.cals_of_sessions import CalsOfSessions
from calgate_cal.screens.licenses import ROWS, Licenses, number, page, parts_of, person, row_id

_NAME_PARTS = re.compile(r"[@/\\]")
_SORTS = (("name", "user"), ("used", "last use, longest ago first"), ("since", "held since"), ("kind", "kind"))
_COLUMNS = (
    Column("kind", "CAL"),
    Column("user", "User"),
    Column("document", "Document"),
    Column("state", "State"),
    Column("since", "Since"),
    Column("used", "Last used"),
    Column("client", "Client"),
    Column("until", "Comes back"),
)
_COLUMNS_OF_A_USER = tuple(column for column in _COLUMNS if column.key != "user")
_BUTTONS = (
    Button("holders/undo", "Undo removal"),
    Button("holders/end", "End Session CALs"),
    Button("holders/remove", "Remove"),
    Button("holders/force", "End at once"),
)

READING_HOLDERS = Notice(
    "The holders are being read for the first time since the console started. They appear here by themselves."
)

Change = Callable[[LicenseAdmin, Sequence[str]], Awaitable[str]]


def holders_screen(licenses: Licenses) -> Screen:
    """Returns the screen of all CALs in use."""
    assigning = Assigning(licenses)
    shown = _Holders(licenses, assigning)
    actions = {
        "assign": Action("admin", assigning.assign, takes_away=False),
        "remove": Action("admin", shown.changing(_remove)),
        "undo": Action("admin", shown.changing(_undo), takes_away=False),
        "end": Action("helpdesk", shown.changing(_end)),
        "force": Action("admin", shown.changing(_force)),
    }
    of_sessions = SessionColumn(Column("cals", "CAL"), CalsOfSessions(licenses).show)
    return Screen(
        "holders", "Who holds what", shown.show, actions, order=10, about_user=shown.about, on_sessions=of_sessions
    )


class _Holders:
    def __init__(self, licenses: Licenses, assigning: Assigning) -> None:
        self._licenses = licenses
        self._assigning = assigning
        self._listed: tuple[object, Sequence[str]] = (None, ())  # the latest selection, for its next page

    async def show(self, visitor: Visitor, inputs: Inputs) -> View:
        name = self._licenses.chosen(inputs)
        index = self._licenses.index(name)
        held = await index.holders()
        if held is None:
            return View(
                [self._search(inputs), READING_HOLDERS, form(name, inputs.get("user"))], is_live=True, is_partial=True
            )
        kept = self._selected(held, (name, index.version), inputs)
        begin = number(inputs.get("from"))
        if inputs.get("csv"):
            rows = [held[field] for field in kept]
        else:
            now = await index.now(kept[begin : begin + ROWS])
            shown = [now[field] for field in kept[begin : begin + ROWS] if field in now]
            rows = await self._licenses.admin(name, visitor).with_current_names(shown)
        kept_values = {key: inputs.get(key) for key in ("search", "kind", "unused", "sort")} | {"license": name}
        table = Table(
            "1 CAL" if len(kept) == 1 else f"{len(kept):,} CALs",
            _COLUMNS,
            [_row(name, holder) for holder in rows],
            buttons=_BUTTONS,
            empty="No CAL matches.",
            earlier=page("holders", **kept_values, **{"from": max(0, begin - ROWS)}) if begin else "",
            later=page("holders", **kept_values, **{"from": begin + ROWS}) if begin + ROWS < len(kept) else "",
            csv=page("holders", **kept_values, csv=1),
        )
        listed: list[Part] = [self._search(inputs), table]
        assigning = await self._assigning.parts(visitor, inputs, name, held.values())
        return View([*assigning, *listed] if inputs.get("find") else [*listed, *assigning])

    def _selected(self, held: Mapping[str, Holder], version: object, inputs: Inputs) -> Sequence[str]:
        """Returns the fields of the holders that match, in order."""
        key = (version, *(inputs.get(name) for name in ("search", "kind", "unused", "sort")))
        if self._listed[0] != key:
            self._listed = (key, _sorted(_filtered(held, inputs), inputs.get("sort")))
        return self._listed[1]

    async def about(self, visitor: Visitor, subject: Subject) -> View:
        parts: list[Part] = []
        all_read, own = True, subject.folded
        for name in self._licenses.names:
            index = self._licenses.index(name)
            held = await index.holders()
            if held is None:
                parts.append(READING_HOLDERS)
                all_read = False
                continue
            fields = [
                field
                for field, holder in held.items()
                if holder.user.casefold() in own or holder.name.casefold() in own
            ]
            now = await index.now(fields[:ROWS])
            rows = [_row(name, holder) for holder in now.values()]
            parts.append(Table(f"CALs of {name}", _COLUMNS_OF_A_USER, rows, buttons=_BUTTONS, empty="Holds no CAL."))
            parts.append(form(name, subject.name))
        return View(parts, is_live=not all_read, is_partial=not all_read)

    def _search(self, inputs: Inputs) -> Search:
        kinds = [("", "every kind"), *((kind, kind.capitalize()) for kind in KINDS)]
        return Search(
            [
                *self._licenses.field(inputs),
                Field("search", "User, document or client", inputs.get("search")),
                Field("kind", "Kind", inputs.get("kind"), kinds),
                Field("unused", "Not used for days", inputs.get("unused"), hint="30"),
                Field("sort", "Sorted by", inputs.get("sort") or "name", _SORTS),
            ]
        )

    # ------------------------------------------------------------ changes

    def changing(self, change: Change) -> Callable[[Visitor, Inputs], Awaitable[Sequence[Outcome]]]:
        """Makes an action that changes each of the selected rows."""

        async def run(visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
            outcomes = []
            for row in inputs.selected:
                try:
                    license, *rest = parts_of(row, 6)
                    outcomes.append(Outcome(await change(self._licenses.admin(license, visitor), rest)))
                except AdminError as error:
                    outcomes.append(Outcome(f"{error}.", is_done=False))
            return outcomes or [Outcome("No row was selected.", is_done=False)]

        return run


async def _remove(admin: LicenseAdmin, row: Sequence[str]) -> str:
    kind, key, name, _, document = row
    _demand(kind in ("named", "document"), f"{name}'s {kind.capitalize()} CAL cannot be removed; end it")
    until = await admin.remove_from(key, name, document or None)
    return f"{name}'s {kind.capitalize()} CAL is {'in quarantine; Undo gives it back' if until else 'free'}."


async def _undo(admin: LicenseAdmin, row: Sequence[str]) -> str:
    kind, key, name, _, document = row
    await admin.undo_for(key, name, document or None)
    return f"{name} has the {kind.capitalize()} CAL again."


async def _end(admin: LicenseAdmin, row: Sequence[str]) -> str:
    return await _ended(admin, row, force=False)


async def _force(admin: LicenseAdmin, row: Sequence[str]) -> str:
    return await _ended(admin, row, force=True)


async def _ended(admin: LicenseAdmin, row: Sequence[str], *, force: bool) -> str:
    kind, key, name, client, _ = row
    _demand(kind == "session", f"{name}'s {kind.capitalize()} CAL is not a Session CAL; remove it instead")
    until = await admin.end_one(key, client, force=force)
    return f"{name}'s Session CAL on {client} {'comes back when its minimum is over' if until else 'is free'}."


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AdminError(otherwise)


# ---------------------------------------------------------------- rows


def _filtered(held: Mapping[str, Holder], inputs: Inputs) -> Sequence[tuple[str, Holder]]:
    wanted, kind, days = inputs.get("search").casefold(), inputs.get("kind"), number(inputs.get("unused"))
    meant = normalize(wanted) if _NAME_PARTS.search(wanted) else ""  # CORP/ivan and ivan@corp.example are in no row
    latest = time.time() - days * 86_400
    return [
        (field, holder)
        for field, holder in held.items()
        if (not kind or holder.kind == kind)
        and (
            wanted in f"{holder.name} {holder.user} {holder.document} {holder.client}".casefold()
            or (meant and people.matches(holder, meant))
        )
        and (not days or (holder.last_used or holder.since) < latest)
    ]


def _sorted(holders: Sequence[tuple[str, Holder]], sort: str) -> Sequence[str]:
    return [field for field, _ in sorted(holders, key=lambda one: _ORDERS.get(sort, _by_name)(one[1]))]


def _by_name(holder: Holder) -> tuple[str, str]:
    return holder.name.casefold(), holder.kind


_ORDERS: Mapping[str, Callable[[Holder], tuple[object, ...]]] = {
    "used": lambda one: (one.last_used or one.since,),
    "since": lambda one: (one.since,),
    "kind": lambda one: (KINDS.index(one.kind), one.name.casefold()),
}


def _row(license: str, holder: Holder) -> dict[str, Cell]:
    return {
        "id": row_id(license, holder.kind, holder.user, holder.name, holder.client, holder.document),
        "kind": holder.kind.capitalize(),
        "user": person(holder.name, holder.user),
        "document": holder.document,
        "state": holder.state,
        "since": Moment(holder.since),
        "used": Moment(holder.last_used) if holder.last_used else None,
        "client": holder.client,
        "until": Moment(holder.until) if holder.until else None,
    }
