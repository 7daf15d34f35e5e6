"""QlikView's session logs (`Sessions_*.log`): one row a user and document, written when the session ends.

The server separates columns with tabs; a log that went through a spreadsheet can have semicolons or commas.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from calgate_cal.planner.clock import LONGEST_VISIT, AmbiguousDateError, Dates, pair, seconds
from calgate_cal.planner.history import History
from calgate_cal.planner.sources import reading
from calgate_cal.planner.sources.reading import How, cells, columns, delimiter
from calgate_cal.planner.wishes import Visit

NAME = "qlikview"

_KINDS = {"named": "named", "user": "named", "document": "document", "doc": "document", "usage": "usage"}


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
    names = columns(first_line.split(delimiter(first_line)))
    return "session start" in names and ("identifying user" in names or "authenticated user" in names)


def order_of_dates(rows: Iterable[str]) -> Dates | None:
    """Decides whether the day or the month comes first; None if no row of this file decides it."""
    return reading.order_of_dates(rows, "session start")


def read(name: str, rows: Iterator[str], history: History, how: How) -> None:
    """Adds the visits of one file to a history. Raises AmbiguousDateError."""
    history.source, history.rows_are_documents = NAME, True
    server = _server(name)
    addresses: dict[str, str] = {}
    header = next(rows)
    at = _columns(header.split(delimiter(header)))
    for number, fields in enumerate(cells(header, rows), 2):
        try:
            visit = _visit(fields, at, history, how)
        except AmbiguousDateError as fault:
            raise AmbiguousDateError(f"line {number}: {fault}") from fault
        except ValueError as error:
            if "session start" in columns(fields):  # files joined into one, or a server of another version went on
                at = _columns(fields)
            elif any(field.strip() for field in fields):
                history.fault(name, number, str(error))
            continue
        history.visits.append(visit)
        if not _field(fields, at.machine):
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


def _visit(fields: list[str], at: _Columns, history: History, how: How) -> Visit:
    """Reads a row. Raises ValueError."""
    if len(fields) <= at.last:
        raise ValueError(f"{len(fields)} columns, where the header has more")
    name = fields[at.identifying] if at.identifying >= 0 else ""
    if not name:
        name = fields[at.authenticated] if at.authenticated >= 0 else ""
    if not name.strip():
        raise ValueError("no user")
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
    logged = fields[at.length] if at.length >= 0 else ""
    if ":" in logged and len(begins) == 1:
        return begins[0], begins[0] + seconds(logged)
    ends = how.times.read(fields[at.stamp]) if at.stamp >= 0 and fields[at.stamp] else ()
    length = _length(logged, begins, ends) if logged else None
    begin, is_certain = pair(begins, ends, length)
    if not is_certain:
        history.counts["twofold"] += 1
    if length is None:
        if not ends:
            raise ValueError("neither a duration nor an end")
        length = max(0.0, min(ends, key=lambda end: (end < begin, end)) - begin)
    if length > LONGEST_VISIT:
        raise ValueError("the session lasts longer than a year")
    return begin, begin + length


def _length(logged: str, begins: Sequence[float], ends: Sequence[float]) -> float:
    """Reads a duration. A number can be seconds or, as spreadsheets write it, a share of a day: the end decides."""
    length = seconds(logged)
    if ":" in logged or not ends:
        return length
    gap = ends[-1] - begins[0]
    return length * 86400 if abs(gap - length * 86400) < abs(gap - length) else length


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
