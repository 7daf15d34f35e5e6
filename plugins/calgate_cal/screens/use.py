"""Use over time with the limits, what another number of Session CALs would have done, and changing the limits."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence

from calgate.plugin import (
    Action,
    Cell,
    Chart,
    Column,
    Facts,
    Field,
    Form,
    Inputs,
    Notice,
    Outcome,
    Part,
    Screen,
    Search,
    Series,
    Table,
    View,
    Visitor,
)
from calgate_cal import report as reports
from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.plan import Options, prepare
from calgate_cal.planner.recorded import history_of, options_of
from calgate_cal.planner.sources.audit import Window
from calgate_cal.replies import KINDS
from calgate_cal.report import Report
from calgate_cal.screens.licenses import Licenses, number

_DAYS = (("1", "1 day"), ("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("400", "400 days"))
_BELIEVED = 120.0  # seconds: 400 days take many seconds to read
_REMEMBERED = 16  # reports
_MOST_RECORDS = 2_000_000


def use_screen(licenses: Licenses) -> Screen:
    """Returns the screen of use over time."""
    use = _Use(licenses)
    actions = {
        "limit": Action("admin", use.limit),
        "dynamic": Action("admin", use.dynamic),
        "allocate": Action("admin", use.allocate),
    }
    return Screen("use", "Use over time", use.show, actions, order=40)


class _Use:
    def __init__(self, licenses: Licenses) -> None:
        self._licenses = licenses
        self._reports: OrderedDict[tuple[str, str], tuple[float, Report]] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def show(self, visitor: Visitor, inputs: Inputs) -> View:
        name = self._licenses.chosen(inputs)
        days = inputs.get("days") if inputs.get("days") in dict(_DAYS) else "7"
        search = Search([*self._licenses.field(inputs), Field("days", "The last", days, _DAYS)])
        admin = self._licenses.admin(name, visitor)
        try:
            report = await self._report(admin, days)
        except AdminError as error:
            return View([search, Notice(str(error), "warn"), *self._forms(name)])
        return View([search, *_parts(report), *self._forms(name)])

    async def _report(self, admin: LicenseAdmin, days: str) -> Report:
        key = (admin.name, days)
        async with self._one_at_a_time:  # two reports at once would need the memory of both
            at, known = self._reports.get(key, (0.0, None))
            if known is None or time.monotonic() - at > _BELIEVED:
                known = await _make(admin, float(days) * 86_400)
                self._reports[key] = (time.monotonic(), known)
                while len(self._reports) > _REMEMBERED:
                    self._reports.popitem(last=False)
            return known

    def _forms(self, name: str) -> Sequence[Part]:
        license = Field("license", "", name, is_hidden=True)
        kinds = [(kind, kind.capitalize()) for kind in KINDS]
        switches = [("on", "on"), ("off", "off"), ("default", "as the file says")]
        assigned = [("named", "Named"), ("document", "Document")]
        return [
            Form(
                *("Limit of a kind", "use/limit", "Set the limit"),
                [license, Field("kind", "Kind", "session", kinds), Field("limit", "Most in use", hint="or: default")],
            ),
            Form(
                *("Dynamic assignment", "use/dynamic", "Switch"),
                [
                    license,
                    Field("kind", "Kind", "named", assigned),
                    Field("switch", "Assign without an administrator", "default", switches),
                    Field("document", "Document", hint="all"),
                ],
            ),
            Form(
                *("Document CALs of a document", "use/allocate", "Allocate"),
                [license, Field("document", "Document"), Field("count", "Document CALs")],
            ),
        ]

    # ------------------------------------------------------------ changes

    async def limit(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        kind, limit = inputs.get("kind"), inputs.get("limit")
        if kind not in KINDS or not (limit == "default" or (limit.isascii() and limit.isdigit() and len(limit) < 9)):
            return [Outcome("A limit is a number, or default.", is_done=False)]
        try:
            await self._admin(visitor, inputs).limit(kind, None if limit == "default" else int(limit))
        except AdminError as error:
            return [Outcome(f"{error}.", is_done=False)]
        self._reports.clear()
        return [Outcome(f"The limit of {kind.capitalize()} CALs is {limit} now; nobody loses a CAL by it.")]

    async def dynamic(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        kind, switch, document = inputs.get("kind"), inputs.get("switch"), inputs.get("document") or None
        states = {"on": True, "off": False, "default": None}
        if kind not in ("named", "document") or switch not in states or (document and kind != "document"):
            return [Outcome("Dynamic assignment is of Named or of Document CALs: on, off or default.", is_done=False)]
        try:
            await self._admin(visitor, inputs).dynamic(kind, states[switch], document)
        except AdminError as error:
            return [Outcome(f"{error}.", is_done=False)]
        return [Outcome(f"Dynamic assignment of {kind.capitalize()} CALs is {switch} now.")]

    async def allocate(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        document, count = inputs.get("document"), inputs.get("count")
        if not document or not (count.isascii() and count.isdigit() and len(count) < 8):
            return [Outcome("Name a document and a number of CALs.", is_done=False)]
        try:
            name = await self._admin(visitor, inputs).allocate(document, number(count))
        except AdminError as error:
            return [Outcome(f"{error}.", is_done=False)]
        return [Outcome(f"{name} has {count} Document CALs allocated.")]

    def _admin(self, visitor: Visitor, inputs: Inputs) -> LicenseAdmin:
        return self._licenses.admin(inputs.get("license") or self._licenses.names[0], visitor)


async def _make(admin: LicenseAdmin, seconds: float) -> Report:
    """Makes a report. The work is done in a thread, so that other screens respond meanwhile."""
    now = time.time()
    calendar = Calendar(admin.zone)
    records = []
    async for record in admin.records(now - seconds, now):
        records.append(record)
        if len(records) > _MOST_RECORDS:
            raise AdminError(f"there are more than {_MOST_RECORDS} records; choose fewer days")
    window = Window(max(now - seconds, records[0].at) if records else now - seconds, now)
    holders = list({holder.id: holder async for holder in admin.holders()}.values())
    limits = {pool.kind: pool.limit for pool in (await admin.state()).pools}
    options = options_of(admin.license, Options())

    def work() -> Report:
        prepared = prepare(history_of(records, holders, window, options), options, calendar)
        return reports.make(admin.name, records, holders, prepared, window, calendar, limits)

    return await asyncio.to_thread(work)


def _parts(report: Report) -> Sequence[Part]:
    series = [Series(kind.capitalize(), peaks, report.now.get(kind) or None) for kind, peaks in report.hours.items()]
    facts: dict[str, Cell] = {
        "Denials": report.attempts,
        "Users denied": report.denied_users,
        "Rate of denials": f"{report.rate:.1%}",
        "Session CALs for less than 1%": report.below if report.below is not None else "unknown",
    }
    rows: list[dict[str, Cell]] = [
        {"cals": cals, "denied": denied, "now": "as it is now" if cals == report.now.get("session") else ""}
        for cals, denied in sorted(report.what_if.items())
    ]
    columns = (
        Column("cals", "Session CALs", is_number=True),
        Column("denied", "Users' attempts denied", is_number=True),
        Column("now", ""),
    )
    chart: Part = Notice("Nothing was in use in this time.")
    if series:
        chart = Chart("Most CALs in use in each hour", report.begin, series)
    denied = Chart("Denials in each hour", report.begin, [Series("Denials", report.denied_by_hour)])
    return [
        chart,
        Facts("In this time", facts),
        *([denied] if report.attempts else []),
        Table("With another number", columns, rows),
    ]
