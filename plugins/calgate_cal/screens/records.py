"""Denials, found by the reference number that a user reads aloud, and the log of every decision and change."""

import time
from collections.abc import Callable, Sequence

from calgate.plugin import (
    Cell,
    Column,
    Field,
    Inputs,
    Moment,
    Notice,
    Part,
    Screen,
    Search,
    Table,
    View,
    Visitor,
)
from calgate_cal.audit import DENIALS, Record
from calgate_cal.reasons import WHY
from calgate_cal.screens.denial_groups import ASSIGN, DAYS, GROUPS, grouped, groups_table, why
from calgate_cal.screens.licenses import ROWS, Licenses, page, person, row_id

_MOST_READ = 200_000  # records for one page: about a second
_OF_A_PERSON = 10

_COLUMNS = (
    Column("at", "When"),
    Column("user", "User"),
    Column("document", "Document"),
    Column("client", "Client"),
    Column("reference", "Reference"),
    Column("why", "Why"),
)


def denials_screen(licenses: Licenses) -> Screen:
    """Returns the screen of the denials, newest first."""

    async def show(visitor: Visitor, inputs: Inputs) -> View:
        name = licenses.chosen(inputs)
        reference, user = inputs.get("reference").casefold(), inputs.get("user").casefold()
        document = inputs.get("document").casefold()
        search = Search(
            [
                *licenses.field(inputs),
                Field("reference", "Reference number", inputs.get("reference"), hint="7F3K-92QD"),
                Field("user", "User", inputs.get("user")),
                Field("document", "Document", inputs.get("document")),
                Field("group", "Grouped by", inputs.get("group"), GROUPS),
                Field("days", "Groups of the last", inputs.get("days") or "7", DAYS),
            ],
            "Find",
        )

        def is_wanted(record: Record) -> bool:
            if reference and record["reference"].casefold() == reference:
                return True  # of any kind: a waiting page shows the reference of its latest poll
            of_user = not user or user in f"{record['name']} {record['user']}".casefold()
            is_named = of_user and document in record["document"].casefold()
            return not reference and record.what in DENIALS and is_named

        group = inputs.get("group")
        if group in dict(GROUPS[1:]) and not reference:
            return View([search, *await _groups(licenses, name, visitor, inputs, is_wanted)])

        found, more = await _read(
            licenses, name, visitor, inputs.get("before"), is_wanted, ends_at_denial=bool(reference)
        )
        parts: list[Part] = [search]
        if reference:
            waiting = [
                one for one in await licenses.admin(name, visitor).queue() if one.reference.casefold() == reference
            ]
            parts += [
                Notice(f"{one.name} waits for {one.document}, at position {one.place}.", "warn") for one in waiting
            ]
        parts.append(_table(name, found, more, inputs))
        if reference and len(found) == 1:
            parts += _pools(found[0])
        return View(parts)

    async def about(visitor: Visitor, user: str) -> Sequence[Part]:
        wanted = user.casefold()
        parts: list[Part] = []
        for name in licenses.names:
            found, _ = await _read(
                *(licenses, name, visitor, ""),
                lambda one: one.what in DENIALS and wanted in (one["name"].casefold(), one["user"].casefold()),
                most=_OF_A_PERSON,
            )
            parts.append(_table(name, found, "", Inputs({})))
            parts += _pools(found[0]) if found else []
        return parts

    return Screen("denials", "Denials", show, order=20, about_user=about)


async def _groups(
    licenses: Licenses, name: str, visitor: Visitor, inputs: Inputs, is_wanted: Callable[[Record], bool]
) -> Sequence[Part]:
    days = inputs.get("days") if inputs.get("days") in dict(DAYS) else "7"
    since = time.time() - int(days) * 86_400
    found: list[Record] = []
    read = 0
    async for record in licenses.admin(name, visitor).latest_records():
        read += 1
        if record.at < since or read > _MOST_READ:
            break
        if is_wanted(record):
            found.append(record)
    parts: list[Part] = [groups_table(name, grouped(found, inputs.get("group")), inputs.get("group"))]
    if read > _MOST_READ:
        parts.insert(0, Notice(f"Only the latest {_MOST_READ:,} records were read; choose fewer days.", "warn"))
    return parts


