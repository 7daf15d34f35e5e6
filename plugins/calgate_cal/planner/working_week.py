"""On which weekdays people work: a history shows it, since not every country works from Monday to Friday."""

from collections import defaultdict
from collections.abc import Iterable

from calgate_cal.planner.clock import MONDAY_TO_FRIDAY, Calendar
from calgate_cal.planner.wishes import Visit

_WEEKS_AT_LEAST = 4
_SHARE = 0.2  # of the users of the busiest weekday: fewer come on a day on which few people work


def working_week(visits: Iterable[Visit], calendar: Calendar) -> frozenset[int]:
    """Returns the weekdays, Monday is 0, on which many users come; Monday to Friday in less than four weeks.

    A user counts once a day, so that a robot makes no working day.
    """
    present: dict[int, set[str]] = defaultdict(set)  # by day
    for visit in visits:
        present[calendar.slot(visit.begin).day].add(visit.user)
    if not present or max(present) - min(present) < _WEEKS_AT_LEAST * 7 - 1:
        return MONDAY_TO_FRIDAY
    users = [0] * 7
    for day, those in present.items():
        users[day % 7] += len(those)
    return frozenset(weekday for weekday, count in enumerate(users) if count >= _SHARE * max(users))
