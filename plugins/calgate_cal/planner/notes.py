"""Notes about the input: gaps, unreadable lines, robots, sessions that were cut short."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from calgate_cal.anonymous import is_anonymous
from calgate_cal.planner import people
from calgate_cal.planner.clock import MONDAY_TO_FRIDAY, Calendar
from calgate_cal.planner.history import History

_SHORT_DAY = 2  # hours before the usual end of a day at which the last day counts as not over
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that must be known."""

    text: str
    without_names: str | None = None  # None: there is no name in the text

    def written(self, *, with_names: bool) -> str:
        """Returns the text, with the names of users or without."""
        return self.text if with_names or self.without_names is None else self.without_names


def of(history: History, robots: Sequence[str], calendar: Calendar) -> list[Note]:
    """Returns a note about each thing that must be known."""
    counts = history.counts
    about_days = [*_working_week(calendar), *_missing_days(history, calendar), *_last_day(history, calendar)]
    told = _server(history)
    if counts["no machines"]:
        told.append("each session has a machine of its own: machines are ignored, and a user takes one Session CAL")
    if counts["overdraft"]:
        told.append(f"{_count(counts['overdraft'], 'grant')} beyond the limit, by overdraft")
    told += [
        f"{_count(number, 'denial')} that more CALs would not have prevented: {reason}"
        for reason, number in sorted(history.other_denials.items())
    ]
    told += [*_browsers(history), *unread(history)]
    if counts["twice"]:
        told.append(f"{_count(counts['twice'], 'row')} occurred twice and counted once")
    if counts["twofold"]:
        told.append(f"{_count(counts['twofold'], 'time')} in the hour that occurs twice: the first one is taken")
    if counts["open"]:
        told.append(f"{_count(counts['open'], 'visit')} still open at the end, counted up to then")
    if counts["other files"]:
        told.append(f"{_count(counts['other files'], 'file')} of another kind skipped")
    return [*map(Note, about_days), *_robots(history, robots), *_spellings(history), *map(Note, told)]


def unread(history: History) -> list[str]:
    """Describes the lines that could not be read, and so do not count."""
    told, without_user = [], history.counts["without user"]
    if history.unreadable:
        more = "; …" if history.unreadable > len(history.faults) else ""
        told.append(f"{_count(history.unreadable, 'unreadable line')}: {'; '.join(history.faults)}{more}")
    if without_user:
        told.append(f"{_count(without_user, 'request')} without a user did not count")
    return told


def _browsers(history: History) -> list[str]:
    number = len({visit.user for visit in history.visits if is_anonymous(visit.user)})
    return [f"{_count(number, 'browser')} without sign-in: they need Session CALs in every mix"] if number else []


def _robots(history: History, robots: Sequence[str]) -> list[Note]:
    what = "comes at all hours, probably a robot: --exclude it"
    return [Note(f"{history.names.get(user, user)} {what}", f"a user {what}") for user in robots]


def _spellings(history: History) -> list[Note]:
    """Users who are probably one person, written with their domain in one place and otherwise in another."""
    spelled: dict[str, dict[str, str]] = defaultdict(dict)
    for user in sorted({visit.user for visit in history.visits}):
        form = "upn" if "@" in user else "domain" if "\\" in user else "bare"
        spelled[people.account(user)].setdefault(form, history.names.get(user, user))
    twice = [list(forms.values()) for forms in spelled.values() if len(forms) > 1]
    if not twice:
        return []
    one, other = twice[0][:2]
    what = f"{_count(len(twice), 'account')} written in more than one way"
    remedy = "each counts as a user of its own; if they are the same people, say so in a file for --same"
    return [Note(f"{what}, such as {one} and {other}: {remedy}", f"{what}: {remedy}")]


def _working_week(calendar: Calendar) -> list[str]:
    if calendar.working_week == MONDAY_TO_FRIDAY:
        return []
    return [f"working days here are {', '.join(_WEEKDAYS[day] for day in sorted(calendar.working_week))}"]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _days(history: History, calendar: Calendar) -> dict[int, int]:
    """Each day that has a visit, and the last hour in which one began."""
    last: dict[int, int] = {}
    for visit in history.visits:
        slot = calendar.slot(visit.begin)
        last[slot.day] = max(last.get(slot.day, 0), slot.hour)
    return last


def _missing_days(history: History, calendar: Calendar) -> list[str]:
    days = _days(history, calendar)
    if not days:
        return []
    missing = [day for day in range(min(days), max(days)) if calendar.is_working_day(day) and day not in days]
    if not missing:
        return []
    runs: list[list[int]] = []
    for day in missing:
        if runs and not any(calendar.is_working_day(gap) for gap in range(runs[-1][-1] + 1, day)):
            runs[-1].append(day)
        else:
            runs.append([day])
    told = ", ".join(_range(run, calendar) for run in runs[:10]) + (", …" if len(runs) > 10 else "")
    return [f"{_count(len(missing), 'working day')} without a visit ({told}): closed, or files that are missing here"]


def _range(run: Sequence[int], calendar: Calendar) -> str:
    first, last = calendar.date(run[0]), calendar.date(run[-1])
    if first == last:
        return f"{first.day} {first:%B}"
    return (
        f"{first.day} {first:%B} to {last.day} {last:%B}"
        if first.month != last.month
        else f"{first.day} to {last.day} {last:%B}"
    )


def _last_day(history: History, calendar: Calendar) -> list[str]:
    days = _days(history, calendar)
    working = sorted(hour for day, hour in days.items() if calendar.is_working_day(day) and day != max(days))
    if not working or not calendar.is_working_day(max(days)):
        return []
    usual, last = working[len(working) // 2], days[max(days)]
    if usual - last < _SHORT_DAY:
        return []
    what = f"the last day, {calendar.date(max(days)):%-d %B}, ends at {last + 1:02}:00 and seems not to be over"
    if history.source == "qlikview":
        what += "; visits still open then are missing, since a row is written when a session ends"
    return [what]


def _server(history: History) -> list[str]:
    counts = history.counts
    told = [f"clients by address only in {server}: one address for everybody" for server in sorted(history.one_address)]
    if counts["lru"]:
        told.append(f"{_count(counts['lru'], 'session')} ended by LRU, counted as long as the user usually stays")
    if counts["shutdown"]:
        told.append(f"{_count(counts['shutdown'], 'session')} ended by a shutdown of the server")
    return told
