"""The effect of another number of Session CALs: worked out in the background, and shown until it is too old.

A year of visits is replayed for several numbers, which takes many seconds of a processor.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from calgate_cal.admin import LicenseAdmin
from calgate_cal.planner.advice import advise, points
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.plan import Options, prepare
from calgate_cal.planner.recorded import options_of
from calgate_cal.planner.sources.audit import RecordReader, Window
from calgate_cal.replies import Holder
from calgate_cal.report import BELOW, SEED
from calgate_cal.screens.background import begin, has_ended

_BELIEVED = 120.0  # seconds, or
_TIMES = 20  # times as long as it took
_REMEMBERED = 16


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The result for a time that ended at `at` (Unix time)."""

    at: float
    rate: float  # denied wishes of all that needed a Session CAL
    below: int  # the Session CALs with which less than 1% is denied
    denied: Mapping[int, int]  # with so many Session CALs -> so many denied wishes


class WhatIfs:
    """The latest results, by license and days."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, float], tuple[float, WhatIf]] = OrderedDict()  # believed until
        self._under_way: dict[tuple[str, float], asyncio.Task[None]] = {}
        self._one_at_a_time = asyncio.Lock()  # two at once would need the memory of both

    async def get(
        self, admin: LicenseAdmin, seconds: float, reader: RecordReader, holders: Iterable[Holder], session: int
    ) -> WhatIf | None:
        """Returns the latest result, None while the first one is worked out. `session`: the limit as it is now."""
        key = (admin.name, seconds)
        until, known = self._known.get(key, (0.0, None))
        if self._clock() < until:
            return known
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = begin(self._make(key, admin, reader, list(holders), session))
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        if known is None:
            await has_ended(task)
        return self._known[key][1] if key in self._known else None

    def forget(self) -> None:
        """Lets everything be worked out again: a limit has changed."""
        self._known.clear()

    async def _make(
        self, key: tuple[str, float], admin: LicenseAdmin, reader: RecordReader, holders: list[Holder], session: int
    ) -> None:
        async with self._one_at_a_time:
            began, now = self._clock(), time.time()
            part = reader.within(Window(now - key[1], now))
            made = await asyncio.to_thread(_work_out, admin, part, holders, session, now)
            ended = self._clock()
            self._known[key] = (ended + max(_BELIEVED, _TIMES * (ended - began)), made)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def _work_out(admin: LicenseAdmin, reader: RecordReader, holders: list[Holder], session: int, now: float) -> WhatIf:
    for holder in holders:
        reader.add_holder(holder)
    calendar = Calendar(admin.zone)
    replays = prepare(reader.history, options_of(admin.license, Options()), calendar).replays
    wishes = [wish for wish in replays.wishes[replays.first :] if wish.user not in replays.rules.named]
    advice = advise(replays, calendar, BELOW, SEED)
    rate = sum(wish.denied for wish in wishes) / len(wishes) if wishes else 0.0
    return WhatIf(now, rate, advice.plain, {one.cals: one.denied for one in points(replays, advice, (session,))})
