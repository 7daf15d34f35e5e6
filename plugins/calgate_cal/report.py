"""How many CALs are needed: what the records say about use and denial, and what would have been with fewer or more."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from calgate_cal.audit import DENIALS, Record, Span, replay

HOUR = 3600.0
EPISODE = 600.0  # seconds: who is denied again within them is still the same trouble


@dataclass(frozen=True, slots=True)
class Use:
    """How many of a kind were in use."""

    kind: str
    users: int  # different ones
    peak: int
    median: int  # of the peaks of all hours in which any was in use
    p95: int
    by_hour: Mapping[int, int]  # hour of the day -> the highest of all days


@dataclass(frozen=True, slots=True)
class Report:
    """A license over a time (Unix times)."""

    license: str
    since: float
    until: float
    uses: Sequence[Use]
    attempts: int  # denials
    episodes: int  # denials, retries within ten minutes counted once
    denied_users: int
    what_if: Mapping[int, int]  # with so many Session CALs -> so many episodes of denial
    hours: Mapping[str, Sequence[int]]  # kind -> the peak of each hour since `since`


def make(license: str, records: Sequence[Record], since: float, until: float, utc_offset: float) -> Report:
    """`records` begin with the first there is, for what was out at `since`; hours of the day are local ones."""
    history = replay(record for record in records if record.at < until)
    spans = [span for span in (*history.spans, *history.out.values()) if _end(span, until) > since]
    hours = {kind: hourly_peaks([s for s in spans if s.kind == kind], since, until) for kind in _kinds(spans)}
    denials = [record for record in records if record.what in DENIALS and since <= record.at < until]
    begun = episodes(denials)
    return Report(
        license=license,
        since=since,
        until=until,
        uses=[_use(kind, spans, peaks, since, utc_offset) for kind, peaks in hours.items()],
        attempts=len(denials),
        episodes=len(begun),
        denied_users=len({record["user"] for record in denials}),
        what_if=what_if([span for span in spans if span.kind == "session"], begun, until),
        hours=hours,
    )


def episodes(denials: Sequence[Record]) -> list[Record]:
    """The first denial of each episode of each user."""
    begun: list[Record] = []
    last: dict[str, float] = {}
    for record in denials:
        user = record["user"]
        if user not in last or record.at - last[user] > EPISODE:
            begun.append(record)
        last[user] = record.at
    return begun


def hourly_peaks(spans: Sequence[Span], since: float, until: float) -> list[int]:
    """The most that were out at once, in each hour."""
    count = max(1, math.ceil((until - since) / HOUR))
    peaks = [0] * count
    steps = sorted([(span.since, 1) for span in spans] + [(_end(span, until), -1) for span in spans])
    out = 0
    for (at, change), (then, _) in pairwise([*steps, (until, 0)]):
        out += change
        if then <= since or then == at:
            continue
        first = max(0, int((at - since) // HOUR))
        last = min(count - 1, int((math.nextafter(then, at) - since) // HOUR))
        for hour in range(first, last + 1):
            peaks[hour] = max(peaks[hour], out)
    return peaks


def what_if(sessions: Sequence[Span], denied: Sequence[Record], until: float) -> dict[int, int]:
    """The same visits again with other numbers of Session CALs: who comes while all are taken is denied and goes.

    Who was denied in truth is taken to have stayed for the median visit.
    """
    lengths = [_end(span, until) - span.since for span in sessions]
    usual = median(lengths) if lengths else 0.0
    visits = sorted([(s.since, _end(s, until)) for s in sessions] + [(d.at, d.at + usual) for d in denied])
    most = _most_at_once(visits)
    return {cals: _denied_with(cals, visits) for cals in _interesting(most)}


def _interesting(most: int) -> Sequence[int]:
    """Every number up to the need where that is small, else about twenty of them."""
    step = max(1, most // 20)
    return sorted({*range(0, most + 1, step), most})


def _denied_with(cals: int, visits: Sequence[tuple[float, float]]) -> int:
    denied, taken = 0, list[float]()
    for begins, ends in visits:
        taken = [until for until in taken if until > begins]
        if len(taken) < cals:
            taken.append(ends)
        else:
            denied += 1
    return denied


def _most_at_once(visits: Sequence[tuple[float, float]]) -> int:
    steps = sorted([(begins, 1) for begins, _ in visits] + [(ends, -1) for _, ends in visits])
    out = most = 0
    for _, change in steps:
        out += change
        most = max(most, out)
    return most


def _use(kind: str, spans: Sequence[Span], peaks: Sequence[int], since: float, utc_offset: float) -> Use:
    busy = sorted(peak for peak in peaks if peak) or [0]
    by_hour: dict[int, int] = {}
    for number, peak in enumerate(peaks):
        hour = int((since + utc_offset + number * HOUR) // HOUR) % 24
        by_hour[hour] = max(by_hour.get(hour, 0), peak)
    return Use(
        kind=kind,
        users=len({span.user for span in spans if span.kind == kind}),
        peak=busy[-1],
        median=busy[(len(busy) - 1) // 2],
        p95=busy[math.ceil(len(busy) * 0.95) - 1],
        by_hour=dict(sorted(by_hour.items())),
    )


def _kinds(spans: Sequence[Span]) -> Sequence[str]:
    return [kind for kind in ("named", "document", "session", "usage") if any(span.kind == kind for span in spans)]


def _end(span: Span, until: float) -> float:
    return until if span.until is None else min(span.until, until)
