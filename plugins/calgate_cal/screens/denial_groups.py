"""Denials counted by person, document, reason or hour: where and when a CAL is missing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from calgate.plugin import Button, Cell, Column, Link, Moment, Table
from calgate_cal.planner.clock import Calendar
from calgate_cal.report import full_hour
from calgate_cal.screens.found_records import Entry
from calgate_cal.screens.licenses import ROWS, person, row_id

GROUPS = (
    *(("", "each denial"), ("person", "counts by person")),
    *(("document", "counts by document"), ("reason", "counts by reason"), ("hour", "counts by hour")),
)
DAYS = (("1", "1 day"), ("7", "7 days"), ("30", "30 days"), ("90", "90 days"))
ASSIGN = Button("holders/assign", "Assign a Named CAL")
_MOST_GROUPS = 10_000  # counted; a page shows the largest

_COLUMNS = (
    *(Column("denials", "Denials", is_number=True), Column("people", "People", is_number=True)),
    *(Column("documents", "Documents", is_number=True), Column("latest", "Latest")),
)
_ALWAYS_ONE = {"person": "people", "document": "documents"}  # the column that says nothing, by what is counted


@dataclass(slots=True)
class Group:
    """The denials that have one person, document, reason or hour."""

    first: Entry
    key: str | int  # what they have in common; an hour by its beginning
    denials: int = 0
    people: set[str] = field(default_factory=set)
    documents: set[str] = field(default_factory=set)


def grouped(denials: Iterable[Entry], by: str, calendar: Calendar) -> Sequence[Group]:
    """Returns the groups of denials (newest first): hours in their order, others with the largest first."""
    groups: dict[str | int, Group] = {}
    for denial in denials:
        key = _key(denial, by, calendar)
        group = groups.get(key)
        if group is None:
            if len(groups) >= _MOST_GROUPS:
                continue
            group = groups[key] = Group(denial, key)
        group.denials += 1
        group.people.add(denial.user)
        group.documents.add(denial.document)
    return [*groups.values()] if by == "hour" else sorted(groups.values(), key=lambda group: -group.denials)


def _key(denial: Entry, by: str, calendar: Calendar) -> str | int:
    if by == "hour":
        return round(full_hour(denial.at, calendar))
    return {"person": denial.user, "document": denial.document, "reason": denial.why}[by]


def groups_table(name: str, groups: Sequence[Group], by: str) -> Table:
    """Returns the table of the largest groups; a person can be assigned a CAL from it."""
    title = {"person": "User", "document": "Document", "reason": "Why", "hour": "Hour from"}[by]
    rows = [_row(name, group, by) for group in groups[:ROWS]]
    columns = [column for column in _COLUMNS if column.key != _ALWAYS_ONE.get(by)]
    return Table(
        *(f"Denials of {name} by {by}", (Column("of", title), *columns), rows),
        buttons=[ASSIGN] if by == "person" else (),
        empty="No denial was found.",
    )


def _row(name: str, group: Group, by: str) -> dict[str, Cell]:
    of: Cell = group.first.why
    if by == "person":
        of = person(group.first.name, group.first.user)
    elif by == "document":
        query = urlencode({"license": name, "document": group.first.document})
        of = Link(group.first.document or "(none)", f"denials?{query}")
    elif isinstance(group.key, int):
        of = Moment(group.key)
    return {
        "id": row_id(name, group.first.user) if by == "person" else None,
        "of": of,
        "denials": group.denials,
        "people": len(group.people),
        "documents": len(group.documents),
        "latest": Moment(group.first.at),
    }
