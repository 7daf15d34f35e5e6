"""A license over a time: CALs in use, denials, and how many Session CALs would have been enough."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from calgate_cal.anonymous import is_anonymous
from calgate_cal.audit import DENIALS, Record
from calgate_cal.planner.advice import advise, points
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.plan import Prepared
from calgate_cal.planner.sources.audit import Window
from calgate_cal.replies import KINDS, Holder

HOUR = 3600.0
BELOW = 0.01  # the rate for which the needed number is given
SEED = 1


@dataclass(frozen=True, slots=True)
class Span:
    """A CAL that was in use for a time (Unix times)."""

    kind: str
    user: str
    since: float
    until: float | None  # None: it still is


@dataclass(frozen=True, slots=True)
class Use:
    """How many CALs of a kind were in use."""

    kind: str
    users: int  # different ones
    browsers: int  # different ones without sign-in
    peak: int
    median: int  # of the peaks of all hours in which at least one was in use
    p95: int
    by_hour: Mapping[int, int]  # local hour of the day -> the highest peak of all days


@dataclass(frozen=True, slots=True)
class Report:
    """A license over a time (Unix times)."""

    license: str
    since: float
    until: float
    uses: Sequence[Use]
    visits: int  # wishes that were served
    attempts: int  # refusals, of whatever reason
    episodes: int  # denied wishes: attempts linked within an hour, and the visit that they ended in
    denied_users: int
    denied_browsers: int  # without sign-in
    rate: float  # denied wishes of all wishes that need a Session CAL
    now: Mapping[str, int]  # kind -> the limit
    below: int  # the Session CALs with which less than 1 % is denied
    what_if: Mapping[int, int]  # with so many Session CALs -> so many denied wishes
    begin: float  # of the first of `hours`
    hours: Mapping[str, Sequence[int]]  # kind -> the peak of each full hour
    denied_by_hour: Sequence[int]  # denied wishes that began in each full hour
    wishes_by_hour: Sequence[int]


def make(
    license: str,
    records: Sequence[Record],
    holders: Iterable[Holder],
    prepared: Prepared,
    window: Window,
    calendar: Calendar,
    now: Mapping[str, int],
) -> Report:
    """Makes a report from the records of a window, what is in use now, and the wishes that the planner made of them."""
    begin = full_hour(window.since, calendar)
    used = [span for span in spans(records, holders) if _end(span, window.until) > window.since]
    kinds = [kind for kind in KINDS if any(span.kind == kind for span in used)]
    hours = {kind: hourly_peaks([span for span in used if span.kind == kind], begin, window.until) for kind in kinds}
    replays = prepared.replays
    wishes = [wish for wish in replays.wishes[replays.first :] if wish.user not in replays.rules.named]
    denied = [wish for wish in wishes if wish.denied]
    advice = advise(replays, calendar, BELOW, SEED)
    refused = [record for record in records if record.what in DENIALS]
    denied_users, denied_browsers = _users_and_browsers(record["user"] for record in refused)
    return Report(
        license=license,
        since=window.since,
        until=window.until,
        uses=[_use(kind, used, peaks, begin, calendar) for kind, peaks in hours.items()],
        visits=prepared.counted_visits,
        attempts=len(refused),
        episodes=len(denied),
        denied_users=denied_users,
        denied_browsers=denied_browsers,
        rate=len(denied) / len(wishes) if wishes else 0.0,
        now=now,
        below=advice.plain,
        what_if={point.cals: point.denied for point in points(replays, advice, (now.get("session", 0),))},
        begin=begin,
        hours=hours,
        denied_by_hour=_by_hour([wish.begin for wish in denied], begin, window.until),
        wishes_by_hour=_by_hour([wish.begin for wish in wishes], begin, window.until),
    )


def claimants(users: int, browsers: int) -> str:
    """Writes `3 users and 2 browsers without sign-in`."""
    return f"{users} users" + (f" and {browsers} browser{'s' * (browsers != 1)} without sign-in" if browsers else "")


def spans(records: Iterable[Record], holders: Iterable[Holder]) -> list[Span]:
    """Returns every CAL that was in use: those whose end is on record, and those still held."""
    found: dict[str, Span] = {}
    for record in records:
        if record["ended"] and record["lease"] and record.what != "taken-back":
            since = int(record["lease"].partition("-")[0]) / 1000
            found[record["lease"]] = Span(record["kind"], record["user"], since, float(record["ended"]) / 1000)
    for holder in holders:
        found[holder.id] = Span(holder.kind, holder.user, holder.since, None)
    return list(found.values())


def full_hour(at: float, calendar: Calendar) -> float:
    """Returns when the local hour of a moment began."""
    local = calendar.local(at)
    return at - local.minute * 60 - local.second - local.microsecond / 1e6


def hourly_peaks(used: Sequence[Span], begin: float, until: float, throughout: int = 0) -> list[int]:
    """Returns the most CALs in use at once in each hour since `begin`, which is a full one.

    `throughout`: how many more were in use for the whole time.
    """
    count = _hours(begin, until)
    peaks = [0] * count
    steps = sorted([(begin, 0), *((span.since, 1) for span in used), *((_end(span, until), -1) for span in used)])
    now = throughout
    for (at, change), (then, _) in pairwise([*steps, (until, 0)]):
        now += change
        if then <= begin or then == at:
            continue
        first = max(0, int((at - begin) // HOUR))
        last = min(count - 1, int((math.nextafter(then, at) - begin) // HOUR))
        for hour in range(first, last + 1):
            peaks[hour] = max(peaks[hour], now)
    return peaks


def _hours(begin: float, until: float) -> int:
    return max(1, math.ceil((until - begin) / HOUR))


def _by_hour(times: Iterable[float], begin: float, until: float) -> list[int]:
    counts = [0] * _hours(begin, until)
    for at in times:
        counts[min(len(counts) - 1, max(0, int((at - begin) // HOUR)))] += 1
    return counts


def _use(kind: str, used: Sequence[Span], peaks: Sequence[int], begin: float, calendar: Calendar) -> Use:
    busy = sorted(peak for peak in peaks if peak) or [0]
    by_hour: dict[int, int] = {}
    for number, peak in enumerate(peaks):
        hour = calendar.slot(begin + number * HOUR).hour
        by_hour[hour] = max(by_hour.get(hour, 0), peak)
    users, browsers = _users_and_browsers(span.user for span in used if span.kind == kind)
    return Use(
        kind=kind,
        users=users,
        browsers=browsers,
        peak=busy[-1],
        median=busy[(len(busy) - 1) // 2],
        p95=busy[math.ceil(len(busy) * 0.95) - 1],
        by_hour=dict(sorted(by_hour.items())),
    )


def _users_and_browsers(keys: Iterable[str]) -> tuple[int, int]:
    """Returns how many users, and how many browsers without sign-in, are among these keys."""
    different = set(keys)
    browsers = sum(is_anonymous(key) for key in different)
    return len(different) - browsers, browsers


def _end(span: Span, until: float) -> float:
    return until if span.until is None else min(span.until, until)
