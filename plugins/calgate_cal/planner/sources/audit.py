"""Calgate's own records: what a license granted, refused and saw used."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from calgate_cal.audit import DENIALS, Record
from calgate_cal.planner.history import History
from calgate_cal.planner.wishes import USAGE_VISIT, Denial, Visit
from calgate_cal.replies import Holder

NAME = "records"

_SIGN_OUTS = ("signed-out", "ended")
# notes of the Session pool: more CALs would not have helped
_NO_NEED = ("capped", "reserved", "quarantined", "anonymous-full", "address-full")


@dataclass(frozen=True, slots=True)
class Window:
    """The time that is planned (Unix times)."""

    since: float
    until: float  # now, for visits that are still open


def history(
    records: Iterable[Record], holders: Sequence[Holder], window: Window, *, idle_timeout: float, link: float
) -> History:
    """Makes a history of the records of a window and of what is in use at its end.

    A visit that began before the window is known from the record of its end, or from its holder: it is present in the
    history, and only counts where it begins within the window. A grant that was taken back is no visit.
    """
    reader = RecordReader(window, idle_timeout, link)
    for record in records:
        if record.at < window.until:
            reader.follow(record)
    for holder in holders:
        reader.add_holder(holder)
    return reader.history


class RecordReader:
    """Follows the records, oldest first. The `history` of a reader that goes on for long has many windows in it."""

    def __init__(self, window: Window, idle_timeout: float, link: float) -> None:
        self._owners: set[str] = set()
        self.history = History(
            owners=self._owners, source=NAME, has_denials=True, rows_are_documents=True, since=window.since
        )
        self._until = window.until
        self._idle_timeout = idle_timeout
        self._link = link
        self._granted: dict[str, Record] = {}
        self._signed_out: dict[str, float] = {}

    def follow(self, record: Record) -> None:
        """Adds what one record says."""
        lease = record["lease"]
        if record.what == "granted":
            self._granted[lease or record.id] = record
        elif record.what == "visited":
            self._add_visited(record)
        elif record.what in DENIALS:
            self._add_denial(record)
        elif record.what == "came-back":
            self._signed_out.pop(lease, None)
        elif record["ended"]:
            self._add_ended(record)
        elif record.what in _SIGN_OUTS and lease:
            self._signed_out[lease] = record.at
        if record["overdraft"] and record.what == "granted":
            self.history.counts["overdraft"] += 1

    def within(self, window: Window) -> "RecordReader":
        """Returns a reader whose history is that of a window of the records so far; this one can go on reading."""
        reader = RecordReader(window, self._idle_timeout, self._link)
        reader.history = replace(
            self.history,
            owners=reader._owners,
            since=window.since,
            visits=[visit for visit in self.history.visits if visit.end >= window.since],
            denials=[denial for denial in self.history.denials if denial.at >= window.since],
            names=dict(self.history.names),
            counts=Counter(),
            other_denials=Counter(),
        )
        reader._granted = dict(self._granted)
        reader._signed_out = dict(self._signed_out)
        return reader

    def add_holder(self, holder: Holder) -> None:
        """Adds the visits of a CAL that is in use."""
        user = self.history.user(holder.user, holder.name)
        if holder.kind == "named" and holder.state != "quarantined":
            self._owners.add(user)
        if holder.state == "provisional" or holder.since >= self._until:
            return
        if holder.kind in ("named", "document"):
            document = holder.document if holder.kind == "document" else ""
            for visit in holder.visits:
                self.history.visits.append(
                    Visit(visit.since, self._until, visit.used, "open", user, visit.client, holder.kind, document)
                )
            return
        used = holder.last_used if holder.last_used is not None else holder.since
        self._add(holder.id, holder.kind, user, holder.client, used, self._signed_out.get(holder.id), self._until)

    def _add_visited(self, record: Record) -> None:
        since, used = float(record["since"]) / 1000, float(record["used"]) / 1000
        signed_out = record.at - used < self._idle_timeout  # else its end is the first use after the timeout
        end = record.at if signed_out else used
        self.history.visits.append(
            Visit(
                *(since, max(end, used), end, "signed-out" if signed_out else "expired"),
                *(self._user(record), record["client"], record["kind"], record["document"]),
            )
        )

    def _add_denial(self, record: Record) -> None:
        code = record["code"] or "no-cal"
        notes = [pool.get("note", "") for pool in record.pools if pool.get("kind") == "session"]
        reason = next((note for note in notes if note in _NO_NEED), "") if code == "no-cal" else code
        if reason:
            self.history.other_denials[reason] += 1
            return
        self.history.denials.append(Denial(record.at, self._user(record), record["client"], record["document"]))

    def _add_ended(self, record: Record) -> None:
        lease, kind = record["lease"], record["kind"]
        granted = self._granted.get(lease)
        if record.what == "taken-back" or kind not in ("session", "usage"):
            self._granted.pop(lease, None)
            return
        ended = float(record["ended"]) / 1000
        used = float(record["used"]) / 1000 if record["used"] else ended - self._idle_timeout
        signed_out = self._signed_out.pop(lease, ended if record.what in _SIGN_OUTS else None)
        client = self.history.share(record["client"] or (granted["client"] if granted else ""))
        self._add(lease, kind, self._user(record), client, used, signed_out, ended)

    def _add(
        self, lease: str, kind: str, user: str, client: str, used: float, signed_out: float | None, end: float
    ) -> None:
        granted = self._granted.pop(lease, None)
        begin = granted.at if granted else int(lease.partition("-")[0]) / 1000
        waited = float(granted["waited"] or 0) / 1000 if granted else 0.0
        shift = waited if waited > self._link else 0.0  # a wait in the queue is one wish however long it was
        last = max(begin, used if signed_out is None else signed_out)
        if kind == "usage":
            end = last = max(begin + USAGE_VISIT, last)
        ends = "open" if end == self._until and signed_out is None else "signed-out"
        if signed_out is None and ends != "open" and kind != "usage":
            ends = "expired"
        document = granted["document"] if granted else ""
        self.history.visits.append(
            Visit(begin - shift, max(end, last) - shift, last - shift, ends, user, client, kind, document)
        )

    def _user(self, record: Record) -> str:
        return self.history.user(record["user"], record["name"])
