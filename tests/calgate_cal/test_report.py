"""`calgate cals report` on records."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

from calgate_cal import plot, report_page
from calgate_cal.audit import Record
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.plan import Options, prepare
from calgate_cal.planner.recorded import history_of
from calgate_cal.planner.sources.audit import Window
from calgate_cal.replies import Holder
from calgate_cal.report import Report, Span, full_hour, hourly_peaks, make

HOUR = 3600.0


def record(at: float, what: str, user: str, **facts: str) -> Record:
    return Record(f"{round(at * 1000)}-0", at, what, {"user": user, "name": f"CORP\\{user}", **facts})


def visit(user: str, begins: float, ends: float, kind: str = "session") -> list[Record]:
    granted = record(begins, "granted", user, kind=kind)
    ended = {"lease": granted.id, "ended": str(round(ends * 1000)), "used": str(round(ends * 1000)), "kind": kind}
    return [granted, record(ends + 5, "signed-out", user, **ended)]


def history(*visits: list[Record]) -> list[Record]:
    return sorted((entry for entries in visits for entry in entries), key=lambda entry: entry.at)


def report(
    records: Sequence[Record], since: float, until: float, holders: Sequence[Holder] = (), zone: tzinfo = UTC
) -> Report:
    calendar, window, options = Calendar(zone), Window(since, until), Options()
    prepared = prepare(history_of(records, holders, window, options), options, calendar)
    return make("<q>", records, holders, prepared, window, calendar, {"session": 2})


DAY = history(
    visit("ann", 8 * HOUR, 10 * HOUR),
    visit("bob", 9 * HOUR, 11 * HOUR),
    visit("cid", 9.5 * HOUR, 9.75 * HOUR),
    visit("ann", 20 * HOUR, 21 * HOUR, "usage"),
    [record(9.6 * HOUR, "denied", "dan"), record(9.7 * HOUR, "denied", "dan"), record(15 * HOUR, "denied", "dan")],
)


def test_the_peak_of_every_hour_counts_what_was_out_at_once() -> None:
    made = report(DAY, 0, 24 * HOUR)
    session = made.hours["session"]
    assert (session[7], session[8], session[9], session[10], session[11]) == (0, 1, 3, 1, 0)
    assert [(use.kind, use.users, use.peak, use.by_hour[9]) for use in made.uses] == [
        ("session", 3, 3, 3),
        ("usage", 1, 1, 0),
    ]


def test_a_cal_that_changes_hands_in_an_instant_is_one_not_two() -> None:
    spans = [Span("session", "ann", 0, HOUR), Span("session", "bob", HOUR, 2 * HOUR)]
    assert hourly_peaks(spans, 0, 3 * HOUR) == [1, 1, 0]


def test_hours_of_the_day_have_the_offset_of_their_own_day() -> None:
    july = datetime(2026, 7, 9, 8, tzinfo=UTC).timestamp()  # 10:00 in Berlin
    january = datetime(2027, 1, 10, 12, tzinfo=UTC).timestamp()
    made = report(visit("ann", july, july + 600), july - HOUR, january, zone=ZoneInfo("Europe/Berlin"))
    assert max(made.uses[0].by_hour, key=lambda hour: made.uses[0].by_hour[hour]) == 10


def test_hours_are_full_ones_by_local_time() -> None:
    kolkata = Calendar(ZoneInfo("Asia/Kolkata"))
    at = datetime(2026, 7, 9, 8, 45, 12, tzinfo=UTC).timestamp()  # 14:15:12
    assert kolkata.local(full_hour(at, kolkata)).strftime("%H:%M:%S") == "14:00:00"
    made = report(visit("ann", 9.9 * HOUR, 10.2 * HOUR), 9.5 * HOUR, 12 * HOUR)
    assert (made.begin, made.hours["session"]) == (9 * HOUR, [1, 1, 0])


def test_attempts_within_an_hour_are_one_denied_wish_and_the_rate_is_of_all_wishes() -> None:
    made = report(DAY, 0, 24 * HOUR)
    assert (made.attempts, made.episodes, made.denied_users, made.visits) == (3, 2, 1, 4)
    assert made.rate == 2 / 6
    assert (sum(made.denied_by_hour), made.denied_by_hour[9], sum(made.wishes_by_hour)) == (2, 1, 6)


def test_with_other_numbers_of_session_cals_the_planners_curve_is_shown() -> None:
    made = report(DAY, 0, 24 * HOUR)
    assert made.what_if == {0: 6, 1: 3, 2: 2, 3: 1, 4: 0}
    assert (made.below, made.now) == (4, {"session": 2})


def test_what_is_still_out_counts_until_the_end() -> None:
    ann = Holder("named", "ann", "CORP\\ann", "pc", "", "0-0", 0, 0, None, "held", "dynamic")
    assert report([], 0, 3 * HOUR, [ann]).hours == {"named": [1, 1, 1]}


def test_grants_that_were_taken_back_are_in_no_number() -> None:
    granted = record(HOUR, "granted", "ann", kind="session")
    ended = {"lease": granted.id, "ended": str(round(HOUR * 1000)), "kind": "session"}
    made = report([granted, record(HOUR, "taken-back", "ann", **ended)], 0, 3 * HOUR)
    assert (made.visits, made.uses) == (0, [])


def test_an_empty_time_is_a_report_too() -> None:
    made = report([], 0, HOUR)
    assert (made.uses, made.episodes, made.rate, made.what_if) == ([], 0, 0.0, {0: 0})
    ElementTree.fromstring(plot.svg(made, Calendar(UTC)))


def test_the_plot_is_a_picture_with_a_line_a_kind() -> None:
    picture = ElementTree.fromstring(plot.svg(report(DAY, 0, 24 * HOUR), Calendar(UTC)))
    assert len(picture.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    assert "<q>: most CALs in use in each hour" in [
        text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")
    ]


def test_page_stands_alone_and_names_nobody() -> None:
    page = report_page.html(report(DAY, 0, 24 * HOUR), Calendar(UTC))
    assert "&lt;q&gt;" in page
    assert "<q>" not in page, "the name of the license is escaped"
    assert not re.search(r"""(?:src|href)=|<script|url\(|@import|https?://(?!www\.w3\.org/2000/svg)""", page)
    assert "CORP" not in page
    assert page.count("<table>") == 2


def test_page_of_an_empty_time_says_that_nobody_was_denied() -> None:
    assert "Nobody was denied a CAL." in report_page.html(report([], 0, HOUR), Calendar(UTC))
