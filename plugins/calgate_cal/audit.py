"""The records of every decision and change, as the functions in the store write them, and what follows from them."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from calgate.plugin import Store

_PAGE = 1000

BEGINS = ("granted", "assigned", "reasserted")
DENIALS = ("denied", "would-deny")


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `what` is a stable code: granted, denied, kept, taken-back, expired, signed-out, visited, …"""

    id: str
    at: float  # Unix time
    what: str
    facts: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.facts.get(name, "")

    @property
    def pools(self) -> Sequence[dict[str, Any]]:
        """Every pool as it was when a claim was denied."""
        pools = json.loads(self.facts.get("pools", "[]"))
        return pools if isinstance(pools, list) else []


@dataclass(frozen=True, slots=True)
class Span:
    """A CAL that was in use for a time."""

    id: str
    kind: str
    user: str
    name: str
    client: str
    document: str
    since: float
    until: float | None  # None: it still is


@dataclass(slots=True)
class Replay:
    """The CALs in use according to the records, worked out from the first record on."""

    spans: list[Span] = field(default_factory=list)
    out: dict[str, Span] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def follow(self, record: Record) -> None:
        """Applies one record."""
        if record.what in BEGINS:
            lease = record["lease"] or record.id
            self.out[lease] = _span(lease, record)
        elif record["ended"] and record["lease"] in self.out:
            span = self.out.pop(record["lease"])
            self.spans.append(replace(span, until=float(record["ended"]) / 1000))
        elif record.what in ("limited", "allocated", "dynamic"):
            self._set(record)
        elif record.what == "restored":
            self.settings |= {str(name): str(value) for name, value in json.loads(record["settings"]).items()}
            for lease in json.loads(record["leases"]):
                facts = {name: str(value) for name, value in lease.items()}
                granted = Record(lease["id"], lease["granted"] / 1000, "granted", facts)
                self.out[lease["id"]] = _span(lease["id"], granted)

    def _set(self, record: Record) -> None:
        name = {
            "limited": f"limit:{record['kind']}",
            "allocated": f"allocated:{record['document']}",
            "dynamic": f"dynamic:{record['kind']}" + (f":{record['document']}" if record["document"] else ""),
        }[record.what]
        value = record["on"] if record.what == "dynamic" else record["cals"]
        if value == "" or (record.what == "allocated" and value == "0"):
            self.settings.pop(name, None)
        else:
            self.settings[name] = value


def replay(records: Iterable[Record]) -> Replay:
    """Applies all records, oldest first."""
    history = Replay()
    for record in records:
        history.follow(record)
    return history


async def read(store: Store, key: str, first: str, last: str) -> AsyncIterator[Record]:
    """Yields the records of the stream between two ids, page by page."""
    while True:
        page = await store.execute("XRANGE", key, first, last, "COUNT", _PAGE)
        for entry, facts in page:
            yield decode(entry, facts)
        if len(page) < _PAGE:
            return
        first = f"({page[-1][0].decode()}"


async def read_back(store: Store, key: str, before: str = "+") -> AsyncIterator[Record]:
    """Yields the records of the stream newest first, page by page, from the one before an id."""
    last = "+" if before == "+" else f"({before}"
    while True:
        page = await store.execute("XREVRANGE", key, last, "-", "COUNT", _PAGE)
        for entry, facts in page:
            yield decode(entry, facts)
        if len(page) < _PAGE:
            return
        last = f"({page[-1][0].decode()}"


def decode(entry: bytes, facts: Mapping[bytes, bytes]) -> Record:
    """Reads an entry of the stream as redis-py returns it."""
    texts = {name.decode(): value.decode("utf-8", "replace") for name, value in facts.items()}
    text = entry.decode()
    # the stream's ids only grow: a record that follows one of a clock that was ahead has its own time
    at = texts.pop("at", "") or text.partition("-")[0]
    return Record(text, int(at) / 1000, texts.pop("what", ""), texts)


def _span(lease: str, record: Record) -> Span:
    granted = int(lease.partition("-")[0]) / 1000
    since = min(granted, record.at) if record.what == "reasserted" else record.at
    return Span(
        *(lease, record["kind"], record["user"], record["name"], record["client"], record["document"], since),
        until=None,
    )
