"""Opening hours on the wall clock of a time zone: "mon-fri 08:00-18:00"."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TEXT = re.compile(r"(?:(?P<days>[a-z,-]+))?\s*(?:(?P<from>\d\d?:\d\d)-(?P<to>\d\d?:\d\d))?")
_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """One stretch of every week; one that ends before it begins runs over midnight and belongs to the day it began."""

    days: frozenset[int]  # of its beginning; 0 is Monday
    start: int  # minutes after midnight
    end: int  # up to 24 h after `start`, so maybe on the next day

    def covers(self, moment: datetime) -> bool:
        """Whether the wall clock shows a time within it."""
        minute = moment.hour * 60 + moment.minute
        today, yesterday = moment.weekday(), (moment.weekday() - 1) % 7
        return (today in self.days and self.start <= minute < self.end) or (
            yesterday in self.days and minute < self.end - _DAY
        )

    def edges(self, day: date) -> Iterator[datetime]:
        """When the stretch that begins on this day begins and ends, as the wall clock shows it."""
        if day.weekday() in self.days:
            midnight = datetime(day.year, day.month, day.day)
            yield midnight + timedelta(minutes=self.start)
            yield midnight + timedelta(minutes=self.end)


def parse_hours(text: str) -> Hours:
    """Reads "mon-fri 19:00-24:00", "sat,sun" or "22:00-06:00"; raises ValueError that says what is accepted."""
    found = _TEXT.fullmatch(text.strip().lower())
    if not text.strip() or not found:
        raise ValueError(f'hours are written like "mon-fri 08:00-18:00", "sat,sun" or "22:00-06:00", not {text!r}')
    start, end = (_minutes(found["from"]), _minutes(found["to"])) if found["from"] else (0, _DAY)
    if start >= _DAY:
        raise ValueError(f"hours cannot begin at {found['from']}")
    return Hours(_days(found["days"]), start, end if end > start else end + _DAY)


def is_within(hours: Iterable[Hours], now: float, zone: ZoneInfo) -> bool:
    """Whether any of the stretches covers this Unix time."""
    moment = datetime.fromtimestamp(now, zone)
    return any(stretch.covers(moment) for stretch in hours)


def next_boundary(hours: Iterable[Hours], now: float, zone: ZoneInfo) -> float:
    """Unix time after `now` when `is_within` may change: a beginning, an end, or a change of the clock.

    There must be some hours.
    """
    today = datetime.fromtimestamp(now, zone).date()
    days = [today + timedelta(days=ahead) for ahead in range(-1, 9)]
    walls = [edge for stretch in hours for day in days for edge in stretch.edges(day)]
    # An hour that the clock shows twice in autumn holds two such edges: fold 0 and 1.
    moments = [wall.replace(tzinfo=zone, fold=fold).timestamp() for wall in walls for fold in (0, 1)]
    following = min(moment for moment in moments if moment > now)
    return _clock_change(now, following, zone) or following


def _clock_change(start: float, end: float, zone: ZoneInfo) -> float | None:
    """The moment between two Unix times when the zone's offset changes, to the second above it."""
    if _offset(start, zone) == _offset(end, zone):
        return None
    low, high = int(start), int(end) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(middle, zone) == _offset(start, zone) else (low, middle)
    return float(high) if high < end else None


def _offset(moment: float, zone: ZoneInfo) -> timedelta | None:
    return datetime.fromtimestamp(moment, UTC).astimezone(zone).utcoffset()


def _minutes(clock: str) -> int:
    hour, minute = map(int, clock.split(":"))
    if minute > 59 or hour * 60 + minute > _DAY:
        raise ValueError(f"{clock} is no time of day")
    return hour * 60 + minute


def _days(text: str | None) -> frozenset[int]:
    if not text:
        return frozenset(range(7))
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            begin, end = _DAYS.index(first), _DAYS.index(last or first)
        except ValueError:
            raise ValueError(
                f"{part!r} is no day: mon tue wed thu fri sat sun, and ranges of them like mon-fri"
            ) from None
        days.update((begin + ahead) % 7 for ahead in range((end - begin) % 7 + 1))
    return frozenset(days)
