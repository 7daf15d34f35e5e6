"""Local time: reading the times of a log, and finding the week and hour that a moment is in."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal, NamedTuple

Dates = Literal["dmy", "mdy"]

LONGEST_VISIT = 366 * 86400.0  # seconds: longer is a fault of the log
QUARTER = 900.0  # seconds; every zone's offset is a multiple of it
MONDAY_TO_FRIDAY = frozenset(range(5))
_EPOCH = date(1970, 1, 5)  # a Monday
_YEARS = range(2000, 2100)  # one visit of 1899, as an empty time is often written, would make a history of a century

_CLOCK = r"(\d{1,2})(?:[:.](\d{2})(?:[:.](\d{2}))?)?(?:[.,]\d+)?"
# a year in two digits is recognized with slashes and dots only: 26-03-02 can begin with it
_SLASHED = re.compile(rf"(\d{{1,2}})[/-](\d{{1,2}})(?:[/-](?=\d{{4}})|/)(\d{{4}}|\d{{2}})[ T]{_CLOCK}")
_DOTTED = re.compile(rf"(\d{{1,2}})\. ?(\d{{1,2}})\. ?(\d{{4}}|\d{{2}})[ T]{_CLOCK}")
_PACKED = re.compile(r"(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})(?:\.\d+)?(Z|[+-]\d{2}:?\d{2})?")
_PLAIN = re.compile(rf"(\d{{4}})[-/.] ?(\d{{1,2}})[-/.] ?(\d{{1,2}})\.?[ T]{_CLOCK}")
_HALVES = re.compile(r" ?(?:(a\.? ?m\.?|오전|上午|午前)|(p\.? ?m\.?|오후|下午|午後)) ?", re.IGNORECASE)


class AmbiguousDateError(ValueError):
    """A date such as 03/04/2026, while nothing says which number is the month."""


class Slot(NamedTuple):
    """The week, day and hour that a moment is in, by local time."""

    week: int  # counted from the Monday of 5 January 1970
    day: int  # counted from the same Monday, so day % 7 is the weekday
    hour: int
    month: int  # year * 12 + month - 1

    @property
    def hour_of_week(self) -> int:
        """0 is Monday 00:00 to 01:00."""
        return self.day % 7 * 24 + self.hour


class Calendar:
    """Finds the slot of a moment in one zone (None: the machine's), with the offset of that day."""

    def __init__(self, zone: tzinfo | None, working_week: frozenset[int] = MONDAY_TO_FRIDAY) -> None:
        """`working_week`: weekdays, Monday is 0."""
        self.zone = zone
        self.working_week = working_week
        self._slots: dict[int, Slot] = {}

    def slot(self, at: float) -> Slot:
        """Looks each quarter of an hour up once."""
        quarter = int(at // QUARTER)
        found = self._slots.get(quarter)
        if found is None:
            local = self.local(quarter * QUARTER)
            day = (local.date() - _EPOCH).days
            found = Slot(day // 7, day, local.hour, local.year * 12 + local.month - 1)
            self._slots[quarter] = found
        return found

    def is_working_day(self, day: int) -> bool:
        """Whether people usually work on a slot's day."""
        return day % 7 in self.working_week

    def local(self, at: float) -> datetime:
        """Returns the local time of a moment."""
        return datetime.fromtimestamp(at, UTC).astimezone(self.zone)

    def date(self, day: int) -> date:
        """Returns the date of a slot's day."""
        return _EPOCH + timedelta(days=day)

    def midnight(self, day: int) -> float:
        """Returns when a slot's day begins."""
        when = self.date(day)
        local = datetime(when.year, when.month, when.day, tzinfo=self.zone)
        return local.timestamp()


class LocalTimes:
    """Reads the times of a log, written in local time or with an offset."""

    def __init__(self, zone: tzinfo | None, dates: Dates | None = None) -> None:
        self._zone = zone
        self._dates = dates
        self._hours: dict[str, tuple[float, ...]] = {}

    def read(self, text: str) -> Sequence[float]:
        """Returns the Unix times that a text can mean: two within an hour that occurs twice, else one.

        Raises ValueError.
        """
        if len(text) == 19 and text[4] == "-" and text[13] == ":" == text[16]:
            hours = self._hours.get(text[:13])
            if hours is not None:
                seconds = int(text[14:16]) * 60 + int(text[17:])
                return (hours[0] + seconds,) if len(hours) == 1 else [hour + seconds for hour in hours]
        return self._read(" ".join(text.split()))  # some languages write a space that does not break before AM

    def _read(self, text: str) -> Sequence[float]:
        if text.endswith("Z") or re.search(r"[+-]\d{2}:?\d{2}$", text[10:]):
            moment = _with_offset(text)
            _check_year(moment.year, text)
            return (moment.timestamp(),)
        year, month, day, hour, minute, second = self._fields(text)
        _check_year(year, text)
        naive = datetime(year, month, day, hour)
        if minute > 59 or second > 60:
            raise ValueError(f"{text}: not a time")
        hours = self._moments(naive)
        self._hours[f"{naive:%Y-%m-%d %H}"] = hours
        return [moment + minute * 60 + second for moment in hours]

    def _moments(self, naive: datetime) -> tuple[float, ...]:
        first, second = (naive.replace(tzinfo=self._zone, fold=fold).timestamp() for fold in (0, 1))
        return (first, second) if second > first else (first,)

    def _fields(self, text: str) -> tuple[int, int, int, int, int, int]:
        half = _HALVES.search(text)
        clock = text if half is None else f"{text[: half.start()]} {text[half.end() :]}".strip()
        if match := _PLAIN.fullmatch(clock) or _PACKED.fullmatch(clock):
            year, month, day, hour, minute, second = (int(value or 0) for value in match.groups()[:6])
        elif match := _DOTTED.fullmatch(clock):
            day, month, year, hour, minute, second = (int(value or 0) for value in match.groups())
        elif match := _SLASHED.fullmatch(clock):
            first, other, year, hour, minute, second = (int(value or 0) for value in match.groups())
            day, month = self._ordered(first, other, text)
        else:
            raise ValueError(f"{text!r} is not a time")
        if year < 100 and match.re in (_DOTTED, _SLASHED):
            year += 2000  # written in two digits
        if half is not None:
            hour = hour % 12 + (12 if half[2] else 0)
        return year, month, day, hour, minute, second

    def _ordered(self, first: int, other: int, text: str) -> tuple[int, int]:
        dates = self._dates or order_of_dates(first, other)
        if dates is None:
            raise AmbiguousDateError(text)
        return (first, other) if dates == "dmy" else (other, first)


def order_of_dates(first: int, other: int) -> Dates | None:
    """Decides the order by a value above 12; None if both could be the month."""
    if first > 12:
        return "dmy"
    return "mdy" if other > 12 else None


def order_in(text: str) -> Dates | None:
    """Decides the order of a date such as 31/12/2026 or 31-12-2026; None if it is undecided or of another form."""
    match = _SLASHED.match(text.strip())
    return order_of_dates(int(match[1]), int(match[2])) if match else None


def is_unambiguous(text: str) -> bool:
    """Whether a text is a time whose form says where day and month stand."""
    return any(form.match(text.strip()) for form in (_PLAIN, _PACKED, _DOTTED))


def seconds(text: str) -> float:
    """Reads a length such as 01:02:03, 1.02:03:04 (days first) or a number. Raises ValueError."""
    if len(text) == 8 and text[2] == ":" == text[5]:
        return int(text[:2]) * 3600 + int(text[3:5]) * 60 + int(text[6:])
    match = re.fullmatch(r"(?:(\d+)[. ])?(\d+):(\d{2}):(\d{2})(?:[.,]\d+)?", text.strip())
    if match:
        days, hours, minutes, rest = (int(value or 0) for value in match.groups())
        length: float = days * 86400 + hours * 3600 + minutes * 60 + rest
    else:
        length = float(text.replace(",", "."))
    if not 0 <= length <= LONGEST_VISIT:
        raise ValueError(f"{text!r} is not a length")
    return length


def pair(begins: Sequence[float], ends: Sequence[float], length: float | None) -> tuple[float, bool]:
    """Chooses which of two possible beginnings is meant: the one from which `length` reaches an end.

    Returns it, and whether the choice was certain.
    """
    if len(begins) == 1:
        return begins[0], True
    if length is None or not ends:
        return begins[0], False
    misses = [min(abs(end - begin - length) for end in ends) for begin in begins]
    if abs(misses[0] - misses[1]) < 1.0:
        return begins[0], False
    return begins[0] if misses[0] < misses[1] else begins[1], True


def _check_year(year: int, text: str) -> None:
    if year not in _YEARS:
        raise ValueError(f"{text!r} is not the time of a visit")


def _with_offset(text: str) -> datetime:
    if match := _PACKED.fullmatch(text):
        *numbers, zone = match.groups()
        year, month, day, hour, minute, second = (int(value) for value in numbers)
        text = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}"
    return datetime.fromisoformat(text)
