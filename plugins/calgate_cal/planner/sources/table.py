"""Tables of visits (commas, tabs or semicolons): the way in for every other log."""

from collections.abc import Iterable, Iterator

from calgate_cal.planner.clock import LONGEST_VISIT, AmbiguousDateError, Dates
from calgate_cal.planner.history import History
from calgate_cal.planner.sources import reading
from calgate_cal.planner.sources.reading import How, cells, columns, delimiter
from calgate_cal.planner.wishes import Denial, Visit

NAME = "table"

_DENIALS = ("denied", "would-deny")
_ENDS = {"": "signed-out", "signed-out": "signed-out", "socket closed": "closed", "closed": "closed", "lru": "lru"}


def matches(first_line: str) -> bool:
    """Whether a file begins with the header of a table of visits."""
    names = columns(first_line.split(delimiter(first_line)))
    return "start" in names and "user" in names


def order_of_dates(rows: Iterable[str]) -> Dates | None:
    """Decides whether the day or the month comes first; None if no row of this file decides it."""
    return reading.order_of_dates(rows, "start")


def read(name: str, rows: Iterator[str], history: History, how: How) -> None:
    """Adds the visits and denials of one file to a history. Raises AmbiguousDateError."""
    header = next(rows)
    at = columns(header.split(delimiter(header)))
    history.source = NAME
    if "what" in at:
        history.has_denials = True
    for number, fields in enumerate(cells(header, rows), 2):
        if not any(field.strip() for field in fields):
            continue
        row = {column: fields[index].strip() for column, index in at.items() if index < len(fields)}
        try:
            _add(row, history, how)
        except AmbiguousDateError as fault:
            raise AmbiguousDateError(f"line {number}: {fault}") from fault
        except ValueError as error:
            history.fault(name, number, str(error))


def _add(row: dict[str, str], history: History, how: How) -> None:
    if not row.get("user"):
        raise ValueError("no user")
    begins = how.times.read(row.get("start", ""))
    if len(begins) > 1:
        history.counts["twofold"] += 1
    begin, user = begins[0], history.user(row["user"])
    machine, document = history.share(row.get("machine", "")), history.share(row.get("document", ""))
    if row.get("what", "").casefold() in _DENIALS:
        history.denials.append(Denial(begin, user, machine, document))
        return
    kind = row.get("kind", "").casefold().partition(" ")[0] or "session"
    if kind not in ("session", "named", "document", "usage"):
        raise ValueError(f"{row['kind']!r} is not a kind of CAL")
    if not row.get("end"):
        history.open_visits.append(Visit(begin, begin, begin, "open", user, machine, kind, document))
        return
    ends = how.times.read(row["end"])
    end = next((end for end in ends if end >= begin), ends[-1])
    if end < begin:
        raise ValueError("the end is before the start")
    if end - begin > LONGEST_VISIT:
        raise ValueError("the visit lasts longer than a year")
    reason = row.get("reason", "").casefold()
    how_it_ended = _ends(reason)
    used = max(begin, end - how.logged_idle) if how_it_ended == "expired" else end
    history.visits.append(Visit(begin, end, used, how_it_ended, user, machine, kind, document))


def _ends(reason: str) -> str:
    if "expired" in reason or "idle" in reason:
        return "expired"
    return _ENDS.get(reason, "signed-out")
