"""Visits, denials, and the wishes that they add up to."""

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

USAGE_VISIT = 3600.0  # seconds that a Usage CAL serves at least
_MOST_NEEDED = (
    "named",
    "session",
    "usage",
    "document",
)  # of two visits at once: a Document CAL opens one document only
RETRIES_AT_LEAST = 5  # wishes tried more than once, before their gaps say anything


class Visit(NamedTuple):
    """One user on one machine, as a source recorded it (Unix times)."""

    begin: float
    end: float  # when the server ended the session
    used: float  # the last use
    ends: str  # "signed-out", "closed", "expired", "lru", "shutdown" or "open"
    user: str
    machine: str
    kind: str  # of the CAL: "session", "named", "document" or "usage"
    document: str


class Denial(NamedTuple):
    """One attempt that was refused for want of a CAL."""

    at: float
    user: str
    machine: str
    document: str = ""


class Wish(NamedTuple):
    """A visit that a user wanted, counted from the first attempt.

    In order, a wish that was served comes before one that was denied at the same instant.
    """

    begin: float
    denied: bool  # as it happened
    used: float
    signed_out: bool  # the CAL is free at `used`; else after the idle timeout
    user: str
    holder: tuple[str, str]  # user and machine: whom one Session CAL serves
    kind: str
    document: str = ""
    closed: bool = False  # the browser was closed, which calgate cannot see


@dataclass(frozen=True, slots=True)
class Retries:
    """How users who were denied tried again, as the records show it (seconds)."""

    gap: float  # median time between two attempts
    patience: float  # 90th percentile of the time from the first attempt to the last
    wishes: int  # that were tried more than once


def merge(visits: Iterable[Visit]) -> tuple[list[Visit], int]:
    """Joins overlapping visits of a user and machine, so that two documents at once are one visit.

    Returns the visits in order of their beginning, and how many rows occurred twice.
    """
    joined: list[Visit] = []
    current: dict[tuple[str, str], Visit] = {}
    twice, previous = 0, None
    for visit in sorted(visits):
        if visit == previous:
            twice += 1
            continue
        previous = visit
        holder = (visit.user, visit.machine)
        before = current.get(holder)
        if before is None:
            current[holder] = visit
        elif visit.begin <= before.end:
            current[holder] = _joined(before, visit)
        else:
            joined.append(before)
            current[holder] = visit
    joined.extend(current.values())
    joined.sort()
    return joined, twice


def _joined(before: Visit, after: Visit) -> Visit:
    last = after if after.used >= before.used else before
    document = before.document if before.document == after.document else "*"
    kind = min(before.kind, after.kind, key=_MOST_NEEDED.index)
    return before._replace(end=max(before.end, after.end), used=last.used, ends=last.ends, document=document, kind=kind)


def link(visits: Sequence[Visit], denials: Sequence[Denial], within: float) -> tuple[list[Wish], Retries | None]:
    """Makes wishes of visits and denials; attempts at most `within` seconds apart are one wish.

    A visit that follows a denial of the same user belongs to the same wish, moved to its first attempt. A wish that was
    never served lasts as long as the user's median visit, else everybody's.
    """
    lengths = _lengths(visits)
    usual = median(array("d", (visit.used - visit.begin for visit in visits))) if visits else 0.0
    own = {user: median(values) for user, values in lengths.items()}
    groups = _attempts(denials, within)
    served, spans, gaps = _served(visits, groups, within)
    wishes: list[Wish] = []
    holders: dict[tuple[str, str], tuple[str, str]] = {}
    for index, visit in enumerate(visits):
        begin = served.get(index)
        start = visit.begin if begin is None else begin
        signed_out = visit.ends in ("signed-out", "shutdown")
        holder = (visit.user, visit.machine)
        wishes.append(
            Wish(
                *(start, begin is not None, _last_use(visit, start, own, usual), signed_out, visit.user),
                *(holders.setdefault(holder, holder), visit.kind, visit.document, visit.ends == "closed"),
            )
        )
    taken = set(spans)
    for number, group in enumerate(groups):
        first = group[0]
        if number not in taken:
            length = own.get(first.user, usual)
            holder = (first.user, first.machine)
            wishes.append(Wish(first.at, True, first.at + length, False, first.user, holder, "session", first.document))
    wishes.sort()
    return wishes, _retries(groups, spans, gaps)


def _lengths(visits: Iterable[Visit]) -> Mapping[str, "array[float]"]:
    lengths: dict[str, array[float]] = defaultdict(lambda: array("d"))
    for visit in visits:
        if visit.ends != "lru":
            lengths[visit.user].append(visit.used - visit.begin)
    return lengths


def _last_use(visit: Visit, start: float, own: Mapping[str, float], usual: float) -> float:
    """Returns when a visit that was wanted at `start` would have been used last."""
    length = visit.used - visit.begin
    if visit.ends == "lru":  # the server ended it in favor of somebody else
        length = max(length, own.get(visit.user, usual))
    elif visit.kind == "usage":
        length = max(length, USAGE_VISIT)
    elif start == visit.begin:
        return visit.used
    return start + length


def _attempts(denials: Iterable[Denial], within: float) -> list[list[Denial]]:
    """Denials of one user and machine, each at most `within` after the last, in order of their first."""
    groups: list[list[Denial]] = []
    current: dict[tuple[str, str], list[Denial]] = {}
    for denial in sorted(denials):
        group = current.get((denial.user, denial.machine))
        if group is None or denial.at - group[-1].at > within:
            group = current[denial.user, denial.machine] = []
            groups.append(group)
        group.append(denial)
    return groups


def _served(
    visits: Sequence[Visit], groups: Sequence[Sequence[Denial]], within: float
) -> tuple[dict[int, float], dict[int, float], list[float]]:
    """Finds the visit that each group of denials ended in.

    Returns the first attempt of each visit that was denied before, the wait of each group that was let in, and the gaps
    between a last denial and the visit.
    """
    begins: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for index, visit in enumerate(visits):
        begins[visit.user].append((visit.begin, index))
    served: dict[int, float] = {}
    spans: dict[int, float] = {}
    gaps: list[float] = []
    for number, group in enumerate(groups):
        own = begins.get(group[0].user, [])
        position = bisect_left(own, (group[-1].at, -1))
        if position < len(own) and own[position][0] - group[-1].at <= within:
            begin, index = own[position]
            served[index] = min(group[0].at, served.get(index, begin))
            spans[number] = begin - group[0].at
            gaps.append(begin - group[-1].at)
    return served, spans, gaps


def _retries(
    groups: Sequence[Sequence[Denial]], spans: Mapping[int, float], last_gaps: Sequence[float]
) -> Retries | None:
    again = [number for number, group in enumerate(groups) if len(group) > 1 or number in spans]
    if len(again) < RETRIES_AT_LEAST:
        return None
    gaps = [after.at - before.at for group in groups for before, after in pairwise(group)]
    patience = sorted(spans.get(number, group[-1].at - group[0].at) for number, group in enumerate(groups))
    longest = patience[min(len(patience) - 1, int(len(patience) * 0.9))]
    gap = median([*gaps, *last_gaps])
    return Retries(gap, longest, len(again)) if gap > 0 and longest > 0 else None
