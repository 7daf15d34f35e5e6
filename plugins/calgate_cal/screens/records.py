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
    Subject,
    Table,
    View,
    Visitor,
)
from calgate_cal.admin import LicenseAdmin
from calgate_cal.audit import DENIALS, Record
from calgate_cal.names import fold_reference
from calgate_cal.planner.clock import Calendar
from calgate_cal.reasons import WHY
from calgate_cal.screens.denial_groups import ASSIGN, DAYS, GROUPS, grouped, groups_table
from calgate_cal.screens.found_records import Entry, entry_of, why
from calgate_cal.screens.licenses import ROWS, Licenses, is_record_id, page, person, row_id

_MOST_READ = 50_000  # records for one page: about a second
_MOST_IN_CSV = 200_000
_UNTIL_READ = 2_000  # records that are looked through while all are read for the first time
_OF_A_PERSON = 10

_COLUMNS = (
    Column("at", "When"),
    Column("user", "User"),
    Column("document", "Document"),
    Column("client", "Client"),
    Column("reference", "Reference", is_short=True),
    Column("why", "Why"),
)
_COLUMNS_OF_A_USER = tuple(column for column in _COLUMNS if column.key != "user")


def denials_screen(licenses: Licenses) -> Screen:
    """Returns the screen of the denials, newest first."""

    async def show(visitor: Visitor, inputs: Inputs) -> View:
        name = licenses.chosen(inputs)
        reference, user = fold_reference(inputs.get("reference")), inputs.get("user").casefold()
        document = inputs.get("document").casefold()
        search = _search(licenses, inputs)

        def is_wanted(entry: Entry) -> bool:
            return (not user or entry.is_about(user)) and document in entry.document.casefold()

        group = inputs.get("group")
        if group in dict(GROUPS[1:]) and not reference:
            return await _groups(licenses, name, visitor, inputs, is_wanted, search)

        # a reference can be of another record than a denial: a waiting page shows that of its latest poll
        found, more, is_whole = await _denials(
            *(licenses, name, visitor, is_wanted), reference=reference, before=inputs.get("before")
        )
        parts: list[Part] = [search, *([] if is_whole else [_READING])]
        if reference:
            parts += await _waiting(licenses.admin(name, visitor), reference)
        parts.append(_table(name, found, more, inputs))
        if reference and len(found) == 1:
            parts += _pools(found[0])
        return View(parts, is_live=not is_whole, is_partial=not is_whole)

    async def about(visitor: Visitor, subject: Subject) -> View:
        parts: list[Part] = []
        all_read, own = True, subject.folded
        for name in licenses.names:
            found, _, is_whole = await _denials(
                *(licenses, name, visitor, lambda entry: entry.is_of(own)), most=_OF_A_PERSON
            )
            all_read = all_read and is_whole
            parts += [] if is_whole else [_READING]
            parts.append(_table(name, found, "", Inputs({}), _COLUMNS_OF_A_USER))
            parts += _pools(found[0]) if found else []
        return View(parts, is_live=not all_read, is_partial=not all_read)

    return Screen("denials", "Denials", show, order=20, about_user=about)


def _search(licenses: Licenses, inputs: Inputs) -> Search:
    return Search(
        [
            *licenses.field(inputs),
            Field("reference", "Reference number", inputs.get("reference"), hint="7F3K-92QD"),
            Field("user", "User", inputs.get("user")),
            Field("document", "Document", inputs.get("document")),
            Field("group", "List", inputs.get("group"), GROUPS),
            Field("days", "Count the last", inputs.get("days") or "7", DAYS),
        ],
        "Find",
    )


async def _waiting(admin: LicenseAdmin, reference: str) -> Sequence[Part]:
    """Returns a notice if the user with this reference number waits in the queue."""
    return [
        Notice(f"{one.name} waits for {one.document}, at position {one.place}.", "warn")
        for one in await admin.queue()
        if fold_reference(one.reference) == reference
    ]


async def _groups(
    licenses: Licenses,
    name: str,
    visitor: Visitor,
    inputs: Inputs,
    is_wanted: Callable[[Entry], bool],
    search: Search,
) -> View:
    days = inputs.get("days") if inputs.get("days") in dict(DAYS) else "7"
    since = time.time() - int(days) * 86_400
    book = licenses.book(name)
    is_whole = await book.is_current()
    if is_whole:
        entries = book.denials_since(since)
    else:
        latest, _ = await _read(licenses.admin(name, visitor), "", _is_denial, most=_UNTIL_READ, of=_UNTIL_READ)
        entries = [entry_of(record) for record in latest if record.at >= since]
    calendar = Calendar(licenses.admin(name, visitor).zone)
    groups = grouped((entry for entry in entries if is_wanted(entry)), inputs.get("group"), calendar)
    parts: list[Part] = [search, *([] if is_whole else [_READING])]
    parts.append(groups_table(name, groups, inputs.get("group")))
    return View(parts, is_live=not is_whole, is_partial=not is_whole)


