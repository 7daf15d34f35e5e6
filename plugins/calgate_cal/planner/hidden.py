"""Wishes that a log without denials does not show: people who came while all Session CALs were taken."""

import random
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from calgate_cal.planner.clock import QUARTER, Calendar
from calgate_cal.planner.wishes import Visit, Wish

DRAWS = 20
FLAT_HOURS = 3
_ABOVE = 0.1  # of the full time
_MOSTLY = 1800.0  # seconds at the peak that make an hour a flat one


@dataclass(frozen=True, slots=True)
class Hidden:
    """The estimate: wishes to add, and the number of CALs at which the pool was full."""

    wishes: Sequence[Wish]
    seats: int


Hold = tuple[float, float]


class Levels:
    """How many CALs were taken from when to when, in arrays: a year of a large site has two million changes."""

    def __init__(self, holds: Iterable[Hold]) -> None:
        self._at = array("d")
        self._taken = array("l")  # from this moment to the next
        self._time: dict[int, float] = defaultdict(float)  # for which that many were taken
        self._fill(holds)

    def _fill(self, holds: Iterable[Hold]) -> None:
        begins, ends = array("d"), array("d")
        for begin, end in holds:
            begins.append(begin)
            ends.append(end)
        begins, ends = array("d", sorted(begins)), array("d", sorted(ends))
        freed = 0
        last = begins[0] if begins else 0.0
        for number, begin in enumerate(begins):
            while freed < len(ends) and ends[freed] <= begin:
                last = self._step(last, ends[freed], number - freed)
                freed += 1
            last = self._step(last, begin, number - freed)
        for taken in range(len(ends) - freed, 0, -1):
            last = self._step(last, ends[len(ends) - taken], taken)
        self._at.append(last)

    def _step(self, since: float, until: float, taken: int) -> float:
        if until > since:
            self._at.append(since)
            self._taken.append(taken)
            self._time[taken] += until - since
        return until

    def __iter__(self) -> Iterator[tuple[float, float, int]]:
        """Yields from when, until when and how many."""
        return zip(self._at, self._at[1:], self._taken, strict=False)

    @property
    def peak(self) -> int:
        """The most that were taken at once."""
        return max(self._time, default=0)

    def time_above(self, seats: int) -> float:
        """Returns the seconds for which more than that many were taken."""
        return sum(time for taken, time in self._time.items() if taken > seats)


def holds(visits: Sequence[Visit], minimum: float, *, by_user: bool) -> list[Hold]:
    """Returns the times for which the server that wrote the log held its CALs; visits are in order.

    A user who returns while their CAL is still held uses the same one.
    """
    held: list[Hold] = []
    current: dict[tuple[str, str], Hold] = {}
    for visit in visits:
        holder = (visit.user, "" if by_user else visit.machine)
        end = max(visit.end, visit.begin + minimum)
        before = current.get(holder)
        if before is not None and visit.begin <= before[1]:
            current[holder] = (before[0], max(before[1], visit.end))
            continue
        if before is not None:
            held.append(before)
        current[holder] = (visit.begin, end)
    return [*held, *current.values()]


def estimate(
    wishes: Sequence[Wish], holds: Sequence[Hold], seats: int | None, calendar: Calendar, seed: int
) -> Hidden | None:
    """Assumes that arrivals go on while the pool is full, at the rate of the same hour at other times.

    `wishes` are those served by Session CALs, and `holds` the times for which their CALs were held. Without `seats` the
    pool was full if its peak stays flat. Returns None if the pool was never full.
    """
    levels = Levels(holds)
    full_at = seats if seats is not None else _flat_peak(levels)
    if not full_at or not wishes or _exceeds(levels, full_at):
        return None
    classes = _Classes(calendar)
    for begin, end, taken in levels:
        classes.add_time(begin, end, is_full=taken >= full_at)
    full = [(begin, end) for begin, end, taken in levels if taken >= full_at]
    classes.add_arrivals(wishes, full)
    draws = [classes.draw(random.Random(seed + number)) for number in range(DRAWS)]  # noqa: S311 - a sample, no secret
    middle = median([len(draw) for draw in draws])
    chosen = min(draws, key=lambda draw: abs(len(draw) - middle))
    return Hidden(chosen, full_at) if chosen else None


