"""Charts as SVG."""

import re

from calgate.console.chart import spark


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
