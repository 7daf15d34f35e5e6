"""One pass for every number of seats: who would have been denied with n Session CALs.

Each lease gets the lowest free seat of an endless row. Where users who are denied go away, a lease is denied with n
seats exactly when its seat is above n: the sets of those let in are nested, and n + 1 seats hold at most one more.
Visits that share a lease make this slightly wrong far below the needed number, so the numbers around it are replayed
exactly.
"""

import random
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate
from statistics import median

from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.replay import Clocks, Holder
from calgate_cal.planner.wishes import Wish

DRAWS = 1000
WEEKS_AT_LEAST = 4
CONFIDENT = 0.9  # the percentile that is recommended
SHOWN_TREND = 0.02


@dataclass(frozen=True, slots=True)
class Leases:
    """Session CALs as they would be held if there were enough for everybody."""

    begins: "array[float]"
    ends: "array[float]"
    users: Sequence[str]
    of_wish: "array[int]"  # the lease of each wish; -1: the user holds a Named CAL

    def hours(self) -> dict[str, float]:
        """Returns the hours that each user holds a CAL."""
        held: dict[str, float] = defaultdict(float)
        for begin, end, user in zip(self.begins, self.ends, self.users, strict=True):
            held[user] += (end - begin) / 3600
        return held


def leases(wishes: Iterable[Wish], clocks: Clocks, named: Collection[str] = frozenset()) -> Leases:
    """Merges wishes, in order of their beginning, into the leases that would serve them."""
    minimum, idle = clocks.minimum, clocks.idle_timeout
    maximum = clocks.maximum if clocks.maximum is not None else float("inf")
    begins, ends, of_wish, users = array("d"), array("d"), array("l"), list[str]()
    current: dict[Holder, int] = {}
    last_use: dict[Holder, tuple[float, bool]] = {}
    for begin, _, used, signed_out, user, holder, *_ in wishes:
        if user in named:
            of_wish.append(-1)
            continue
        lease = current.get(holder)
        if lease is None or ends[lease] <= begin:
            lease = current[holder] = len(begins)
            begins.append(begin)
            ends.append(0.0)
            users.append(user)
        else:
            used, signed_out = max((used, signed_out), last_use[holder])
        last_use[holder] = (used, signed_out)
        granted = begins[lease]
        ends[lease] = min(max(granted + minimum, used if signed_out else used + idle), granted + maximum)
        of_wish.append(lease)
    return Leases(begins, ends, users, of_wish)


def seats(begins: Iterable[float], ends: Iterable[float]) -> "array[int]":
    """Gives each lease, in order of its beginning, the lowest free seat (from 1) of an endless row."""
    taken: list[tuple[float, int]] = []
    free: list[int] = []
    given, last = array("l"), 0
    for begin, end in zip(begins, ends, strict=True):
        while taken and taken[0][0] <= begin:
            heappush(free, heappop(taken)[1])
        if free:
            seat = heappop(free)
        else:
            seat = last = last + 1
        heappush(taken, (end, seat))
        given.append(seat)
    return given


@dataclass(frozen=True, slots=True)
class Counts:
    """How many wishes have each seat: `by_seat[s]` for seat s; index 0 is not used."""

    by_seat: Sequence[int]

    @property
    def wishes(self) -> int:
        """All of them."""
        return sum(self.by_seat)

    @property
    def peak(self) -> int:
        """The highest seat: with that many CALs nobody is denied."""
        return max((seat for seat, count in enumerate(self.by_seat) if count), default=0)

    def denied(self) -> list[int]:
        """Returns the wishes denied with 0, 1, 2, … seats, up to the peak."""
        below = list(accumulate(self.by_seat))
        return [below[-1] - below[seats] for seats in range(self.peak + 1)] if below else [0]

    def need(self, below: float) -> int:
        """Returns the smallest number of seats with which the rate is below `below`."""
        wishes = self.wishes
        return next(seats for seats, denied in enumerate(self.denied()) if is_below(denied, wishes, below))


def is_below(denied: int, wishes: int, below: float) -> bool:
    """Whether the rate is below the one wanted; none denied always is."""
    return denied == 0 or denied < below * wishes


@dataclass(frozen=True, slots=True)
class Pass:
    """The result of one pass over the wishes."""

    leases: Leases
    seat: "array[int]"  # of each lease
    first: int = 0  # the first wish that counts

    def seat_of(self, wish: int) -> int:
        """Returns the seat of a wish; 0: its user holds a Named CAL."""
        lease = self.leases.of_wish[wish]
        return self.seat[lease] if lease >= 0 else 0

    def counts(self) -> Counts:
        """Counts all wishes."""
        return counts_of(Counter(self.seat[lease] for lease in self.leases.of_wish[self.first :] if lease >= 0))

    def by_week(self, wishes: Sequence[Wish], calendar: Calendar) -> dict[int, Counts]:
        """Counts the wishes of each week."""
        weeks: dict[int, Counter[int]] = defaultdict(Counter)
        of_wish, seat, slot = self.leases.of_wish, self.seat, calendar.slot
        for index in range(self.first, len(wishes)):
            wish, lease = wishes[index], of_wish[index]
            if lease >= 0:
                weeks[slot(wish.begin).week][seat[lease]] += 1
        return {week: counts_of(counter) for week, counter in weeks.items()}

    def seat_hours(self, calendar: Calendar) -> dict[int, float]:
        """Returns the hours that CALs are held in each week."""
        hours: dict[int, float] = defaultdict(float)
        for begin, end in zip(self.leases.begins, self.leases.ends, strict=True):
            hours[calendar.slot(begin).week] += (end - begin) / 3600
        return hours


