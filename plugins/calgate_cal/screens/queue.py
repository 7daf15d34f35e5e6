"""The users who wait for a CAL."""

from collections.abc import Sequence

from calgate.plugin import (
    Action,
    Button,
    Cell,
    Column,
    Inputs,
    Moment,
    Notice,
    Outcome,
    Part,
    Screen,
    Search,
    Subject,
    Table,
    View,
    Visitor,
)
from calgate_cal.admin import AdminError
from calgate_cal.replies import Waiting
from calgate_cal.screens.licenses import Licenses, parts_of, person, row_id

_COLUMNS = (
    Column("place", "Position", is_number=True),
    Column("user", "User"),
    Column("document", "Document"),
    Column("client", "Client"),
    Column("since", "Since"),
    Column("offer", "Offered"),
    Column("kept_until", "Kept until"),
    Column("reference", "Reference", is_short=True),
)
_COLUMNS_OF_A_USER = tuple(column for column in _COLUMNS if column.key != "user")
_DISMISS = Button("queue/dismiss", "Take out of the queue")


def queue_screen(licenses: Licenses) -> Screen:
    """Returns the screen of the queue. It is first come, first served, so nobody can be moved."""

    async def show(visitor: Visitor, inputs: Inputs) -> View:
        name = licenses.chosen(inputs)
        waiting = await licenses.admin(name, visitor).queue()
        rows = [_row(name, one) for one in waiting]
        table = Table(f"{len(rows)} waiting", _COLUMNS, rows, buttons=[_DISMISS], empty="Nobody waits.")
        parts: list[Part] = [Search(licenses.field(inputs))] if len(licenses.names) > 1 else []
        note = Notice("First come, first served: a CAL that comes free is kept for the first who can use it.")
        return View([*parts, note, table], is_live=True)

    async def dismiss(visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        outcomes = []
        for row in inputs.selected:
            try:
                name, key, user, client = parts_of(row, 4)
                await licenses.admin(name, visitor).dismiss(key, client)
                outcomes.append(Outcome(f"{user} is out of the queue; a page that is still open joins at the end."))
            except AdminError as error:
                outcomes.append(Outcome(f"{error}.", is_done=False))
        return outcomes or [Outcome("Nobody was selected.", is_done=False)]

    async def about(visitor: Visitor, subject: Subject) -> View:
        parts: list[Part] = []
        for name in licenses.names:
            waiting = await licenses.admin(name, visitor).queue()
            rows = [_row(name, one) for one in waiting if subject.has(one.name, one.user)]
            if rows:
                parts.append(Table(f"In the queue for {name}", _COLUMNS_OF_A_USER, rows, buttons=[_DISMISS]))
        return View(parts)

    actions = {"dismiss": Action("admin", dismiss)}
    return Screen("queue", "Queue", show, actions, order=30, about_user=about)


def _row(license: str, one: Waiting) -> dict[str, Cell]:
    return {
        "id": row_id(license, one.user, one.name, one.client),
        "place": one.place,
        "user": person(one.name, one.user),
        "document": one.document,
        "client": one.client,
        "since": Moment(one.since),
        "offer": one.offer,
        "kept_until": Moment(one.kept_until),
        "reference": one.reference,
    }
