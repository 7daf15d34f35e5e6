"""Logs of QlikView's web server or IIS in the W3C extended format: requests of users, in UTC."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC

from calgate_cal.planner.clock import Dates, LocalTimes
from calgate_cal.planner.history import History
from calgate_cal.planner.sources.reading import How
from calgate_cal.planner.wishes import Visit

NAME = "w3c"

_NEEDED = ("date", "time", "c-ip", "cs-method", "cs-uri-stem")


@dataclass(slots=True)
class _Open:
    """A visit whose last request has not been seen yet."""

    begin: float
    last: float
    document: str


def matches(first_line: str) -> bool:
    """Whether a file begins like a W3C log."""
    return first_line.startswith(("#Software:", "#Version:", "#Fields:", "#Date:"))


def order_of_dates(rows: Iterable[str]) -> Dates | None:
    """The format writes dates with the year first."""
    return None


def read(name: str, rows: Iterator[str], history: History, how: How) -> None:
    """Adds the visits of one file to a history: a visit ends with its last request before the idle timeout."""
    history.source, history.rows_are_documents = NAME, True
    utc = replace(how, times=LocalTimes(UTC))
    at: dict[str, int] = {}
    current: dict[tuple[str, str], _Open] = {}
    for number, row in enumerate(rows, 1):
        if row.startswith("#"):
            if row.startswith("#Fields:"):
                at = {field.casefold(): index for index, field in enumerate(row.split()[1:])}
                _check(name, number, at, how.identity, history)
            continue
        fields = row.split(" ")
        if not at or len(fields) < len(at):
            if row.strip():
                history.fault(name, number, f"{len(fields)} fields, where #Fields has {len(at)}")
            continue
        try:
            _follow(fields, at, history, utc, current)
        except ValueError as error:
            history.fault(name, number, str(error))
    for (user, machine), visit in current.items():
        _end(user, machine, visit, history, how.logged_idle)


def _check(name: str, line: int, at: dict[str, int], identity: str, history: History) -> None:
    for field in (*_NEEDED, identity.casefold()):
        if field not in at:
            history.fault(name, line, f"#Fields has no {field}")
            at.clear()
            return


def _follow(
    fields: list[str], at: dict[str, int], history: History, how: How, current: dict[tuple[str, str], _Open]
) -> None:
    name = fields[at[how.identity.casefold()]]
    if name in ("-", ""):
        history.counts["without user"] += 1
        return
    status = fields[at["sc-status"]] if "sc-status" in at else "200"
    query = fields[at["cs-uri-query"]] if "cs-uri-query" in at else "-"
    target = fields[at["cs-uri-stem"]] + (f"?{query}" if query not in ("-", "") else "")
    document = how.document_of(fields[at["cs-method"]], target) if status < "4" else None
    if document is None:
        return
    when = how.times.read(f"{fields[at['date']]} {fields[at['time']]}")[0]
    holder = (history.user(name.replace("+", " ")), history.share(fields[at["c-ip"]]))
    visit = current.get(holder)
    if visit is not None and when - visit.last <= how.logged_idle:
        visit.last = max(visit.last, when)
        return
    if visit is not None:
        _end(*holder, visit, history, how.logged_idle)
    current[holder] = _Open(when, when, history.share(document))


def _end(user: str, machine: str, visit: _Open, history: History, idle: float) -> None:
    history.visits.append(
        Visit(visit.begin, visit.last + idle, visit.last, "expired", user, machine, "session", visit.document)
    )