def one_pass(wishes: Iterable[Wish], clocks: Clocks, named: Collection[str] = frozenset(), first: int = 0) -> Pass:
    """Gives each lease its seat; wishes before `first` do not count."""
    merged = leases(wishes, clocks, named)
    return Pass(merged, seats(merged.begins, merged.ends), first)


def counts_of(counter: Mapping[int, int]) -> Counts:
    """Makes counts of how many wishes have each seat."""
    by_seat = [0] * (max(counter, default=0) + 1)
    for seat, count in counter.items():
        by_seat[seat] = count
    return Counts(by_seat)


@dataclass(frozen=True, slots=True)
class Band:
    """How much the number varies when the same weeks are drawn again and again."""

    needs: Sequence[int]  # of each draw, in order
    low: Sequence[int]  # with 0, 1, 2, … seats: the 10th percentile of the wishes denied
    high: Sequence[int]  # the 90th

    def need(self, share: float) -> int:
        """Returns a percentile of the number of seats needed."""
        return self.needs[min(len(self.needs) - 1, int(len(self.needs) * share))]


def band(weeks: Sequence[Counts], peak: int, below: float, seed: int) -> Band:
    """Draws weeks with replacement: since each wish knows its seat, a draw is a sum of rows counted before."""
    rows = [_padded(week.denied(), peak) for week in weeks]
    columns = list(zip(*rows, strict=True))  # of each number of seats: the wishes denied in each week
    generator = random.Random(seed)  # noqa: S311 - a sample, no secret
    draws = [generator.choices(range(len(weeks)), k=len(weeks)) for _ in range(DRAWS)]
    totals = [[sum(map(column.__getitem__, draw)) for column in columns] for draw in draws]
    needs = sorted(
        next((seats for seats, denied in enumerate(total) if is_below(denied, total[0], below)), peak)
        for total in totals
    )
    ranked = [sorted(values) for values in zip(*totals, strict=True)]
    return Band(needs, [row[DRAWS // 10] for row in ranked], [row[DRAWS * 9 // 10] for row in ranked])


def _padded(values: Sequence[int], peak: int) -> list[int]:
    return [*values, *[0] * (peak + 1 - len(values))]


def trend(hours: Mapping[int, float], weeks: Sequence[int]) -> float:
    """Returns by what share weekly use grows if its trend goes on for as long again as the data covers.

    Theil-Sen: the median of the slopes between all pairs of whole weeks, which a few odd weeks do not move.
    """
    if len(weeks) < WEEKS_AT_LEAST:
        return 0.0
    values = [(week, hours.get(week, 0.0)) for week in weeks]
    slopes = [(b - a) / (later - week) for i, (week, a) in enumerate(values) for later, b in values[i + 1 :]]
    level = median(value for _, value in values)
    return median(slopes) * (weeks[-1] - weeks[0] + 1) / level if level > 0 else 0.0


def whole_weeks(wishes: Sequence[Wish], calendar: Calendar) -> list[int]:
    """Returns the weeks of which every working day has a wish."""
    days = {calendar.slot(wish.begin).day for wish in wishes}
    weeks = {day // 7 for day in days}
    return sorted(week for week in weeks if all(week * 7 + weekday in days for weekday in calendar.working_week))


def by_hour_of_week(
    wishes: Sequence[Wish], denied: Collection[int], named: Collection[str], calendar: Calendar, first: int = 0
) -> list[list[float]]:
    """Returns the rate of each hour (24) of each weekday (7) for the wishes denied."""
    wanted, refused = [0] * 168, [0] * 168
    for index in range(first, len(wishes)):
        wish = wishes[index]
        if wish.user not in named:
            hour = calendar.slot(wish.begin).hour_of_week
            wanted[hour] += 1
            refused[hour] += index in denied
    rates = [count / total if total else 0.0 for count, total in zip(refused, wanted, strict=True)]
    return [rates[day * 24 : day * 24 + 24] for day in range(7)]


def worst_month(
    wishes: Sequence[Wish], denied: Collection[int], named: Collection[str], calendar: Calendar, first: int = 0
) -> float:
    """Returns the highest rate of a month that has at least a twentieth of the wishes of the fullest month."""
    wanted: Counter[int] = Counter()
    refused: Counter[int] = Counter()
    for index in range(first, len(wishes)):
        wish = wishes[index]
        if wish.user not in named:
            month = calendar.slot(wish.begin).month
            wanted[month] += 1
            refused[month] += index in denied
    enough = max(wanted.values(), default=0) / 20
    return max((refused[month] / count for month, count in wanted.items() if count >= enough), default=0.0)
