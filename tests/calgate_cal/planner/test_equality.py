"""The planner's replay denies the same wishes as the functions in the store, on random histories.

CALGATE_HISTORIES sets how many there are for each server.
"""

import os
import random
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush

from cal_model.license import MINUTE, TEN, Lab
from calgate.plugin.licensing import Lease, NoCal
from calgate_cal.planner.replay import Clocks, Retry, denied
from calgate_cal.planner.wishes import Wish

License = Callable[..., Awaitable[Lab]]

HISTORIES = int(os.environ.get("CALGATE_HISTORIES", "25"))
_FREES, _TOUCHES, _TAKES = 0, 1, 2  # the order at the same instant


def history(generator: random.Random) -> list[Wish]:
    """Wishes of a few users on two machines; those of one holder do not overlap."""
    wishes, free_at = list[Wish](), dict[tuple[str, str], int]()
    for _ in range(generator.randrange(5, 25)):
        holder = (f"u{generator.randrange(6)}", generator.choice(("pc", "laptop")))
        begin = free_at.get(holder, 0) + generator.choice((1, 2, 5, 10, 20, 40, 90))
        length = generator.choice((0, 1, 3, 10, 14, 15, 16, 40))
        free_at[holder] = begin + length + 61  # a retry within the hour must not overlap the next visit
        at, signed_out = TEN + begin * MINUTE, generator.random() < 0.5
        wishes.append(Wish(at, False, at + length * MINUTE, signed_out, holder[0], holder, "session"))
    return sorted(wishes)


class Player:
    """Plays wishes through the real functions."""

    def __init__(self, q: Lab, wishes: list[Wish], retry: Retry | None) -> None:
        self._q = q
        self._wishes = wishes
        self._retry = retry
        self._leases: dict[int, Lease] = {}
        self.denied: set[int] = set()

    async def play(self) -> set[int]:
        """Returns the wishes that were denied at least once."""
        events = [(wish.begin, _TAKES, index) for index, wish in enumerate(self._wishes)]
        events.sort()
        while events:
            at, what, index = heappop(events)
            await self._q.at(at - TEN)
            if what == _TAKES:
                await self._take(at, index, events)
            elif what == _TOUCHES:
                await self._q.touch(self._leases[index])
            else:
                await self._q.release(*self._wishes[index].holder)
        return self.denied

    async def _take(self, at: float, index: int, events: list[tuple[float, int, int]]) -> None:
        wish = self._wishes[index]
        try:
            self._leases[index] = await self._q.hold(wish.user, client=wish.holder[1])
        except NoCal:
            self.denied.add(index)
            if self._retry is not None and at + self._retry.gap <= wish.begin + self._retry.patience:
                heappush(events, (at + self._retry.gap, _TAKES, index))
            return
        end = at + wish.used - wish.begin
        while at + 10 * MINUTE < end:  # else the idle timeout ends it though it is in use
            at += 10 * MINUTE
            heappush(events, (at, _TOUCHES, index))
        heappush(events, (end, _FREES if wish.signed_out else _TOUCHES, index))


async def test_the_same_wishes_are_denied_as_by_the_functions_in_the_store(license: License) -> None:
    generator = random.Random(13)
    for number in range(HISTORIES):
        wishes, seats = history(generator), generator.randrange(1, 5)
        gap = generator.choice((0, 5, 15))
        retry = Retry(gap * MINUTE, 45 * MINUTE) if gap else None
        minimum = generator.choice((0, 15))
        session = {"in_license": seats, "minimum": f"{minimum}m", "reclaimable_after": "off"}
        q = await license(session=session)
        found = set(denied(wishes, seats, Clocks(minimum=minimum * MINUTE), retry=retry).denied)
        assert await Player(q, wishes, retry).play() == found, f"history {number}"
        await q.store.redis.flushall()