def peak_above(holds: Sequence[Hold], seats: int) -> int | None:
    """Returns how many CALs were taken at once if that is clearly more than `seats`, else None."""
    levels = Levels(holds)
    return levels.peak if _exceeds(levels, seats) else None


def _exceeds(levels: Levels, seats: int) -> bool:
    """Whether clearly more CALs were taken than that, so that this number cannot have turned anybody away."""
    spare = max(1, seats // 10)  # what clocks of the logging server that differ from ours explain
    return levels.time_above(seats + spare) > _ABOVE * levels.time_above(seats - 1)


def _flat_peak(levels: Levels) -> int | None:
    """Returns the number that fills the larger part of three hours or more and is hardly ever exceeded."""
    for seats in range(levels.peak, 0, -1):
        if levels.time_above(seats) > _ABOVE * levels.time_above(seats - 1):
            return None
        hours: dict[int, float] = defaultdict(float)
        for begin, end, taken in levels:
            if taken == seats:
                for from_, to in _parts(begin, end, 3600.0):
                    hours[int(from_ // 3600)] += to - from_
        if sum(time >= _MOSTLY for time in hours.values()) >= FLAT_HOURS:
            return seats
    return None


def _parts(begin: float, end: float, width: float) -> list[tuple[float, float]]:
    """Cuts a time where a multiple of `width` begins."""
    parts = []
    while begin < end:
        to = min(end, (begin // width + 1) * width)
        parts.append((begin, to))
        begin = to
    return parts


class _Classes:
    """Arrivals and times by class of hour: working day or not, and the hour."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._open: dict[tuple[bool, int], float] = defaultdict(float)
        self._full: dict[tuple[bool, int], list[tuple[float, float]]] = defaultdict(list)
        self._arrivals: dict[tuple[bool, int], list[Wish]] = defaultdict(list)
        self._while_full: dict[tuple[bool, int], int] = defaultdict(int)

    def _class(self, at: float) -> tuple[bool, int]:
        slot = self._calendar.slot(at)
        return self._calendar.is_working_day(slot.day), slot.hour

    def add_time(self, begin: float, end: float, *, is_full: bool) -> None:
        for from_, to in _parts(begin, end, QUARTER):
            if is_full:
                self._full[self._class(from_)].append((from_, to))
            else:
                self._open[self._class(from_)] += to - from_

    def add_arrivals(self, wishes: Sequence[Wish], full: Sequence[Hold]) -> None:
        position = 0
        for wish in wishes:
            while position < len(full) and full[position][1] <= wish.begin:
                position += 1
            # the wish that fills the pool begins a full time; it came while there was room
            if position < len(full) and full[position][0] < wish.begin:
                self._while_full[self._class(wish.begin)] += 1
            else:
                self._arrivals[self._class(wish.begin)].append(wish)

    def draw(self, generator: random.Random) -> list[Wish]:
        """Returns one sample of the wishes that the log does not show, in order."""
        drawn: list[Wish] = []
        for hour, times in self._full.items():
            arrivals = self._arrivals.get(hour, [])
            if not arrivals or not self._open[hour]:
                continue
            full = sum(end - begin for begin, end in times)
            expected = len(arrivals) * full / self._open[hour] - self._while_full[hour]
            for _ in range(_poisson(expected, generator)):
                begin, end = generator.choices(times, [to - from_ for from_, to in times])[0]
                like, at = generator.choice(arrivals), generator.uniform(begin, end)
                drawn.append(like._replace(begin=at, used=at + like.used - like.begin, denied=True))
        return sorted(drawn)


def _poisson(mean: float, generator: random.Random) -> int:
    """Counts the arrivals of a Poisson process in `mean` units of time."""
    count, at = 0, generator.expovariate(1.0)
    while at < mean:
        count += 1
        at += generator.expovariate(1.0)
    return count
