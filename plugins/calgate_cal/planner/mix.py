"""Named and Session CALs together: which mix is cheapest without being tuned to people who have left.

The mix that is cheapest for the past is wrong for the future. So the Named users are chosen on one random half of the
weeks, and the seats that the other users need are counted on the other half.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from calgate_cal.planner import curve, people
from calgate_cal.planner.clock import Calendar

DRAWS = 16
WEEKS_AT_LEAST = 8
_NEVER = 1 << 30  # the rank of a user who did not come in the half that Named users are chosen on
_CONFIDENT = 14  # of the 16 draws in order: the 90th percentile


@dataclass(frozen=True, slots=True)
class Prices:
    """What one CAL costs, in any unit."""

    named: float
    session: float


@dataclass(frozen=True, slots=True)
class _Draw:
    """One split of the weeks: leases of the second half, with the rank that their users have in the first."""

    begins: Sequence[float]
    ends: Sequence[float]
    ranks: Sequence[int]
    wishes: Sequence[int]  # that each lease serves

    def counts(self, named: int) -> curve.Counts:
        """Counts the wishes of users who are not among the first `named`, by seat."""
        left = [index for index, rank in enumerate(self.ranks) if rank >= named]
        seats = curve.seats((self.begins[index] for index in left), (self.ends[index] for index in left))
        by_seat: Counter[int] = Counter()
        for index, seat in zip(left, seats, strict=True):
            by_seat[seat] += self.wishes[index]
        return curve.counts_of(by_seat)


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
        """Ranks the users who came in these weeks; others cannot be chosen."""
        hours: dict[str, float] = defaultdict(float)
        leases = self._leases
        for begin, end, user, week in zip(leases.begins, leases.ends, leases.users, self._weeks, strict=True):
            if weeks is None or week in weeks:
                hours[user] += (end - begin) / 3600
        kept = [user for user in self._keep if user in hours]
        return [*kept, *(user for user in people.ranked(hours) if user not in set(kept))]

    def _draw(self, weeks: Sequence[int], generator: random.Random) -> _Draw:
        chosen = set(generator.sample(list(weeks), len(weeks) // 2))
        return self._half(set(weeks) - chosen, self._ranked(chosen))

    def _half(self, weeks: Collection[int] | None, order: Sequence[str]) -> _Draw:
        rank = {user: number for number, user in enumerate(order)}
        leases = self._leases
        kept = [index for index, week in enumerate(self._weeks) if weeks is None or week in weeks]
        return _Draw(
            [leases.begins[index] for index in kept],
            [leases.ends[index] for index in kept],
            [rank.get(leases.users[index], _NEVER) for index in kept],
            [self._wishes[index] for index in kept],
        )


def cheapest(session: Callable[[int], int], users: int, prices: Prices, fewest: int = 0) -> int:
    """Returns the number of Named CALs with the lowest cost, by branch and bound.

    The session need falls as the number of Named CALs rises, except for one seat; so between two numbers nothing costs
    less than the lower number of Named CALs with the lower session need.
    """

    def cost(named: int) -> float:
        return named * prices.named + session(named) * prices.session

    best = min((fewest, users), key=lambda named: (cost(named), named))
    open_ = [(fewest, users)]
    while open_:
        low, high = open_.pop()
        if high - low < 2:
            continue
        bound = (low + 1) * prices.named + max(0, session(high) - 1) * prices.session
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
