"""The data read from the sources: visits, denials and everything that must be reported about them."""

from collections import Counter
from dataclasses import dataclass, field

from calgate_cal.planner.wishes import Denial, Visit

FIRST_FAULTS = 10  # lines that are reported one by one
_LONGEST_FAULT = 120  # characters


class SourceError(Exception):
    """The input cannot be read; the message names the file and line."""


@dataclass(slots=True)
class History:
    """The visits and denials of all sources together (Unix times)."""

    source: str = ""
    visits: list[Visit] = field(default_factory=list)
    open_visits: list[Visit] = field(default_factory=list)  # their end is not known yet
    denials: list[Denial] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # user -> as people write it
    rows_are_documents: bool = False  # a row is a user and document, so rows that overlap are one visit
    since: float | None = None  # wishes that begin before are present, but do not count
    owners: set[str] | None = None  # users who hold a Named CAL now; None: the source does not know
    other_denials: Counter[str] = field(default_factory=Counter)  # by reason: those that show no need for more CALs
    has_denials: bool = False  # whether the source records denials at all
    one_address: set[str] = field(default_factory=set)  # servers that see one address for everybody
    faults: list[str] = field(default_factory=list)  # unreadable lines, the first ten
    unreadable: int = 0
    counts: Counter[str] = field(default_factory=Counter)  # what the notes report, by a code
    _users: dict[str, str] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)

    def fault(self, file: str, line: int, what: str) -> None:
        """Notes a line that cannot be read."""
        self.unreadable += 1
        if len(self.faults) < FIRST_FAULTS:
            shown = what if len(what) <= _LONGEST_FAULT else f"{what[:_LONGEST_FAULT]}…"
            self.faults.append(f"{file}, line {line}: {shown}")

    def user(self, name: str, shown: str = "") -> str:
        """Returns the key of a user; names that differ only in case are one user. `shown` is how people write it."""
        key = self._users.get(name)
        if key is None:
            key = self._users[name] = self.share(name.strip().casefold())
            self.names.setdefault(key, shown or name.strip())
        return key

    def share(self, text: str) -> str:
        """Returns one object for equal texts: a million rows name a few hundred machines."""
        return self._texts.setdefault(text, text)

    def add_open_visits(self) -> None:
        """Lets visits that are still open last until the last thing that is known."""
        until = max((visit.end for visit in self.visits), default=0.0)
        until = max([until, *(visit.begin for visit in self.open_visits), *(denial.at for denial in self.denials)])
        self.visits += [visit._replace(end=until, used=until) for visit in self.open_visits]
        self.counts["open"] += len(self.open_visits)
        self.open_visits.clear()
