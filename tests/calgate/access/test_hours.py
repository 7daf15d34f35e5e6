"""Opening hours on the wall clock, and the moments at which they can change."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from calgate.access.hours import is_within, next_boundary, parse_hours

ZONE = ZoneInfo("Europe/Berlin")


def moment(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("hours", "when", "inside"),
    [
        ("mon-fri 08:00-18:00", "2026-03-02T08:00", True),
        ("mon-fri 08:00-18:00", "2026-03-02T18:00", False),
        ("mon-fri 08:00-18:00", "2026-03-07T12:00", False),
        ("sat,sun", "2026-03-08T23:59", True),
        ("fri-mon 08:00-09:00", "2026-03-08T08:30", True),
        ("22:00-06:00", "2026-03-02T23:00", True),
        ("22:00-06:00", "2026-03-02T05:59", True),
        ("22:00-06:00", "2026-03-02T06:00", False),
        ("fri 22:00-06:00", "2026-03-07T05:00", True),
        ("fri 22:00-06:00", "2026-03-06T05:00", False),
        ("00:00-24:00", "2026-03-02T00:00", True),
    ],
)
def test_period_covers_its_hours_and_runs_past_midnight(hours: str, when: str, inside: bool) -> None:
    assert is_within([parse_hours(hours)], moment(when), ZONE) is inside


@pytest.mark.parametrize(
    ("hours", "now", "boundary"),
    [
        ("mon-fri 08:00-18:00", "2026-03-02T07:00", "2026-03-02T08:00"),
        ("mon-fri 08:00-18:00", "2026-03-02T08:00", "2026-03-02T18:00"),
        ("mon-fri 08:00-18:00", "2026-03-06T18:00", "2026-03-09T08:00"),
        ("mon 08:00-09:00", "2026-03-02T09:00", "2026-03-09T08:00"),
        ("22:00-06:00", "2026-03-02T23:00", "2026-03-03T06:00"),
    ],
)
def test_next_boundary_is_the_next_beginning_or_end(hours: str, now: str, boundary: str) -> None:
    assert next_boundary([parse_hours(hours)], moment(now), ZONE) == moment(boundary)


@pytest.mark.parametrize(
    ("now", "boundary"), [("2026-03-29T01:00", "2026-03-29T03:00"), ("2026-10-25T01:00", "2026-10-25T02:00")]
)
def test_change_of_the_clock_is_a_boundary(now: str, boundary: str) -> None:
    change = next_boundary([parse_hours("mon 08:00-18:00")], moment(now), ZONE)
    assert change == moment(boundary, fold=1)


def test_hours_change_only_at_boundaries() -> None:
    hours = [parse_hours(text) for text in ("mon-fri 08:00-18:00", "sat 22:00-03:00", "02:30-02:45")]
    now, end = moment("2026-10-19T00:00"), moment("2026-11-02T00:00")
    while now < end:
        boundary = next_boundary(hours, now, ZONE)
        seen = {is_within(hours, at, ZONE) for at in (now, (now + boundary) / 2, boundary - 0.001)}
        assert len(seen) == 1
        assert boundary > now
        now = boundary


@pytest.mark.parametrize(
    "text", ["", "late", "25:00-26:00", "24:00-06:00", "08:61-09:00", "mon-xyz", "8-9", "mon,,tue"]
)
def test_malformed_hours_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_hours(text)
