"""Replays wishes with another number of Session CALs and other clocks: who would have been denied, exactly."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from calgate_cal.planner.wishes import Wish

MINUTE = 60.0
USAGE_SERVES = 60 * MINUTE
USAGE_RETURNS = 28 * 24 * 60 * MINUTE  # after it began

Holder = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Clocks:
    """When a Session CAL comes back (seconds); the defaults are the vendor's."""

    minimum: float = 15 * MINUTE
    idle_timeout: float = 30 * MINUTE
    maximum: float | None = None
    reclaimable_after: float | None = 30 * MINUTE

    @property
    def reclaims(self) -> bool:
        """Whether a CAL can be taken from an idle holder before it comes back by itself."""
        return self.reclaimable_after is not None and self.reclaimable_after < self.idle_timeout


VENDOR = Clocks()


@dataclass(frozen=True, slots=True)
class Retry:
    """Users who are denied try again every `gap` seconds until `patience` seconds after their first attempt."""

    gap: float
    patience: float


@dataclass(slots=True)
class Outcome:
    """The outcome of the wishes; each is named by its index."""

    denied: list[int] = field(default_factory=list)  # refused at least once, or kept waiting
    never_served: list[int] = field(default_factory=list)
    waited: dict[int, float] = field(default_factory=dict)  # seconds until a denied wish was let in

    def since(self, first: int) -> "Outcome":
        """Returns the outcome of the wishes from `first` on."""
        return Outcome(
            [index for index in self.denied if index >= first],
            [index for index in self.never_served if index >= first],
            {index: time for index, time in self.waited.items() if index >= first},
        )


class _Lease:
    """A Session CAL in use."""

    __slots__ = ("end", "granted", "signed_out", "used")

    def __init__(self, granted: float, used: float, end: float, *, signed_out: bool) -> None:
        self.granted = granted
        self.used = used
        self.end = end
        self.signed_out = signed_out


