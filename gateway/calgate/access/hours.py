"""Opening hours on the wall clock of a time zone: "mon-fri 08:00-18:00"."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TEXT = re.compile(r"(?:(?P<days>[a-z,-]+))?\s*(?:(?P<from>[0-9]{1,2}:[0-9]{2})-(?P<to>[0-9]{1,2}:[0-9]{2}))?")
_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """A period of every week. One that ends before it begins runs past midnight and belongs to the day it began."""

    days: frozenset[int]  # on which it begins; 0 is Monday
    start: int  # minutes after midnight
    end: int  # up to 24 h after `start`, so possibly on the next day

    def covers(self, moment: datetime) -> bool:
        """Whether this time of the wall clock is within the period."""
        minute = moment.hour * 60 + moment.minute
        today, yesterday = moment.weekday(), (moment.weekday() - 1) % 7
        return (today in self.days and self.start <= minute < self.end) or (
            yesterday in self.days and minute < self.end - _DAY
        )

    def edges(self, day: date) -> Iterator[datetime]:
        """Yields when the period that begins on this day begins and ends, on the wall clock."""
        if day.weekday() in self.days:
            midnight = datetime(day.year, day.month, day.day)
            yield midnight + timedelta(minutes=self.start)
            yield midnight + timedelta(minutes=self.end)


def parse_hours(text: str) -> Hours:
    """Reads "mon-fri 19:00-24:00", "sat,sun" or "22:00-06:00"; raises ValueError with an example."""
    found = _TEXT.fullmatch(text.strip().lower())
    if not text.strip() or not found:
        raise ValueError(f'hours are written like "mon-fri 08:00-18:00", "sat,sun" or "22:00-06:00", not {text!r}')
    start, end = (_minutes(found["from"]), _minutes(found["to"])) if found["from"] else (0, _DAY)
    if start >= _DAY:
        raise ValueError(f"hours cannot begin at {found['from']}")
    return Hours(_days(found["days"]), start, end if end > start else end + _DAY)


def is_within(hours: Iterable[Hours], now: float, zone: ZoneInfo) -> bool:
    """Whether any of the periods covers this Unix time."""
    moment = datetime.fromtimestamp(now, zone)
    return any(period.covers(moment) for period in hours)


def next_boundary(hours: Iterable[Hours], now: float, zone: ZoneInfo) -> float:
    """Returns the next Unix time at which `is_within` can change: a beginning, an end, or a change of the clock.

    `hours` must not be empty.
    """
    today = datetime.fromtimestamp(now, zone).date()
    days = [today + timedelta(days=ahead) for ahead in range(-1, 9)]
    walls = [edge for period in hours for day in days for edge in period.edges(day)]
    # The hour that the clock shows twice in autumn has each edge twice: fold 0 and 1.
    moments = [wall.replace(tzinfo=zone, fold=fold).timestamp() for wall in walls for fold in (0, 1)]
    following = min(moment for moment in moments if moment > now)
    return _clock_change(now, following, zone) or following


def _clock_change(start: float, end: float, zone: ZoneInfo) -> float | None:
    """Returns when between two Unix times the zone's offset changes, rounded up to the second."""
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
        raise ValueError(f"{clock} is not a time of day")
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
                f"{part!r} is not a day: mon tue wed thu fri sat sun, and ranges of them like mon-fri"
            ) from None
        days.update((begin + ahead) % 7 for ahead in range((end - begin) % 7 + 1))
    return frozenset(days)
