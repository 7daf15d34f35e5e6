"""How many CALs were in use in each hour of today: made behind the overview, and shown once it is there."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime

from calgate.plugin import Refusal, Visitor, start_task
from calgate_cal.planner.clock import Calendar
from calgate_cal.screens.licenses import Licenses

_BELIEVED = 5.0  # seconds, as often as the page refreshes itself; longer where the records of the day take long to read
_BELIEVED_TIMES = 20

Peaks = Mapping[str, Sequence[int]]


class Day:
    """The use of today, by license and kind of CAL."""

    def __init__(self, licenses: Licenses) -> None:
        self._licenses = licenses
        self._peaks: dict[str, Peaks] = {}
        self._until: dict[str, float] = {}
        self._making: dict[str, asyncio.Task[None]] = {}

    def peaks(self, name: str, visitor: Visitor) -> Peaks:
        """Returns the most CALs in use in each hour since midnight, some seconds old; nothing until it is made."""
        making = self._making.get(name)
        if (making is None or making.done()) and time.monotonic() > self._until.get(name, 0.0):
            self._making[name] = start_task(self._make(name, visitor), "console: the use of today")
        return self._peaks.get(name, {})

    async def _make(self, name: str, visitor: Visitor) -> None:
        began = time.monotonic()
        try:
            self._peaks[name] = await self._read(name, visitor)
        except Refusal:  # the overview itself says that the store does not respond
            self._peaks.pop(name, None)
        self._until[name] = time.monotonic() + max(_BELIEVED, _BELIEVED_TIMES * (time.monotonic() - began))

    async def _read(self, name: str, visitor: Visitor) -> Peaks:
        book, index = self._licenses.book(name), self._licenses.index(name)
        held = await index.holders() if await book.is_current() else None
        if held is None:
            return {}
        zone, now = self._licenses.admin(name, visitor).zone, time.time()
        midnight = datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        _, hours = await self._licenses.peaks(name).since(midnight, now, book, held.values(), Calendar(zone))
        return hours