def _is_denial(record: Record) -> bool:
    return record.what in DENIALS


def log_screen(licenses: Licenses) -> Screen:
    """Returns the screen of all records, newest first."""

    async def show(visitor: Visitor, inputs: Inputs) -> View:
        name, wanted = licenses.chosen(inputs), inputs.get("search").casefold()
        what = inputs.get("what")

        def is_wanted(record: Record) -> bool:
            if what and record.what != what:
                return False
            return not wanted or any(wanted in value.casefold() for value in record.facts.values())

        most, of = (_MOST_IN_CSV, _MOST_IN_CSV) if inputs.get("csv") else (ROWS, _MOST_READ)
        admin = licenses.admin(name, visitor)
        found, more = await _read(admin, inputs.get("before"), is_wanted, most=most, of=of)
        values = {"license": name, "search": inputs.get("search"), "what": what}
        table = Table(
            "",
            _LOG_COLUMNS,
            [_log_row(record) for record in found],
            empty=f"No record matches among the {_MOST_READ:,} before; More looks further."
            if more
            else "No record matches.",
            later=page("log", **values, before=more) if more else "",
            csv=page("log", **values, csv=1),
        )
        fields = [Field("search", "Contains", inputs.get("search")), Field("what", "What", what, _choices(what))]
        return View([Search([*licenses.field(inputs), *fields], "Find"), table])

    return Screen("log", "Log", show, order=60)


_WHAT = (
    *("granted", "kept", "taken-back", "expired", "released", "signed-out", "came-back", "reclaimed", "ended"),
    *("reasserted", "taken-over", "visited", "denied", "would-deny", "waits", "offered", "offer-revoked", "let-in"),
    *("gave-up", "kept-away", "assigned", "removed", "undone", "allocated", "limited", "dynamic", "configured"),
    *("restored", "clock-set", "times-corrected"),
)
"""Every kind of record, as in the table of this plugin's README."""


def _choices(chosen: str) -> Sequence[tuple[str, str]]:
    return [("", "everything"), *((what, what) for what in dict.fromkeys((*_WHAT, chosen)) if what)]


_READING = Notice("The records are being read for the first time since the console started; below are the latest.")


async def _denials(
    licenses: Licenses,
    name: str,
    visitor: Visitor,
    is_wanted: Callable[[Entry], bool],
    *,
    reference: str = "",
    before: str = "",
    most: int = ROWS,
) -> tuple[Sequence[Record], str, bool]:
    """Returns the newest denials that match, the id to go on from ("": none), and whether all records were looked at.

    A reference number has one denial.
    """
    admin, book = licenses.admin(name, visitor), licenses.book(name)
    if await book.is_current():
        before = before if is_record_id(before) else ""
        entries = book.find(is_wanted, reference=reference, before=before, most=most)
        more = entries[-1].id if len(entries) == most else ""
        return await admin.records_of([entry.id for entry in entries]), more, True

    def matches(record: Record) -> bool:
        if reference:
            return record["reference"].casefold() == reference
        return record.what in DENIALS and is_wanted(entry_of(record))

    found, more = await _read(admin, before, matches, most=most, of=_UNTIL_READ)
    return found, more, False


async def _read(
    admin: LicenseAdmin, before: str, is_wanted: Callable[[Record], bool], *, most: int, of: int
) -> tuple[Sequence[Record], str]:
    """Returns the newest matching records among so many before an id, and the id to go on from; "" at the end."""
    found: list[Record] = []
    read = 0
    async for record in admin.latest_records(before if is_record_id(before) else "+"):
        read += 1
        if is_wanted(record):
            found.append(record)
        if len(found) >= most or read >= of:
            return found, record.id
    return found, ""


def _table(
    name: str, records: Sequence[Record], more: str, inputs: Inputs, columns: Sequence[Column] = _COLUMNS
) -> Table:
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
    return Table(f"Denials of {name}", columns, rows, buttons=[ASSIGN], empty="No denial was found.", later=later)


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
    *(Column("at", "When"), Column("what", "What", is_short=True), Column("kind", "CAL"), Column("name", "User")),
    *(Column("document", "Document"), Column("client", "Client"), Column("by", "By"), Column("reason", "Reason")),
    Column("reference", "Reference", is_short=True),
)


def _log_row(record: Record) -> dict[str, Cell]:
    row: dict[str, Cell] = {column.key: record[column.key] for column in _LOG_COLUMNS}
    return row | {
        "at": Moment(record.at),
        "what": record.what,
        "name": person(record["name"]) if record["name"] else "",
    }
