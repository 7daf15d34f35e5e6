"""The most CALs in use in each hour. Hours that are over do not change, so each is worked out once."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from calgate_cal.planner.clock import Calendar
from calgate_cal.replies import KINDS, Holder
from calgate_cal.report import HOUR, Span, full_hour, hourly_peaks
from calgate_cal.screens.record_book import RecordBook

_LONGEST = 400 * 86_400.0  # seconds that are kept
_LATE = 3600.0  # seconds: the end of a CAL can be recorded that late, so hours so recent are worked out again


class Peaks:
    """The peaks of one license."""

    def __init__(self) -> None:
        self._begin = 0.0
        self._until = 0.0  # up to here hours are over; all of them are in `_hours`
        self._hours: Mapping[str, Sequence[int]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def since(
        self, since: float, now: float, book: RecordBook, holders: Iterable[Holder], calendar: Calendar
    ) -> tuple[float, Mapping[str, Sequence[int]]]:
        """Returns when the first hour begins, and for each kind that was in use the peak of every hour until now."""
        async with self._one_at_a_time:
            begin = self._until or full_hour(now - _LONGEST, calendar)
            used = book.spans_since(begin)
            held = list(holders)
            recent = await asyncio.to_thread(_peaks, used, held, begin, now)
            over = round((begin - self._begin) / HOUR) if self._until else 0
            hours = _joined(self._hours, recent, over, max(1, math.ceil((now - begin) / HOUR)))
            if not self._until:
                self._begin = begin
            first = max(self._begin, full_hour(since, calendar))
            skipped = round((first - self._begin) / HOUR)
            shown = {kind: peaks[skipped:] for kind, peaks in hours.items()}
            self._remember(hours, now, calendar)
            return first, {kind: shown[kind] for kind in KINDS if any(shown.get(kind, ()))}

    def _remember(self, hours: Mapping[str, Sequence[int]], now: float, calendar: Calendar) -> None:
        over = round((full_hour(now - _LATE, calendar) - self._begin) / HOUR)
        dropped = max(0, over - round(_LONGEST / HOUR))
        self._hours = {kind: peaks[dropped:over] for kind, peaks in hours.items()}
        self._until = self._begin + over * HOUR
        self._begin += dropped * HOUR


def _peaks(used: Sequence[Span], held: Sequence[Holder], begin: float, now: float) -> Mapping[str, Sequence[int]]:
    throughout = Counter(holder.kind for holder in held if holder.since <= begin)
    spans = [*used, *(Span(one.kind, one.user, one.since, None) for one in held if one.since > begin)]
    made = {}
    for kind in KINDS:
        of_kind = [span for span in spans if span.kind == kind]
        if of_kind or throughout[kind]:
            made[kind] = hourly_peaks(of_kind, begin, now, throughout[kind])
    return made


def _joined(
    before: Mapping[str, Sequence[int]], recent: Mapping[str, Sequence[int]], over: int, new: int
) -> Mapping[str, Sequence[int]]:
    """Puts recent hours behind those that are over; where a kind was not in use, there are zeros."""
    return {kind: [*before.get(kind, [0] * over), *recent.get(kind, [0] * new)] for kind in {*before, *recent}}
