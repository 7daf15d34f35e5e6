"""What a reader must know about the input: gaps, unreadable lines, robots, sessions that were cut short."""

from collections.abc import Sequence

from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.history import History

_SHORT_DAY = 2  # hours before the usual end of a day at which the last day counts as not over


def of(history: History, robots: Sequence[str], calendar: Calendar) -> list[str]:
    """Returns a line for each thing that must be known."""
    counts = history.counts
    told = [
        *_missing_days(history, calendar),
        *_last_day(history, calendar),
        *(f"{history.names.get(user, user)} comes at all hours, probably a robot: --exclude it" for user in robots),
        *_server(history),
    ]
    if counts["overdraft"]:
        told.append(f"{_count(counts['overdraft'], 'grant')} beyond the limit, by overdraft")
    told += [
        f"{_count(number, 'denial')} that more CALs would not have prevented: {reason}"
        for reason, number in sorted(history.other_denials.items())
    ]
    if history.unreadable:
        told.append(f"{_count(history.unreadable, 'unreadable line')}: {'; '.join(history.faults)}")
    if counts["twice"]:
        told.append(f"{_count(counts['twice'], 'row')} occurred twice and counted once")
    if counts["twofold"]:
        told.append(f"{_count(counts['twofold'], 'time')} in the hour that occurs twice: the first one is taken")
    if counts["open"]:
        told.append(f"{_count(counts['open'], 'visit')} still open at the end, counted up to then")
    if counts["without user"]:
        told.append(f"{_count(counts['without user'], 'request')} without a user did not count")
    if counts["other files"]:
        told.append(f"{_count(counts['other files'], 'file')} of another kind skipped")
    return told


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
    missing = [day for day in range(min(days), max(days)) if day % 7 < 5 and day not in days]
    if not missing:
        return []
    runs: list[list[int]] = []
    for day in missing:
        if runs and all(gap % 7 > 4 for gap in range(runs[-1][-1] + 1, day)):
            runs[-1].append(day)
        else:
            runs.append([day])
    told = ", ".join(_range(run, calendar) for run in runs[:10]) + (", …" if len(runs) > 10 else "")
    return [f"{_count(len(missing), 'working day')} without a visit ({told})"]


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
    working = sorted(hour for day, hour in days.items() if day % 7 < 5 and day != max(days))
    if not working or max(days) % 7 > 4:
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
