"""On which weekdays people work: a history shows it, since not every country works from Monday to Friday."""

from collections import Counter
from collections.abc import Iterable

from calgate_cal.planner.clock import MONDAY_TO_FRIDAY, Calendar
from calgate_cal.planner.wishes import Visit

_WEEKS_AT_LEAST = 4
_SHARE = 0.2  # of the users of the busiest weekday: fewer come on a day on which few people work


def working_week(visits: Iterable[Visit], calendar: Calendar) -> frozenset[int]:
    """Returns the weekdays, Monday is 0, on which many users come; Monday to Friday in less than four weeks.

    A user counts once a day, so that a robot makes no working day.
    """
    present = {(visit.user, calendar.slot(visit.begin).day) for visit in visits}
    days = {day for _, day in present}
    if not days or max(days) - min(days) < _WEEKS_AT_LEAST * 7 - 1:
        return MONDAY_TO_FRIDAY
    users = Counter(day % 7 for _, day in present)
    return frozenset(weekday for weekday, count in users.items() if count >= _SHARE * max(users.values()))
