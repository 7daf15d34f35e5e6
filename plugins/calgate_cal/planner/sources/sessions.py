"""QlikView's session logs (`Sessions_*.log`): one row a user and document, written when the session ends."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from calgate_cal.planner.clock import AmbiguousDateError, Dates, order_in, pair, seconds
from calgate_cal.planner.history import History
from calgate_cal.planner.sources.reading import How, columns
from calgate_cal.planner.wishes import Visit

NAME = "qlikview"

_KINDS = {"named": "named", "document": "document", "doc": "document", "usage": "usage"}


class _Columns(NamedTuple):
    """Positions of the columns that are read; -1: the log has none of that name."""

    start: int
    length: int
    stamp: int
    reason: int
    identifying: int
    authenticated: int
    machine: int
    address: int
    document: int
    cal: int
    last: int  # the highest of those without which a row cannot be read


def matches(first_line: str) -> bool:
    """Whether a file begins like a session log."""
    names = columns(first_line.split("\t"))
    return "session start" in names and ("identifying user" in names or "authenticated user" in names)


def order_of_dates(rows: Iterable[str]) -> Dates | None:
    """Decides whether the day or the month comes first; None if no row of this file decides it."""
    rows = iter(rows)
    start = columns(next(rows, "").split("\t")).get("session start", 0)
    for row in rows:
        fields = row.split("\t")
        if len(fields) > start and (order := order_in(fields[start])):
            return order
    return None


def read(name: str, rows: Iterator[str], history: History, how: How) -> None:
    """Adds the visits of one file to a history. Raises AmbiguousDateError."""
    at = _columns(next(rows).split("\t"))
    history.source, history.rows_are_documents = NAME, True
    server = _server(name)
    addresses: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if not row.strip():
            continue
        fields = row.split("\t")
        if len(fields) <= at.last:
            history.fault(name, number, f"{len(fields)} columns, where the header has more")
            continue
        try:
            visit = _visit(fields, at, history, how)
        except AmbiguousDateError:
            raise
        except ValueError as error:
            history.fault(name, number, str(error))
            continue
        if visit is None:
            history.fault(name, number, "no user")
            continue
        history.visits.append(visit)
        if at.machine < 0 or not fields[at.machine]:
            addresses[visit.user] = visit.machine
    if len(addresses) >= 3 and len(set(addresses.values())) == 1:
        history.one_address.add(server)


def _columns(header: list[str]) -> _Columns:
    names = columns(header)

    def of(*wanted: str) -> int:
        return next((names[name] for name in wanted if name in names), -1)

    start, length, stamp = of("session start"), of("session duration"), of("timestamp")
    users = (of("identifying user"), of("authenticated user"))
    return _Columns(
        *(start, length, stamp, of("exit reason"), *users),
        *(of("client machine identification"), of("client address"), of("document"), of("cal type")),
        last=max(start, length, stamp, *users),
    )


def _visit(fields: list[str], at: _Columns, history: History, how: How) -> Visit | None:
    name = fields[at.identifying] if at.identifying >= 0 else ""
    if not name:
        name = fields[at.authenticated] if at.authenticated >= 0 else ""
    if not name.strip():
        return None
    begin, end = _span(fields, at, history, how)
    reason = _field(fields, at.reason)
    ends = _ends(reason)
    history.counts[ends] += 1
    used = max(begin, end - how.logged_idle) if ends == "expired" else end
    machine = _field(fields, at.machine) or _field(fields, at.address)
    kind = _kind(_field(fields, at.cal))
    document = _field(fields, at.document)
    share = history.share
    return Visit(begin, end, used, ends, history.user(name), share(machine), kind, share(document))


def _span(fields: list[str], at: _Columns, history: History, how: How) -> tuple[float, float]:
    """Returns beginning and end; the length is the logged duration, never the difference of two wall clock times."""
    begins = how.times.read(fields[at.start])
    length = seconds(fields[at.length]) if at.length >= 0 and fields[at.length] else None
    if length is not None and len(begins) == 1:
        return begins[0], begins[0] + length
    ends = how.times.read(fields[at.stamp]) if at.stamp >= 0 and fields[at.stamp] else ()
    begin, is_certain = pair(begins, ends, length)
    if not is_certain:
        history.counts["twofold"] += 1
    if length is None:
        if not ends:
            raise ValueError("neither a duration nor an end")
        length = max(0.0, min(ends, key=lambda end: (end < begin, end)) - begin)
    return begin, begin + length


def _field(fields: list[str], index: int) -> str:
    return fields[index] if 0 <= index < len(fields) else ""


def _ends(reason: str) -> str:
    text = reason.casefold()
    if "expired" in text or "idle" in text or "timeout" in text:
        return "expired"
    if "lru" in text:
        return "lru"
    return "shutdown" if "shutdown" in text or "shut down" in text else "closed"


def _kind(cal: str) -> str:
    return _KINDS.get(cal.partition(" ")[0].casefold(), "session")


def _server(name: str) -> str:
    parts = name.split("_")
    return parts[1] if len(parts) > 2 else name