class _UsageCals:
    """Usage CALs: each serves a user and document for an hour, and comes back 28 days after it began."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._begun: deque[float] = deque()
        self._running: dict[tuple[str, str], float] = {}

    def take(self, now: float, wish: Wish) -> float | None:
        """Returns the end of the hour that runs for this user and document, or that begins now; None: none is free."""
        if not self._count:
            return None
        key = (wish.user, wish.document)
        running = self._running.get(key, 0.0)
        if running > now:
            return running
        while self._begun and self._begun[0] + USAGE_RETURNS <= now:
            self._begun.popleft()
        if len(self._begun) >= self._count:
            return None
        self._begun.append(now)
        self._running[key] = now + USAGE_SERVES
        return now + USAGE_SERVES


class _Pool:
    """The Session CALs, one a user and machine, and the Usage CALs behind them.

    At the same instant CALs are freed before CALs are taken.
    """

    def __init__(self, seats: int, clocks: Clocks, usage: int = 0) -> None:
        self._seats = seats
        self._clocks = clocks
        self._usage = _UsageCals(usage)
        self._leases: dict[Holder, _Lease] = {}
        self._departures: list[tuple[float, Holder]] = []

    def free_until(self, now: float) -> None:
        """Frees each lease that has ended by `now`."""
        leases, departures = self._leases, self._departures
        while departures and departures[0][0] <= now:
            at, holder = heappop(departures)
            lease = leases.get(holder)
            if lease is None or at < lease.end:  # an older end of a lease that was used again
                continue
            del leases[holder]

    def next_departure(self) -> float | None:
        """Returns when the next lease ends, or None if none is in use."""
        while self._departures:
            at, holder = self._departures[0]
            lease = self._leases.get(holder)
            if lease is not None and at == lease.end:
                return at
            heappop(self._departures)
        return None

    def take(self, now: float, wish: Wish, used: float) -> float | None:
        """Serves a wish until `used` from its holder's own lease, or from a free CAL; None if there is neither.

        Returns `used`, or the end of a Usage CAL's hour that comes before it. The order is the vendor's: a Session
        CAL, a Usage CAL, a Session CAL reclaimed from an idle holder.
        """
        holder = wish.holder
        lease = self._leases.get(holder)
        if lease is None:
            if len(self._leases) >= self._seats:
                hour = self._usage.take(now, wish)
                if hour is not None:
                    return min(hour, used)
                if not self._reclaim(now):
                    return None
            lease = self._leases[holder] = _Lease(now, used, 0.0, signed_out=wish.signed_out)
        elif used >= lease.used:
            lease.used, lease.signed_out = used, wish.signed_out
        clocks = self._clocks
        end = lease.used if lease.signed_out else lease.used + clocks.idle_timeout
        end = max(end, lease.granted + clocks.minimum)
        if clocks.maximum is not None:
            end = min(end, lease.granted + clocks.maximum)
        if end != lease.end:
            lease.end = end
            heappush(self._departures, (end, holder))
        return used

    def _reclaim(self, now: float) -> bool:
        """Frees the lease that has been idle longest and is past its minimum; False if there is none."""
        after = self._clocks.reclaimable_after
        if after is None or not self._clocks.reclaims:
            return False
        minimum = self._clocks.minimum
        idle = [
            (lease.used, holder)
            for holder, lease in self._leases.items()
            if lease.used + after <= now and lease.granted + minimum <= now
        ]
        if not idle:
            return False
        del self._leases[min(idle)[1]]
        return True


def denied(
    wishes: Sequence[Wish],
    seats: int,
    clocks: Clocks | None = None,
    named: Collection[str] = frozenset(),
    retry: Retry | None = None,
    usage: int = 0,
) -> Outcome:
    """Replays wishes (in order of their beginning) with `seats` Session CALs; users in `named` need none.

    Without `retry` users who are denied go away. `usage` is the number of Usage CALs.
    """
    clocks = clocks or VENDOR
    if retry is None and clocks.maximum is None and not clocks.reclaims and not usage:
        gone = _who_go_away(wishes, seats, clocks, named)
        return Outcome(gone, list(gone))
    pool, outcome = _Pool(seats, clocks, usage), Outcome()
    again: list[tuple[float, int]] = []
    refused: set[int] = set()
    rest: dict[int, float] = {}  # of wishes that an hour of a Usage CAL has served: the seconds that remain
    free_until, take = pool.free_until, pool.take
    for now, index, wish in _attempts(wishes, again, named):
        free_until(now)
        used = now + rest.get(index, wish.used - wish.begin)
        served = take(now, wish, used)
        if served is not None:
            if index in refused and index not in rest:
                outcome.waited[index] = now - wish.begin
            if served < used:
                rest[index] = used - served
                heappush(again, (served, index))
            continue
        if index not in refused:
            refused.add(index)
            outcome.denied.append(index)
        if retry is not None and now + retry.gap <= wish.begin + retry.patience:
            heappush(again, (now + retry.gap, index))
        elif index not in rest:
            outcome.never_served.append(index)
    return outcome


def _who_go_away(wishes: Sequence[Wish], seats: int, clocks: Clocks, named: Collection[str]) -> list[int]:
    """The wishes denied where users go away and no CAL is reclaimed: the same rules in one loop, twice as fast."""
    minimum, idle = clocks.minimum, clocks.idle_timeout
    ends: dict[Holder, float] = {}
    leases: dict[Holder, tuple[float, float]] = {}  # granted, last use
    departures: list[tuple[float, Holder]] = []
    denied: list[int] = []
    for index, (begin, _, used, signed_out, user, holder, _, _, _) in enumerate(wishes):
        if user in named:
            continue
        while departures and departures[0][0] <= begin:
            at, left = heappop(departures)
            if ends.get(left) == at:  # else an older end of a lease that was used again
                del ends[left]
        if holder not in ends:
            if len(ends) >= seats:
                denied.append(index)
                continue
            granted = begin
        else:
            granted, last = leases[holder]
            if used < last:
                continue
        end = used if signed_out else used + idle
        if end < granted + minimum:
            end = granted + minimum
        leases[holder] = (granted, used)
        if ends.get(holder) != end:
            ends[holder] = end
            heappush(departures, (end, holder))
    return denied


def _attempts(
    wishes: Sequence[Wish], again: list[tuple[float, int]], named: Collection[str]
) -> Iterator[tuple[float, int, Wish]]:
    """Every attempt in order; at the same instant the earlier wish comes first."""
    for index, wish in enumerate(wishes):
        if wish.user in named:
            continue
        while again and again[0] < (wish.begin, index):
            at, earlier = heappop(again)
            yield at, earlier, wishes[earlier]
        yield wish.begin, index, wish
    while again:
        at, earlier = heappop(again)
        yield at, earlier, wishes[earlier]


def queued(
    wishes: Sequence[Wish],
    seats: int,
    clocks: Clocks | None = None,
    named: Collection[str] = frozenset(),
    patience: float | None = None,
    usage: int = 0,
) -> Outcome:
    """Like `denied`, with a queue: first come, first served, and each offer is taken at once.

    Users who have waited `patience` seconds give up; None: they wait until they are served.
    """
    queue = _Queue(_Pool(seats, clocks or Clocks(), usage), wishes, patience)
    for now, index, _ in _attempts(wishes, queue.again, named):
        queue.offer(now)
        queue.arrive(now, index)
    queue.offer(float("inf"))
    outcome = queue.outcome
    outcome.never_served.extend(index for index in outcome.denied if index not in outcome.waited)
    return outcome


class _Queue:
    """First come, first served, and each offer is taken at once."""

    def __init__(self, pool: _Pool, wishes: Sequence[Wish], patience: float | None) -> None:
        self._pool = pool
        self._wishes = wishes
        self._patience = patience
        self._waiting: deque[tuple[float, int]] = deque()  # since when
        self._rest: dict[int, float] = {}  # of wishes that an hour of a Usage CAL has served: the seconds that remain
        self._kept: set[int] = set()
        self.again: list[tuple[float, int]] = []
        self.outcome = Outcome()

    def arrive(self, now: float, index: int) -> None:
        """Serves a wish, or puts it at the end of the queue."""
        if self._waiting or not self._serve(now, index):
            if index not in self._kept:
                self._kept.add(index)
                self.outcome.denied.append(index)
            self._waiting.append((now, index))

    def offer(self, until: float) -> None:
        """Gives each CAL that comes free up to `until` to the head of the queue."""
        waiting = self._waiting
        while waiting:
            at = self._pool.next_departure()
            if at is None or at > until:
                return
            self._pool.free_until(at)
            while waiting:
                since, index = waiting[0]
                if self._patience is not None and at > since + self._patience:
                    waiting.popleft()
                    continue
                continues = index in self._rest
                if not self._serve(at, index):
                    break
                if not continues:
                    self.outcome.waited[index] = at - self._wishes[index].begin
                waiting.popleft()
        self._pool.free_until(until)

    def _serve(self, now: float, index: int) -> bool:
        wish = self._wishes[index]
        used = now + self._rest.get(index, wish.used - wish.begin)
        served = self._pool.take(now, wish, used)
        if served is None:
            return False
        if served < used:
            self._rest[index] = used - served
            heappush(self.again, (served, index))
        return True
