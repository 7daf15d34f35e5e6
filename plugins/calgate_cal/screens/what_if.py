"""The effect of another number of Session or Named CALs: worked out in the background, and shown until it is too old.

A year of visits is replayed for several numbers, which takes many seconds of a processor.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from calgate_cal.admin import LicenseAdmin
from calgate_cal.anonymous import is_anonymous
from calgate_cal.planner import curve, people
from calgate_cal.planner.advice import advise, points
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.plan import Options, Prepared, prepare
from calgate_cal.planner.recorded import options_of
from calgate_cal.planner.sources.audit import RecordReader, Window
from calgate_cal.replies import Holder
from calgate_cal.report import BELOW, SEED
from calgate_cal.screens.background import begin, has_ended

_BELIEVED = 120.0  # seconds, or
_TIMES = 20  # times as long as it took
_REMEMBERED = 16
_PARTS, _STEPS = 20, (-2, -1, 0, 1, 2, 4, 8)  # other numbers of Named CALs: by twentieths of all users


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The result for a time that ended at `at` (Unix time)."""

    at: float
    rate: float  # denied wishes of all that needed a Session CAL
    below: int  # the Session CALs with which less than 1% is denied
    session: int  # the limit of Session CALs as it is
    denied: Mapping[int, int]  # with so many Session CALs -> so many denied wishes
    owners: int  # users who have a Named CAL
    denied_with_named: Mapping[int, int]  # with so many owners, and Session CALs as they are -> so many denied wishes


class WhatIfs:
    """The latest results, by license and days."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, float], tuple[float, WhatIf]] = OrderedDict()  # believed until
        self._under_way: dict[tuple[str, float], asyncio.Task[None]] = {}
        self._one_at_a_time = asyncio.Lock()  # two at once would need the memory of both

    async def get(
        self,
        admin: LicenseAdmin,
        seconds: float,
        reader: RecordReader,
        holders: Iterable[Holder],
        limits: Mapping[str, int],
    ) -> WhatIf | None:
        """Returns the latest result, None while the first one is worked out. `limits` are those of now, by kind."""
        key = (admin.name, seconds)
        until, known = self._known.get(key, (0.0, None))
        if self._clock() < until:
            return known
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = begin(self._make(key, admin, reader, list(holders), limits.get("session", 0)))
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
    prepared = prepare(reader.history, options_of(admin.license, Options()), calendar)
    replays = prepared.replays
    wishes = [wish for wish in replays.wishes[replays.first :] if wish.user not in replays.rules.named]
    advice = advise(replays, calendar, BELOW, SEED)
    rate = sum(wish.denied for wish in wishes) / len(wishes) if wishes else 0.0
    denied = {one.cals: one.denied for one in points(replays, advice, (session,))}
    users = _in_line(prepared)
    owners = len(prepared.owners)
    denied_with_named = replays.denied_with_named(users, _numbers_near(owners, len(users)), session)
    return WhatIf(now, rate, advice.plain, session, denied, owners, denied_with_named)


def _in_line(prepared: Prepared) -> Sequence[str]:
    """Returns the users in the order in which they would keep or get a Named CAL: owners, then by hours of use."""
    replays, owners = prepared.replays, set(prepared.owners)
    hours = dict.fromkeys(owners, 0.0) | curve.leases(replays.wishes, replays.rules.clocks).hours()
    users = [user for user in people.ranked(hours) if user in owners or not is_anonymous(user)]
    return sorted(users, key=lambda user: user not in owners)


def _numbers_near(owners: int, most: int) -> set[int]:
    """Returns the numbers of owners to try: each is a replay of its own, so there are few."""
    step = max(1, most // _PARTS)
    numbers = {owners - 1, owners + 1, *(owners + step * count for count in _STEPS)}
    return {number for number in numbers if 0 <= number <= most} if most else set()
