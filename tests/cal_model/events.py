"""What happened to a license, as the model of the rules has it: a list of events, and what they say of each CAL."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
FOREVER = 9_999_999_999_999
KINDS = ("named", "document", "session", "usage")

PLACE_KEPT, OFFER_STANDS = 30_000, 60_000
PROVISIONAL = 10 * MINUTE  # until a grant that nobody settled is taken back


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `recorded`: it stands in the audit log, which fixes the newest time there is."""

    at: int
    what: str
    facts: dict[str, Any]
    recorded: bool = True


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody who asks for a CAL."""

    user: str
    client: str
    document: str
    groups: tuple[str, ...] = ()
    reference: str = ""

    @property
    def holder(self) -> str:
        return f"{self.user}|{self.client}"


@dataclass(slots=True)
class Cal:
    """One CAL in somebody's hands, as far as events tell."""

    id: str
    kind: str
    user: str
    client: str
    document: str
    groups: tuple[str, ...]
    granted: int
    by: str  # "dynamic" or "administrator"
    pending: list[str] | None  # requests that have not been answered yet; None: it is provisional no more
    used: int | None = None
    left: int | None = None  # signed out
    removed: int | None = None
    told: list[str] = field(default_factory=list)  # clients that are to be told of a take-over
    refused: bool = False  # one of the requests was, while others were under way
    over: bool = False  # ended by an event, not by its clock

    @property
    def field(self) -> str:
        """Whose it is; there is never more than one of a field, but for Usage CALs whose hour is over."""
        part = {"named": "", "session": f"|{self.client}"}.get(self.kind, f"|{self.document}")
        return f"{self.kind}|{self.user}{part}"


@dataclass(slots=True)
class Waiter:
    """Somebody in the queue."""

    ask: Claim
    seq: int
    kept_until: int
    offer: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What serves a claim: a CAL that is his, or a new one of a kind (perhaps taken from somebody idle), or none."""

    cal: Cal | None = None
    other: str | None = None  # what is to happen because another machine uses it
    kind: str | None = None
    victim: Cal | None = None
    why: dict[str, str] = field(default_factory=dict)


def cals_of(events: Sequence[Event]) -> list[Cal]:
    """Every CAL that was ever given, with what became of it."""
    cals: dict[str, Cal] = {}
    for event in events:
        _tell(cals, event)
    return list(cals.values())


def waiters_of(events: Sequence[Event]) -> list[Waiter]:
    """Who waits, in order of coming."""
    waiting: dict[str, Waiter] = {}
    for event in events:
        facts = event.facts
        match event.what:
            case "waits":
                seq = max((waiter.seq for waiter in waiting.values()), default=0) + 1
                waiting[facts["ask"].holder] = Waiter(facts["ask"], seq, event.at + PLACE_KEPT)
            case "asked":
                waiter = waiting[facts["holder"]]
                waiter.kept_until = event.at + PLACE_KEPT
                waiter.ask = facts.get("ask", waiter.ask)
            case "offered":
                waiting[facts["holder"]].offer = facts["kind"]
                waiting[facts["holder"]].kept_until = event.at + OFFER_STANDS
            case "offer-revoked":
                waiting[facts["holder"]].offer = None
                waiting[facts["holder"]].kept_until = event.at + PLACE_KEPT
            case "left-queue":
                waiting.pop(facts["holder"], None)
    return sorted(waiting.values(), key=lambda waiter: waiter.seq)


def _tell(cals: dict[str, Cal], event: Event) -> None:  # noqa: C901 - a line an event
    """What one event does to the CALs."""
    facts = event.facts
    if event.what == "granted":
        ask, by = facts["ask"], facts["by"]
        assigned = by == "administrator"
        cals[facts["id"]] = Cal(
            *(facts["id"], facts["kind"], ask.user, ask.client, ask.document, ask.groups, event.at, by),
            pending=None if assigned else [ask.reference],
            used=None if assigned else event.at,
        )
        return
    cal = cals.get(facts.get("id", ""))
    if cal is None:
        return
    match event.what:
        case "used":
            cal.used = event.at
            if cal.kind == "named":
                cal.client = facts["client"]
            if cal.pending is not None and facts["reference"] not in cal.pending:
                cal.pending.append(facts["reference"])
                cal.refused = False
        case "touched":
            cal.used = facts["used"]
        case "kept":
            cal.pending, cal.refused = None, False
        case "answered":
            cal.pending = [reference for reference in cal.pending or () if reference != facts["reference"]]
            cal.refused = cal.refused or facts["refused"]
        case "signed-out":
            cal.left = event.at
        case "came-back":
            cal.left = None
        case "taken-over":
            cal.told.append(facts["client"])
        case "told":
            cal.told = [client for client in cal.told if client != facts["client"]]
        case "unused":
            cal.client = ""
        case "removed":
            cal.removed = event.at
        case "undone":
            cal.removed, cal.by = None, "administrator"
        case "over":
            cal.over = True
