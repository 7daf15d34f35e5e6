"""The users who wait for a CAL."""

from collections.abc import Sequence
from statistics import median

from calgate.plugin import (
    Action,
    Button,
    Cell,
    Column,
    Facts,
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
from calgate_cal.screens.licenses import ROWS, Licenses, midnight, number, page, parts_of, person, row_id

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
    shown = _Queue(licenses)
    actions = {"dismiss": Action("admin", shown.dismiss)}
    return Screen("queue", "Queue", shown.show, actions, order=30, about_user=shown.about)


class _Queue:
    def __init__(self, licenses: Licenses) -> None:
        self._licenses = licenses

    async def show(self, visitor: Visitor, inputs: Inputs) -> View:
        name, begin = self._licenses.chosen(inputs), number(inputs.get("from"))
        admin, book = self._licenses.admin(name, visitor), self._licenses.book(name)
        waiting = await admin.queue()
        table = Table(
            f"{len(waiting)} waiting",
            _COLUMNS,
            [_row(name, one) for one in waiting[begin : begin + ROWS]],
            buttons=[_DISMISS],
            empty="Nobody waits.",
            earlier=page("queue", license=name, **{"from": max(0, begin - ROWS)}) if begin else "",
            later=page("queue", license=name, **{"from": begin + ROWS}) if begin + ROWS < len(waiting) else "",
        )
        is_read = await book.is_current()
        today = [_today(book.waits_since(midnight(admin.zone)))] if is_read else []
        parts: list[Part] = [Search(self._licenses.field(inputs))] if len(self._licenses.names) > 1 else []
        note = Notice("First come, first served: a CAL that comes free is kept for the first who can use it.")
        return View([*parts, note, table, *today], is_live=True, is_partial=not is_read)

    async def about(self, visitor: Visitor, subject: Subject) -> View:
        """Shows a user's position in each queue."""
        parts: list[Part] = []
        for name in self._licenses.names:
            waiting = await self._licenses.admin(name, visitor).queue()
            rows = [_row(name, one) for one in waiting if subject.has(one.name, one.user)]
            if rows:
                parts.append(Table(f"In the queue for {name}", _COLUMNS_OF_A_USER, rows, buttons=[_DISMISS]))
        return View(parts)

    async def dismiss(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        """Takes the selected users out of the queue."""
        outcomes = []
        for row in inputs.selected:
            try:
                name, key, user, client = parts_of(row, 4)
                await self._licenses.admin(name, visitor).dismiss(key, client)
                outcomes.append(Outcome(f"{user} is out of the queue; a page that is still open joins at the end."))
            except AdminError as error:
                outcomes.append(Outcome(f"{error}.", is_done=False))
        return outcomes or [Outcome("Nobody was selected.", is_done=False)]


def _today(waits: Sequence[float]) -> Facts:
    """Shows how long users waited who were let in; without any there is no median."""
    typical = round(median(waits) / 60, 1) if waits else None
    return Facts("Today", {"Let in after waiting": len(waits), "Median wait in minutes": typical})


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
