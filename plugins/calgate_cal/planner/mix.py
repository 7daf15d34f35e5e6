"""Named and Session CALs together: which mix is cheapest without being tuned to people who have left.

The mix that is cheapest for the past is wrong for the future. So the Named users are chosen on one random half of the
weeks, and the seats that the other users need are counted on the other half.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate
from typing import NamedTuple

from calgate_cal.anonymous import is_anonymous
from calgate_cal.planner import curve, people
from calgate_cal.planner.clock import Calendar

DRAWS = 16
LARGEST_HALF = 15_000  # leases of a half on which seats are counted; of a larger one some weeks are drawn
_FEWEST_WEEKS = 4
WEEKS_AT_LEAST = 8
_NEVER = 1 << 30  # the rank of a user who did not come in the half that Named users are chosen on
_CONFIDENT = 14  # of the 16 draws in order: the 90th percentile


@dataclass(frozen=True, slots=True)
class Prices:
    """The price of one CAL of each kind, in any unit."""

    named: float
    session: float
    document: float | None = None  # None: there are none to buy


class _Draw(NamedTuple):
    """One split of the weeks: leases of the second half, with the rank that their users have in the first."""

    leases: Sequence[tuple[float, float, int, int]]  # begin, end, rank, wishes that it serves

    def counts(self, named: int) -> curve.Counts:
        """Counts the wishes of users who are not among the first `named`, by seat."""
        taken: list[tuple[float, int]] = []
        free: list[int] = []
        by_seat = [0]
        for begin, end, rank, wishes in self.leases:
            if rank < named:
                continue
            while taken and taken[0][0] <= begin:
                heappush(free, heappop(taken)[1])
            if free:
                seat = heappop(free)
            else:
                seat = len(by_seat)
                by_seat.append(0)
            heappush(taken, (end, seat))
            by_seat[seat] += wishes
        return curve.Counts(by_seat)


class Mixes:
    """The Session CALs that are needed with each number of Named CALs."""

    def __init__(
        self,
        made: curve.Pass,
        weeks: Sequence[int],
        calendar: Calendar,
        *,
        below: float,
        margin: float,
        keep: Sequence[str],
        seed: int,
    ) -> None:
        """`made` is the one pass without Named users; `keep` are users who hold a Named CAL whatever happens."""
        self._below, self._margin, self._keep = below, margin, list(keep)
        self._leases = made.leases
        self._wishes = Counter(made.leases.of_wish[made.first :])
        self._weeks = [calendar.slot(begin).week for begin in made.leases.begins]
        self.order = self._ranked(None)
        self._draws = [self._draw(weeks, random.Random(seed + number)) for number in range(DRAWS)]  # noqa: S311 - a sample
        self._whole = self._half(None, self.order)
        self._found: dict[int, int] = {}

    @property
    def users(self) -> int:
        """All who could get a Named CAL."""
        return len(self.order)

    def session(self, named: int) -> int:
        """Returns the Session CALs to buy with that many Named CALs: the 90th percentile of the draws, with the margin.

        Never less than what the whole past needs.
        """
        found = self._found.get(named)
        if found is None:
            needs = sorted(draw.counts(named).need(self._below) for draw in self._draws)
            planned = math.ceil(needs[_CONFIDENT] * (1 + self._margin) - 1e-9)
            found = self._found[named] = max(planned, self._whole.counts(named).need(self._below))
        return found

    def rate(self, named: int, session: int) -> float:
        """Returns the rate to expect: the mean of the halves that the Named users were not chosen on."""
        rates = []
        for draw in self._draws:
            counts = draw.counts(named)
            denied = counts.denied()
            rates.append(denied[session] / counts.wishes if session < len(denied) and counts.wishes else 0.0)
        return sum(rates) / len(rates)

    def _ranked(self, weeks: Collection[int] | None) -> list[str]:
        """Ranks the users who came in these weeks; others, and browsers without sign-in, cannot be chosen."""
        hours: dict[str, float] = defaultdict(float)
        leases = self._leases
        for begin, end, user, week in zip(leases.begins, leases.ends, leases.users, self._weeks, strict=True):
            if (weeks is None or week in weeks) and not is_anonymous(user):
                hours[user] += (end - begin) / 3600
        kept = [user for user in self._keep if user in hours]
        return [*kept, *(user for user in people.ranked(hours) if user not in set(kept))]

    def _draw(self, weeks: Sequence[int], generator: random.Random) -> _Draw:
        chosen = set(generator.sample(list(weeks), len(weeks) // 2))
        other = [week for week in weeks if week not in chosen]
        size = Counter(self._weeks)
        while len(other) > _FEWEST_WEEKS and sum(size[week] for week in other) > LARGEST_HALF:
            other.pop(generator.randrange(len(other)))
        return self._half(set(other), self._ranked(chosen))

    def _half(self, weeks: Collection[int] | None, order: Sequence[str]) -> _Draw:
        rank = {user: number for number, user in enumerate(order)}
        leases = self._leases
        kept = [index for index, week in enumerate(self._weeks) if weeks is None or week in weeks]
        return _Draw(
            [(leases.begins[at], leases.ends[at], rank.get(leases.users[at], _NEVER), self._wishes[at]) for at in kept]
        )


def costs(order: Sequence[str], one_document: Collection[str], prices: Prices) -> list[float]:
    """Returns the cost of CALs for the first 0, 1, 2, … users: a Document CAL for users of one document, else Named."""
    document = prices.named if prices.document is None else prices.document
    each = (document if user in one_document else prices.named for user in order)
    return [0.0, *accumulate(each)]


def cheapest(session: Callable[[int], int], costs: Sequence[float], price: float, fewest: int = 0) -> int:
    """Returns the number of users with a CAL of their own that costs least, by branch and bound.

    `costs` are those of 0, 1, 2, … users; `price` is that of a Session CAL.

    The session need falls as the number of Named CALs rises; so between two numbers nothing costs less than the lower
    number of Named CALs with the lower session need. (Where the need of the others falls by more than that, because a
    user with many visits leaves the rate, one Session CAL could be saved and is not found.)
    """

    def cost(named: int) -> float:
        return costs[named] + session(named) * price

    users = len(costs) - 1
    best = min((fewest, users), key=lambda named: (cost(named), named))
    open_ = [(fewest, users)]
    while open_:
        low, high = open_.pop()
        if high - low < 2 or session(low) == session(high):
            continue
        bound = costs[low + 1] + session(high) * price
        if bound >= cost(best):
            continue
        middle = (low + high) // 2
        best = min((best, middle), key=lambda named: (cost(named), named))
        open_ += [(middle, high), (low, middle)]
    return best


def savings(made: curve.Pass, seats: int) -> Mapping[str, float]:
    """Returns the Session CALs that each user saves with a Named CAL: their share of a CAL while the pool is full."""
    leases = made.leases
    moments = [begin for begin, seat in zip(leases.begins, made.seat, strict=True) if seat >= max(1, seats)]
    if not moments:
        return {}
    held: Counter[str] = Counter()
    steps = sorted(
        [(at, 1, "") for at in moments]
        + [(begin, 0, user) for begin, user in zip(leases.begins, leases.users, strict=True)]
        + [(end, -1, user) for end, user in zip(leases.ends, leases.users, strict=True)]
    )
    now: Counter[str] = Counter()
    for _, what, user in steps:
        if what:
            if what > 0:
                held.update(user for user, count in now.items() for _ in range(count))
            else:
                now[user] -= 1
                if not now[user]:
                    del now[user]
        else:
            now[user] += 1
    return {user: count / len(moments) for user, count in held.items()}
