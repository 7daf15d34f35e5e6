"""The number of Session CALs: exact replays around the result of one pass, and how certain the result is."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from calgate_cal.planner import curve
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.replay import VENDOR, Clocks, Outcome, Retry, denied, queued
from calgate_cal.planner.wishes import Wish

EXACT_STEPS = 3_000_000  # wishes times seats up to which every number is replayed exactly: two seconds or so


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a replay, besides the number of Session CALs."""

    clocks: Clocks = VENDOR
    named: Collection[str] = frozenset()
    retry: Retry | None = None
    queue: bool = False
    usage: int = 0  # Usage CALs behind a full Session pool


@dataclass(slots=True)
class Replays:
    """Exact replays of the same wishes, each made once."""

    wishes: Sequence[Wish]
    rules: Rules
    first: int = 0  # the first wish that counts; those before it only occupy CALs
    total: int = field(init=False)  # wishes that count, of users who need a Session CAL
    _made: dict[int, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.total = sum(wish.user not in self.rules.named for wish in self.wishes[self.first :])

    def at(self, seats: int) -> Outcome:
        """Replays the wishes with a number of Session CALs."""
        made = self._made.get(seats)
        if made is None:
            rules = self.rules
            if rules.queue:
                patience = rules.retry.patience if rules.retry else None
                made = queued(self.wishes, seats, rules.clocks, rules.named, patience, rules.usage)
            else:
                made = denied(self.wishes, seats, rules.clocks, rules.named, rules.retry, rules.usage)
            if self.first:
                made = made.since(self.first)
            self._made[seats] = made
        return made

    def rate(self, seats: int) -> float:
        """Returns the share of wishes denied."""
        return len(self.at(seats).denied) / self.total if self.total else 0.0

    def need(self, below: float, start: int) -> int:
        """Returns the smallest number of seats with a rate below `below`, by bisection around `start`."""

        def enough(seats: int) -> bool:
            return curve.is_below(len(self.at(seats).denied), self.total, below)

        step, high = 1, start
        while not enough(high):
            high, step = high + step, step * 2
        low = max(-1, start - 1) if high == start else high - step // 2
        step = 1
        while low >= 0 and enough(low):
            high, low, step = low, max(-1, low - step), step * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high

    def denied_with_named(self, users: Sequence[str], counts: Collection[int], seats: int) -> dict[int, int]:
        """Returns how many wishes would be denied if so many of the first users had Named CALs, others none."""
        rules = {count: replace(self.rules, named=frozenset(users[:count])) for count in sorted(counts)}
        return {count: len(Replays(self.wishes, each, self.first).at(seats).denied) for count, each in rules.items()}

    def made(self) -> dict[int, Outcome]:
        """Returns the replays made so far."""
        return self._made


@dataclass(frozen=True, slots=True)
class Advice:
    """How many Session CALs keep the rate below the one wanted."""

    plain: int  # for the past as it was
    low: int  # 10th percentile, where there are enough weeks
    high: int  # 90th
    recommended: int  # the 90th percentile with the trend
    trend: float  # share by which use grows, 0 if it does not
    weeks: int  # whole weeks behind it
    peak: int  # with that many nobody is denied
    counts: curve.Counts
    band: curve.Band | None

    @property
    def is_certain(self) -> bool:
        """Whether there are enough whole weeks to say how certain the number is."""
        return self.band is not None


def advise(replays: Replays, calendar: Calendar, below: float, seed: int) -> Advice:
    """Works the number out: one pass finds the region, replays the number, and weeks drawn again its band."""
    wishes, rules = replays.wishes, replays.rules
    made = curve.one_pass(wishes, rules.clocks, rules.named, replays.first)
    counts = made.counts()
    nearly = counts.need(below)
    plain = replays.need(below, nearly)
    by_week = made.by_week(wishes, calendar)
    counted = wishes[replays.first :] if replays.first else wishes
    weeks = [week for week in curve.whole_weeks(counted, calendar) if week in by_week]
    if len(weeks) < curve.WEEKS_AT_LEAST:
        return Advice(plain, plain, plain, plain, 0.0, len(weeks), counts.peak, counts, None)
    band = curve.band([by_week[week] for week in weeks], counts.peak, below, seed)
    off = plain - nearly  # of the one pass, so of each draw
    low, high = min(plain, band.need(1 - curve.CONFIDENT) + off), max(plain, band.need(curve.CONFIDENT) + off)
    growth = curve.trend(made.seat_hours(calendar), weeks)
    grown = growth if growth > curve.SHOWN_TREND else 0.0
    recommended = math.ceil(high * (1 + grown) - 1e-9)
    return Advice(plain, low, high, recommended, grown, len(weeks), counts.peak, counts, band)


@dataclass(frozen=True, slots=True)
class Point:
    """One number of Session CALs."""

    cals: int
    denied: int
    never_served: int
    low: int | None  # 10th and 90th percentile of the wishes denied; None: too few whole weeks
    high: int | None


def points(replays: Replays, advice: Advice, shown: Collection[int]) -> list[Point]:
    """Returns every number from 0 to the peak; `shown` ones, and all where that is quick, are replayed exactly."""
    counted = advice.counts.denied()
    last = max(advice.peak, advice.plain)
    every = len(replays.wishes) * last <= EXACT_STEPS
    found = []
    for cals in range(last + 1):
        wanted = every or cals in shown or cals in replays.made()
        exact = replays.at(cals) if wanted and 0 < cals < advice.peak else None  # the two ends are exact in any case
        count = len(exact.denied) if exact else counted[cals]
        never = len(exact.never_served) if exact else counted[cals]
        low, high = _band(advice, cals, count, counted)
        found.append(Point(cals, count, never, low, high))
    return found


def _band(advice: Advice, cals: int, count: int, counted: Sequence[int]) -> tuple[int | None, int | None]:
    """The band of the one pass, for all weeks instead of the whole ones, moved to the exact count."""
    band = advice.band
    if band is None:
        return None, None
    if cals >= len(band.low) or not counted[cals]:
        return count, count
    scale = count / counted[cals] * advice.counts.wishes / max(1, band.low[0])
    return min(count, round(band.low[cals] * scale)), max(count, round(band.high[cals] * scale))
