"""The limits that were in force: worked out from the records of settings files and of administrators' changes."""

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from calgate_cal.audit import Record
from calgate_cal.replies import KINDS

_MOST_CHANGES = 1000  # of each kind; older ones are forgotten

Change = tuple[float, int]
"""From when (Unix time), and the limit."""


class LimitHistory:
    """The changes of every kind's limit, by the records that were followed, oldest first."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, int]] = {}  # by kind: the settings file's limit, and how many were bought
        self._set: dict[str, int] = {}  # by kind: the administrator's
        self._changes: dict[str, deque[tuple[float, int | None]]] = {
            kind: deque(maxlen=_MOST_CHANGES) for kind in KINDS
        }

    def follow(self, record: Record) -> None:
        """Applies one record, if it is about limits."""
        if record.what == "configured":
            terms = json.loads(record["terms"])
            self._files = {kind: (terms[kind]["limit"], terms[kind]["in_license"]) for kind in KINDS if kind in terms}
        elif record.what == "limited":
            self._set_one(record["kind"], record["cals"])
        elif record.what == "restored":
            settings = json.loads(record["settings"])
            for kind in KINDS:
                if f"limit:{kind}" in settings:
                    self._set_one(kind, str(settings[f"limit:{kind}"]))
        else:
            return
        for kind, changes in self._changes.items():
            limit = self._limit(kind)
            if limit != (changes[-1][1] if changes else None):
                changes.append((record.at, limit))

    def since(self, since: float, now: Mapping[str, int]) -> Mapping[str, Sequence[Change]]:
        """Returns for each kind the limit at `since`, as far as it is known, and each later change.

        `now` has the limits in force. They were in force all the time where no record says otherwise.
        """
        return {kind: _changes(self._changes[kind], since, limit) for kind, limit in now.items()}

    def _set_one(self, kind: str, cals: str) -> None:
        if cals:
            self._set[kind] = int(cals)
        else:
            self._set.pop(kind, None)

    def _limit(self, kind: str) -> int | None:
        """Returns the limit as the functions in the store work it out; None while no record has told it."""
        of_file = self._files.get(kind)
        if of_file is None:
            return self._set.get(kind)
        limit, bought = of_file
        return min(self._set.get(kind, limit), bought)


def _changes(changes: Iterable[tuple[float, int | None]], since: float, now: int) -> list[Change]:
    known: list[tuple[float, int | None]] = list(changes)
    before = [limit for at, limit in known if at <= since]
    first = before[-1] if before else None
    steps = [(since, first), *((at, limit) for at, limit in known if at > since)]
    if len(steps) == 1 or steps[-1][1] is None:  # whatever no record says is as it is now
        steps[-1] = (steps[-1][0], now)
    return [(at, limit) for at, limit in steps if limit is not None]
