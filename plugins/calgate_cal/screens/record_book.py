"""The data of a license's records that the screens show, kept in the console's process: each record is read once.

A year has a million records. Past events do not change, so the book keeps only the data that is shown: the times for
which CALs were in use, visits and denials as the planner counts them, and how to find denials by reference number and
user.
"""

import asyncio
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence

from calgate_cal.admin import LicenseAdmin
from calgate_cal.audit import DENIALS, Record
from calgate_cal.limit_history import LimitHistory
from calgate_cal.planner.sources.audit import RecordReader, Window
from calgate_cal.report import Span
from calgate_cal.screens.background import begin, has_ended
from calgate_cal.screens.found_records import Entry, entry_of

_MOST_FOUND = 200_000  # records that can be found by reference or user; older ones are in the log
_MOST_WAITS = 50_000
_MOST_SPANS = 2_000_000  # of each kind; the oldest are forgotten
_MOST_FOLLOWED = 1_000_000  # records after the first reading; then all that the store still has are read again
_LINK = 3600.0  # seconds between two attempts of one wish, as the planner has it
_LET_IN = ("granted", "let-in")  # the ends of a successful wait
_NO_DENIALS = ("granted", "taken-back", "kept", "visited")


class RecordBook:
    """The records of one license."""

    def __init__(self, admin: LicenseAdmin) -> None:
        self._admin = admin
        self._reading: asyncio.Task[None] | None = None
        self._following = asyncio.Lock()
        self._begin()

    def _begin(self) -> None:
        self._last = "0"
        self._is_read = False
        self._count = 0
        self._count_at_first = 0
        self._entries: deque[Entry] = deque(maxlen=_MOST_FOUND)
        self._waits: deque[tuple[float, float]] = deque(maxlen=_MOST_WAITS)
        self._spans: dict[str, tuple[array[float], array[float], array[int]]] = {}
        self._users: dict[str, int] = {}
        self.reader = RecordReader(Window(0.0, float("inf")), self._admin.license.session.idle_timeout, _LINK)
        """The planner's history of all records so far."""
        self.limits = LimitHistory()
        """The limits that were in force."""

    @property
    def count(self) -> int:
        """How many records have been read."""
        return self._count

    async def is_current(self, patience: float | None = None) -> bool:
        """Brings the book up to now; False while the records are read for the first time. Raises Unavailable."""
        if self._is_read and self._count - self._count_at_first > _MOST_FOLLOWED:
            self._begin()  # the store forgets old records, and so must a process that runs for years
        if self._is_read:
            await self._follow()
            return True
        if self._reading is None or self._reading.done():
            self._reading = begin(self._follow())
        return await has_ended(self._reading, patience)

    async def _follow(self) -> None:
        async with self._following:
            if self._is_read and await self._admin.newest_record() == self._last:
                return
            found = False
            async for record in self._admin.records_after(self._last):
                self._add(record)
                self._last, found = record.id, True
            if self._is_read and not found:  # the store is another one, or its records were written again
                self._begin()
                async for record in self._admin.records_after("0"):
                    self._add(record)
                    self._last = record.id
            if not self._is_read:
                self._is_read, self._count_at_first = True, self._count

    def _add(self, record: Record) -> None:
        if record.what == "clock-set":  # all records have been written again, under other ids
            self._begin()
        self._count += 1
        self.reader.follow(record)
        self.limits.follow(record)
        is_denial = record.what in DENIALS
        if is_denial or (record["reference"] and record.what not in _NO_DENIALS):
            self._entries.append(entry_of(record))
        if record.what in _LET_IN and float(record["waited"] or 0) > 0:
            self._waits.append((record.at, float(record["waited"]) / 1000))
        if record["ended"] and record["lease"] and record.what != "taken-back":
            self._add_span(record["kind"], int(record["lease"].partition("-")[0]) / 1000, record)

    def _add_span(self, kind: str, since: float, record: Record) -> None:
        if kind not in self._spans:
            self._spans[kind] = (array("d"), array("d"), array("l"))
        begins, ends, users = self._spans[kind]
        if len(ends) >= _MOST_SPANS:
            for values in (begins, ends, users):
                del values[: _MOST_SPANS // 4]
        begins.append(since)
        ends.append(float(record["ended"]) / 1000)
        users.append(self._users.setdefault(record["user"], len(self._users)))

    # ------------------------------------------------------------ what the screens look up

    def denials_since(self, since: float) -> Sequence[Entry]:
        """Returns the denials since a time, newest first."""
        found = []
        for entry in reversed(self._entries):
            if entry.at < since:
                break
            if entry.is_denial:
                found.append(entry)
        return found

    def waits_since(self, since: float) -> Sequence[float]:
        """Returns how many seconds each user waited who was let in since a time."""
        found = []
        for at, seconds in reversed(self._waits):
            if at < since:
                break
            found.append(seconds)
        return found

    def find(
        self, is_wanted: Callable[[Entry], bool], *, reference: str = "", before: str = "", most: int
    ) -> list[Entry]:
        """Returns the newest records that match, newest first: by reference number, else denials.

        A reference number has one denial: nothing before it is looked for.
        """
        found: list[Entry] = []
        limit = _order(before) if before else None
        for entry in reversed(self._entries):
            if limit is not None and _order(entry.id) >= limit:
                continue
            if entry.reference == reference if reference else entry.is_denial and is_wanted(entry):
                found.append(entry)
                if len(found) >= most or (reference and entry.is_denial):
                    break
        return found

    def spans_since(self, since: float) -> list[Span]:
        """Returns the times for which CALs were in use that ended after a time. Records are in the order of ends."""
        found = []
        for kind, (begins, ends, users) in self._spans.items():
            first = bisect_left(ends, since - _LATE)
            found += [
                Span(kind, str(users[index]), begins[index], ends[index])
                for index in range(first, len(ends))
                if ends[index] > since
            ]
        return found


_LATE = 3600.0  # seconds: a sweep can record an end that much after it


def _order(record_id: str) -> tuple[int, int]:
    milliseconds, _, number = record_id.partition("-")
    return int(milliseconds), int(number or 0)
