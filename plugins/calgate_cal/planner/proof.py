"""The proof on the site's own data: planned on the first half, replayed on the second."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from calgate_cal.planner.advice import Advice, Replays, advise
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.wishes import Wish

FACTOR = 3.0  # a rate that misses by more is reported before everything else


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of the first half's plan in the second half."""

    planned: int  # Session CALs
    rate: float  # denied in the second half with that many
    right: int  # the number that would have been enough
    split: float  # Unix time between the halves
    denied: Mapping[str, int]  # user -> wishes denied in the second half, most first; browsers without sign-in too

    def missed(self, below: float) -> bool:
        """Whether the second half missed the wanted rate by more than a factor of 3."""
        return self.rate > below * FACTOR


def prove(replays: Replays, calendar: Calendar, below: float, seed: int) -> Proof | None:
    """Plans the first half and replays the second; None if one of the halves has no wish."""
    wishes, rules = replays.wishes, replays.rules
    split = _middle(wishes[replays.first :], calendar)
    at = bisect_left(wishes, split, key=lambda wish: wish.begin)
    first, second = Replays(wishes[:at], rules, replays.first), Replays(wishes[at:], rules)
    if not first.total or not second.total:
        return None
    planned: Advice = advise(first, calendar, below, seed)
    right = second.need(below, planned.plain)
    denied = Counter(second.wishes[index].user for index in second.at(planned.recommended).denied)
    by_user = dict(sorted(denied.items(), key=lambda one: (-one[1], one[0])))
    return Proof(planned.recommended, second.rate(planned.recommended), right, split, by_user)


def _middle(wishes: Sequence[Wish], calendar: Calendar) -> float:
    """The Monday nearest the middle, or the midnight where there is less than four weeks."""
    first, last = calendar.slot(wishes[0].begin).day, calendar.slot(wishes[-1].begin).day
    day = first + (last - first + 1) // 2
    monday = round(day / 7) * 7
    whole = last - first >= 28 and first < monday <= last
    return calendar.midnight(monday if whole else day)
