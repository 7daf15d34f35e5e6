"""How many CALs are needed, from the records."""

from xml.etree import ElementTree

from calgate_cal import plot
from calgate_cal.audit import Record, replay
from calgate_cal.report import episodes, hourly_peaks, make, what_if

HOUR = 3600.0


def record(at: float, what: str, user: str, **facts: str) -> Record:
    return Record(f"{round(at * 1000)}-0", at, what, {"user": user, "name": f"CORP\\{user}", **facts})


def visit(user: str, begins: float, ends: float, kind: str = "session") -> list[Record]:
    granted = record(begins, "granted", user, kind=kind)
    ended = {"lease": granted.id, "ended": str(round(ends * 1000)), "kind": kind}
    return [granted, record(ends + 5, "expired", user, **ended)]


def history(*visits: list[Record]) -> list[Record]:
    return sorted((entry for entries in visits for entry in entries), key=lambda entry: entry.at)


DAY = history(
    visit("ann", 8 * HOUR, 10 * HOUR),
    visit("bob", 9 * HOUR, 11 * HOUR),
    visit("cid", 9.5 * HOUR, 9.75 * HOUR),
    visit("ann", 20 * HOUR, 21 * HOUR, "usage"),
    [record(9.6 * HOUR, "denied", "dan"), record(9.7 * HOUR, "denied", "dan"), record(15 * HOUR, "denied", "dan")],
)


def test_the_peak_of_every_hour_counts_what_was_out_at_once() -> None:
    report = make("q", DAY, 0, 24 * HOUR, 0)
    session = report.hours["session"]
    assert (session[7], session[8], session[9], session[10], session[11]) == (0, 1, 3, 1, 0)
    assert [(use.kind, use.users, use.peak, use.by_hour[9]) for use in report.uses] == [
        ("session", 3, 3, 3),
        ("usage", 1, 1, 0),
    ]


def test_a_cal_that_changes_hands_in_an_instant_is_one_not_two() -> None:
    spans = replay(history(visit("ann", 0, HOUR), visit("bob", HOUR, 2 * HOUR))).spans
    assert hourly_peaks(spans, 0, 3 * HOUR) == [1, 1, 0]


def test_hours_of_the_day_are_local() -> None:
    report = make("q", DAY, 0, 24 * HOUR, 2 * HOUR)
    assert report.uses[0].by_hour[11] == 3


def test_retries_within_ten_minutes_are_one_episode() -> None:
    denials = [record(at, "denied", user) for at, user in ((0, "a"), (599, "a"), (1100, "a"), (1701, "a"), (1701, "b"))]
    assert [(it.at, it["user"]) for it in episodes(denials)] == [(0, "a"), (1701, "a"), (1701, "b")]
    report = make("q", DAY, 0, 24 * HOUR, 0)
    assert (report.attempts, report.episodes, report.denied_users) == (3, 2, 1)


def test_with_n_session_cals_there_would_have_been_k_denials() -> None:
    sessions = [span for span in replay(DAY).spans if span.kind == "session"]
    assert what_if(sessions, [], 24 * HOUR) == {0: 3, 1: 2, 2: 1, 3: 0}
    denied = [record(9.6 * HOUR, "denied", "dan")]  # he would have stayed two hours, as people do
    assert what_if(sessions, denied, 24 * HOUR) == {0: 4, 1: 3, 2: 2, 3: 1, 4: 0}


def test_what_is_still_out_counts_until_the_end() -> None:
    report = make("q", [record(0, "granted", "ann", kind="named")], 0, 3 * HOUR, 0)
    assert report.hours == {"named": [1, 1, 1]}


def test_an_empty_time_is_a_report_too() -> None:
    report = make("q", [], 0, HOUR, 0)
    assert (report.uses, report.episodes, report.what_if) == ([], 0, {0: 0})
    ElementTree.fromstring(plot.svg(report))


def test_the_plot_is_a_picture_with_a_line_a_kind() -> None:
    picture = ElementTree.fromstring(plot.svg(make("<q>", DAY, 0, 24 * HOUR, 0)))
    assert len(picture.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    assert "<q>: most CALs in use in each hour" in [
        text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")
    ]
