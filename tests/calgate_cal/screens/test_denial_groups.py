"""Denials counted by person, document or reason."""

import json
from datetime import UTC
from zoneinfo import ZoneInfo

from calgate.plugin import Moment
from calgate_cal.audit import Record
from calgate_cal.planner.clock import Calendar
from calgate_cal.screens.denial_groups import grouped, groups_table
from calgate_cal.screens.found_records import entry_of, why


def _denied(user: str, document: str, note: str = "full", *, code: str = "no-cal", at: float = 100.0) -> Record:
    pools = json.dumps([{"kind": "named", "note": "not-assigned"}, {"kind": "session", "note": note}])
    facts = {"user": f"S-{user}", "name": f"CORP\\{user}", "document": document, "code": code, "pools": pools}
    return Record("1-0", at, "denied", facts)


UTC_HOURS = Calendar(UTC)
DENIALS = [
    _denied("ann", "sales.qvw", at=300),
    _denied("bob", "sales.qvw", at=200),
    _denied("ann", "stock.qvw", "reserved"),
    _denied("ann", "sales.qvw", code="in-use-elsewhere"),
]


def test_reason_is_the_note_of_the_pool_that_came_nearest_unless_the_denial_has_one_of_its_own() -> None:
    assert why(DENIALS[0]) == "all are out"
    assert why(DENIALS[2]) == "the free ones are reserved for other groups"
    assert why(DENIALS[3]) == "the user's own CAL is in use on another machine"
    assert why(Record("1-0", 1.0, "would-deny", {})) == "would-deny"


def test_largest_group_comes_first_with_its_latest_denial() -> None:
    people = grouped(map(entry_of, DENIALS), "person", UTC_HOURS)
    assert [(one.first.name, one.denials, len(one.documents)) for one in people] == [
        ("CORP\\ann", 3, 2),
        ("CORP\\bob", 1, 1),
    ]
    assert people[0].first.at == 300
    documents = grouped(map(entry_of, DENIALS), "document", UTC_HOURS)
    assert [(one.first.document, len(one.people)) for one in documents] == [("sales.qvw", 2), ("stock.qvw", 1)]
    assert [one.denials for one in grouped(map(entry_of, DENIALS), "reason", UTC_HOURS)] == [2, 1, 1]


def test_cal_is_assigned_to_a_person_of_the_table_and_to_nothing_else() -> None:
    by_person = groups_table("qlikview", grouped(map(entry_of, DENIALS), "person", UTC_HOURS), "person")
    assert [button.action for button in by_person.buttons] == ["holders/assign"]
    assert by_person.rows[0]["id"] == '["qlikview", "S-ann"]'
    by_document = groups_table("qlikview", grouped(map(entry_of, DENIALS), "document", UTC_HOURS), "document")
    assert (by_document.buttons, by_document.rows[0]["id"]) == ((), None)


def test_hours_are_those_of_the_sites_zone_and_come_newest_first() -> None:
    denials = [entry_of(_denied("ann", "sales.qvw", at=at)) for at in (9000.25, 5500.7, 5400.372, 100.0)]
    hours = grouped(denials, "hour", Calendar(ZoneInfo("Asia/Kolkata")))  # half an hour off
    assert [(one.key, one.denials) for one in hours] == [(9000, 1), (5400, 2), (-1800, 1)]
    table = groups_table("qlikview", hours, "hour")
    assert [row["of"] for row in table.rows][:2] == [Moment(9000), Moment(5400)]
    assert [column.key for column in table.columns] == ["of", "denials", "people", "documents", "latest"]
