"""Plays wishes through the real functions: users open, use and leave documents, and come again when they are denied."""

from collections.abc import Sequence
from heapq import heappop, heappush

from cal_model.license import HOUR, MINUTE, TEN, Lab
from calgate.plugin.licensing import Lease, NoCal
from calgate_cal.planner.replay import Retry
from calgate_cal.planner.wishes import Wish

_FREES, _TOUCHES, _TAKES = 0, 1, 2  # the order at the same instant


class Player:
    """Plays wishes through the real functions."""

    def __init__(self, q: Lab, wishes: Sequence[Wish], retry: Retry | None) -> None:
        self._q = q
        self._wishes = wishes
        self._retry = retry
        self._leases: dict[int, Lease] = {}
        self._rest: dict[int, float] = {}  # of wishes that an hour of a Usage CAL has served: the seconds that remain
        self.denied: set[int] = set()

    async def play(self) -> set[int]:
        """Returns the wishes that were denied at least once."""
        events = [(wish.begin, _TAKES, index) for index, wish in enumerate(self._wishes)]
        events.sort()
        tended = 0.0
        while events:
            at, what, index = heappop(events)
            await self._q.at(at - TEN)
            if at > tended + HOUR:
                await self._q.tend()
                tended = at
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
        end = at + self._rest.get(index, wish.used - wish.begin)
        lease = self._leases[index]
        if lease.kind == "usage" and lease.until is not None and lease.until < end:
            self._rest[index] = end - lease.until  # the hour is over: the next use claims again
            heappush(events, (lease.until, _TAKES, index))
            return
        while at + 10 * MINUTE < end:  # else the idle timeout ends it though it is in use
            at += 10 * MINUTE
            heappush(events, (at, _TOUCHES, index))
        heappush(events, (end, _FREES if wish.signed_out else _TOUCHES, index))
