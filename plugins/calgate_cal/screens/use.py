"""Use over time with the limits, the effect of another number of Session CALs, and changing the limits."""

import math
import time
from collections.abc import Mapping, Sequence

from calgate.plugin import (
    Action,
    Cell,
    Chart,
    Column,
    Curve,
    Facts,
    Field,
    Form,
    Inputs,
    Moment,
    Notice,
    Outcome,
    Part,
    Screen,
    Search,
    Series,
    Step,
    Table,
    View,
    Visitor,
)
from calgate_cal.admin import AdminError, LicenseAdmin
from calgate_cal.limit_history import Change
from calgate_cal.planner.clock import Calendar
from calgate_cal.replies import KINDS
from calgate_cal.report import HOUR
from calgate_cal.screens.found_records import Entry
from calgate_cal.screens.licenses import Licenses, number
from calgate_cal.screens.what_if import WhatIf, WhatIfs

_ATTEMPTS = "Users' attempts denied"
_DAYS = (("1", "1 day"), ("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("400", "400 days"))


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
        self._what_ifs = WhatIfs()

    async def show(self, visitor: Visitor, inputs: Inputs) -> View:
        name = self._licenses.chosen(inputs)
        days = inputs.get("days") if inputs.get("days") in dict(_DAYS) else "7"
        search = Search([*self._licenses.field(inputs), Field("days", "The last", days, _DAYS)])
        admin, book = self._licenses.admin(name, visitor), self._licenses.book(name)
        is_current = await book.is_current()
        held = await self._licenses.index(name).holders() if is_current else None
        if held is None:
            reading = Notice(
                f"The records are being read for the first time since the console started: {book.count:,} so far."
                " This page shows them by itself."
            )
            return View([search, reading, *self._forms(name)], is_live=True, is_partial=True)
        limits = {pool.kind: pool.limit for pool in (await admin.state()).pools}
        now = time.time()
        since = now - float(days) * 86_400
        begin, hours = await self._licenses.peaks(name).since(since, now, book, held.values(), Calendar(admin.zone))
        what_if = await self._what_ifs.get(admin, float(days) * 86_400, book.reader, held.values(), limits)
        denials = book.denials_since(since)
        used = _used(begin, hours, limits, book.limits.since(begin, limits), _by_hour(denials, begin, now))
        return View(
            [search, *used, _denied(denials), *_what_if(what_if), *self._forms(name)],
            is_live=what_if is None,
            is_partial=what_if is None,
        )

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
        self._what_ifs.forget()
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


def _used(
    begin: float,
    hours: Mapping[str, Sequence[int]],
    limits: Mapping[str, int],
    changes: Mapping[str, Sequence[Change]],
    denials: Sequence[int],
) -> Sequence[Part]:
    series = [
        Series(kind.capitalize(), peaks, limits.get(kind) or None, [Step(*one) for one in changes.get(kind, ())])
        for kind, peaks in hours.items()
    ]
    marks = Series("Denials", denials) if any(denials) else None
    if not series and marks is None:
        return [Notice("Nothing was in use in this time.")]
    return [Chart("Most CALs in use in each hour", begin, series, marks)]


def _by_hour(denials: Sequence[Entry], begin: float, now: float) -> Sequence[int]:
    counts = [0] * max(1, math.ceil((now - begin) / HOUR))
    for denial in denials:
        counts[min(len(counts) - 1, max(0, int((denial.at - begin) // HOUR)))] += 1
    return counts


def _denied(denials: Sequence[Entry]) -> Part:
    return Facts("In this time", {"Denials": len(denials), "Users denied": len({one.user for one in denials})})


def _what_if(made: WhatIf | None) -> Sequence[Part]:
    if made is None:
        return [Notice("The effect of another number of CALs is being worked out, and appears here by itself.")]
    session: dict[str, Cell] = {
        "Rate of denials": f"{made.rate:.1%}",
        "Session CALs for less than 1%": made.below,
        "Worked out": Moment(made.at),
    }
    named: dict[str, Cell] = {
        "Session CALs": f"{made.session}, as now",
        "Who would have a Named CAL": "its present owners, then the users who use most",
    }
    return [
        Facts("With another number of Session CALs", session),
        *_denials_with("Session CALs", made.denied, made.session),
        *([Facts("With another number of Named CALs", named)] if made.denied_with_named else []),
        *(_denials_with("Named CALs", made.denied_with_named, made.owners) if made.denied_with_named else []),
    ]


def _denials_with(cals: str, denied: Mapping[int, int], now: int) -> Sequence[Part]:
    rows: list[dict[str, Cell]] = [
        {"cals": number, "denied": count, "now": "as it is now" if number == now else ""}
        for number, count in sorted(denied.items())
    ]
    columns = (
        Column("cals", cals, is_number=True),
        Column("denied", _ATTEMPTS, is_number=True),
        Column("now", ""),
    )
    curve = Curve(f"Denials by number of {cals}", cals, _ATTEMPTS, sorted(denied.items()), now)
    return [*([curve] if len(denied) > 1 else []), Table(f"Figures: denials by number of {cals}", columns, rows)]