def log_screen(licenses: Licenses) -> Screen:
    """Returns the screen of all records, newest first."""

    async def show(visitor: Visitor, inputs: Inputs) -> View:
        name, wanted = licenses.chosen(inputs), inputs.get("search").casefold()
        what = inputs.get("what")

        def is_wanted(record: Record) -> bool:
            if what and record.what != what:
                return False
            return not wanted or any(wanted in value.casefold() for value in record.facts.values())

        most = _MOST_READ if inputs.get("csv") else ROWS
        found, more = await _read(licenses, name, visitor, inputs.get("before"), is_wanted, most=most)
        values = {"license": name, "search": inputs.get("search"), "what": what}
        table = Table(
            "",
            _LOG_COLUMNS,
            [_log_row(record) for record in found],
            empty="No record matches.",
            later=page("log", **values, before=more) if more else "",
            csv=page("log", **values, csv=1),
        )
        fields = [Field("search", "Contains", inputs.get("search")), Field("what", "What", what, hint="assigned")]
        return View([Search([*licenses.field(inputs), *fields], "Find"), table])

    return Screen("log", "Log", show, order=60)


async def _read(
    licenses: Licenses,
    name: str,
    visitor: Visitor,
    before: str,
    is_wanted: Callable[[Record], bool],
    *,
    most: int = ROWS,
    ends_at_denial: bool = False,
) -> tuple[Sequence[Record], str]:
    """Returns the newest matching records before an id, and the id to go on from; "" at the end.

    `ends_at_denial`: nothing before the first denial that matches is looked for; a reference number has one.
    """
    found: list[Record] = []
    read = 0
    start = before if before.replace("-", "").isdigit() else "+"
    async for record in licenses.admin(name, visitor).latest_records(start):
        read += 1
        if is_wanted(record):
            found.append(record)
            if ends_at_denial and record.what in DENIALS:
                return found, ""
        if len(found) >= most or read >= _MOST_READ:
            return found, record.id
    return found, ""


def _table(name: str, records: Sequence[Record], more: str, inputs: Inputs) -> Table:
    values = {"license": name, **{key: inputs.get(key) for key in ("reference", "user", "document")}}
    rows: list[dict[str, Cell]] = [
        {
            "id": row_id(name, record["user"] or record["name"]),
            "at": Moment(record.at),
            "user": person(record["name"], record["user"]),
            "document": record["document"],
            "client": record["client"],
            "reference": record["reference"],
            "why": why(record),
            "code": record["code"] or record.what,
        }
        for record in records
    ]
    later = page("denials", **values, before=more) if more else ""
    return Table(f"Denials of {name}", _COLUMNS, rows, buttons=[ASSIGN], empty="No denial was found.", later=later)


def _pools(record: Record) -> Sequence[Part]:
    """Shows the pools as they were when the claim was denied."""
    rows: list[dict[str, Cell]] = []
    for pool in record.pools:
        free_at = pool.get("free_at")
        rows.append(
            {
                "kind": str(pool["kind"]).capitalize(),
                "occupied": pool["occupied"],
                "limit": pool["limit"],
                "why": WHY.get(pool["note"], pool["note"]),
                "free_at": Moment(free_at / 1000) if free_at else None,
            }
        )
    columns = (
        *(Column("kind", "CAL"), Column("occupied", "In use", is_number=True)),
        *(Column("limit", "Limit", is_number=True), Column("why", "Why not"), Column("free_at", "Next free")),
    )
    return [Table(f"The pools at the time of {record['reference']}", columns, rows)] if rows else []


_LOG_COLUMNS = (
    *(Column("at", "When"), Column("what", "What"), Column("kind", "CAL"), Column("name", "User")),
    *(Column("document", "Document"), Column("client", "Client"), Column("by", "By"), Column("reason", "Reason")),
    Column("reference", "Reference"),
)


def _log_row(record: Record) -> dict[str, Cell]:
    row: dict[str, Cell] = {column.key: record[column.key] for column in _LOG_COLUMNS}
    return row | {
        "at": Moment(record.at),
        "what": record.what,
        "name": person(record["name"]) if record["name"] else "",
    }
