"""The notes about the input."""

from datetime import datetime, timedelta
from pathlib import Path

from calgate_cal.planner import people
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.history import History
from calgate_cal.planner.notes import of
from calgate_cal.planner.sources import read_files
from calgate_cal.planner.wishes import Visit
from calgate_cal.planner.working_week import working_week
from support.visits import BEGIN, BERLIN, DAY, HOUR, SMALL, calendar, session_log, session_row

MONDAY = datetime(2026, 3, 2)
WHY = "closed, or files that are missing here"


def notes(folder: Path) -> list[str]:
    history, zone = read_files([folder], BERLIN), Calendar(BERLIN)
    told = of(history, people.robots(history.visits, zone), zone)
    return [note.written(with_names=True) for note in told]


def write(folder: Path, days: list[int], last_hour: int = 17) -> None:
    """Logs with a visit at nine, and one in the last hour, of each day after Monday, 2 March."""
    for day in days:
        at = MONDAY + timedelta(days=day)
        rows = [session_row(at + timedelta(hours=hour), 20, "ann") for hour in (9, last_hour)]
        (folder / f"Sessions_QVS1_{at:%Y-%m-%d}.log").write_text(session_log(rows))


def test_working_days_without_a_visit_are_told_as_ranges(tmp_path: Path) -> None:
    write(tmp_path, [0, 4, 7, 8, 9, 11])
    assert notes(tmp_path) == [f"4 working days without a visit (3 to 5 March, 12 March): {WHY}"]


def test_a_range_over_a_weekend_is_one(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2, 3, 8])
    assert notes(tmp_path) == [f"2 working days without a visit (6 to 9 March): {WHY}"]


def test_a_last_day_that_is_not_over_is_told_with_what_is_missing(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2])
    write(tmp_path, [3], last_hour=10)
    (note,) = notes(tmp_path)
    assert note.startswith("the last day, 5 March, ends at 11:00")
    assert "a row is written when a session ends" in note


def test_a_user_who_comes_at_all_hours_on_six_days_of_seven_is_probably_a_robot() -> None:
    def visits(user: str, days: int, hours: int) -> list[Visit]:
        begins = [BEGIN + day * DAY + hour * HOUR for day in range(days) for hour in range(hours)]
        return [Visit(at, at + 60, at + 60, "closed", user, "pc", "session", "") for at in begins]

    found = [*visits("robot", 7, 24), *visits("clerk", 7, 12), *visits("tester", 1, 24)]
    assert people.robots(found, calendar()) == ["robot"]


def test_small_logs_report_every_difficulty() -> None:
    told = "; ".join(notes(SMALL / "sessions"))
    for part in ("1 session ended by LRU", "1 session ended by a shutdown", "2 unreadable lines", "line 3: no user"):
        assert part in told


def test_the_working_week_is_the_one_that_the_history_shows(tmp_path: Path) -> None:
    sunday_to_thursday = [day for day in range(4 * 7) if day % 7 not in (4, 5)]
    write(tmp_path, sunday_to_thursday)
    visits = read_files([tmp_path], BERLIN).visits
    robot = [
        Visit(BEGIN + day * DAY, BEGIN + day * DAY + 60, 0, "closed", "robot", "", "session", "") for day in range(28)
    ]
    assert working_week([*visits, *robot], Calendar(BERLIN)) == {0, 1, 2, 3, 4, 5, 6}, "a robot among so few is a user"
    assert working_week(visits, Calendar(BERLIN)) == {6, 0, 1, 2, 3}
    assert working_week(visits[:20], Calendar(BERLIN)) == {0, 1, 2, 3, 4}, "too short to show it"


def test_accounts_written_in_more_than_one_way_are_told_with_the_remedy_until_they_are_united() -> None:
    users = ("corp\\ann", "ann@corp.example", "corp\\bob", "dev\\bob", "cid")
    history = History(names={"corp\\ann": "CORP\\Ann"})
    history.visits = [Visit(BEGIN, BEGIN, BEGIN, "closed", user, "", "session", "") for user in users]
    (told,) = of(history, [], calendar())
    assert told.text.startswith("1 account written in more than one way, such as ann@corp.example and CORP\\Ann: each")
    assert "ann" not in told.written(with_names=False).casefold()
    people.unite(history, {"ann@corp.example": "corp\\ann"})
    assert of(history, [], calendar()) == []
