"""The table with the figures of a chart."""

from datetime import timedelta, timezone

from calgate.console.figures import table
from calgate.plugin.screens import Chart, Series, Step

BEGIN, HOUR = 1_795_651_200.0, 3600.0  # 2026-11-26 00:00 UTC
EAST = timezone(timedelta(hours=1))


def test_table_of_few_hours_has_a_row_an_hour_in_the_sites_zone_newest_first() -> None:
    made = table(Chart("In use", BEGIN, [Series("Session", [1, 3])]), EAST)
    assert [column.title for column in made.columns] == ["Hour", "Session"]
    assert [(row["time"], row["most-0"]) for row in made.rows] == [("2026-11-26 02:00", 3), ("2026-11-26 01:00", 1)]


def test_table_of_many_hours_has_a_row_a_day_with_the_most_the_sum_of_marks_and_the_limit_at_its_end() -> None:
    values = [hour % 24 for hour in range(9 * 24)]
    series = Series("Session", values, 9, [Step(BEGIN + 30 * HOUR, 9)])
    made = table(Chart("In use", BEGIN, [series], Series("Denials", [2] * len(values))), EAST)
    assert [column.title for column in made.columns] == ["Day", "Session", "Session, limit", "Denials"]
    first, second, *_ = reversed(made.rows)
    assert list(first.values()) == ["2026-11-26", 22, None, 46]  # before the first change that is known
    assert list(second.values()) == ["2026-11-27", 23, 9, 48]


def test_table_of_denials_alone_has_its_hours() -> None:
    made = table(Chart("In use", BEGIN, [], Series("Denials", [0, 1])), EAST)
    assert [row["marks"] for row in made.rows] == [1, 0]
