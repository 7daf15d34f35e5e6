"""Charts as SVG."""

import re

from calgate.console.chart import draw, spark
from calgate.plugin.screens import Chart, Curve, Series, Step


def test_spark_goes_from_midnight_to_now_and_is_as_high_as_the_limit() -> None:
    drawn = spark([0, 2, 4], 4)
    points = re.findall(r"([\d.]+),([\d.]+)", drawn.partition('points="')[2])
    assert points[0] == ("0.00", "24.00")
    assert points[-1] == ("12.50", "0.00")
    assert "most in use: 4" in drawn


def test_spark_of_a_day_with_25_hours_stays_within_its_width() -> None:
    assert '100.00,0.00"' in spark([1] * 25, 1)


def test_spark_beyond_the_limit_stays_within_its_height() -> None:
    assert "-" not in spark([6], 4).partition("points=")[2]


def test_limit_is_a_step_line_where_it_changed() -> None:
    series = Series("Session", [1, 2, 0, 0], 8, [Step(0.0, 4), Step(7200.0, 8)])
    drawn = draw(Chart("Most in use", 0.0, [series]))
    [line] = re.findall(r'class="limit line-0" points="([^"]+)"', drawn)
    points = [point.split(",") for point in line.split()]
    assert [x for x, _ in points] == ["44.0", "502.0", "502.0", "960.0"]
    assert len({y for _, y in points}) == 2
    assert points[0][1] == points[1][1]
    assert "limit of Session: 4, then 8" in drawn


def test_limit_that_never_changed_is_level() -> None:
    drawn = draw(Chart("Most in use", 0.0, [Series("Session", [1, 2], 4)]))
    assert re.findall(r'class="limit line-0" points="([^"]+)"', drawn) == ["44.0,16.0 960.0,16.0"]


def test_denials_of_many_hours_are_marked_together_and_none_is_lost() -> None:
    counts = [1] * 9600
    drawn = draw(Chart("Most in use", 0.0, [Series("Session", [1] * 9600)], Series("Denials", counts)))
    marks = [int(count) for count in re.findall(r"<title>Denials: (\d+)</title>", drawn)]
    assert (len(marks), sum(marks)) == (160, 9600)


def test_line_of_a_year_has_a_step_a_pixel_and_keeps_its_peak() -> None:
    values = [0] * 9607
    values[9603] = 7
    drawn = draw(Chart("Most in use", 0.0, [Series("Session", values)]))
    [line] = re.findall(r'class="line line-0" points="([^"]+)"', drawn)
    points = [point.split(",") for point in line.split()]
    assert len(points) < 2 * 1100
    assert (points[-1], min(float(y) for _, y in points)) == (["960.0", "16.0"], 16.0)


def test_curve_marks_what_is_chosen_at_present() -> None:
    drawn = draw(Curve("Denials", "Session CALs", "Attempts denied", [(4, 9), (6, 0)], 6))
    assert re.findall(r'class="line line-0" points="([^"]+)"', drawn) == ["44.0,16.0 960.0,272.0"]
    assert '<circle class="mark" cx="960.0" cy="272.0" r="5"><title>Session CALs: 6 as it is now</title>' in drawn
