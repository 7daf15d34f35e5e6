"""The events of a license, as the model of the rules has them, and what they mean for each CAL."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
FOREVER = 9_999_999_999_999
KINDS = ("named", "document", "session", "usage")

PLACE_KEPT, OFFER_STANDS = 30_000, 60_000
MOST_AHEAD = 60_000  # a record further ahead of the clock was written under a wrong one
MOST_OF_ONE_USER = 3  # positions in the queue
PROVISIONAL = 10 * MINUTE  # until a grant that nobody settled is taken back


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `recorded`: the audit log has it, whose newest record stops time from going back."""

    at: int
    what: str
    facts: dict[str, Any]
    recorded: bool = True


@dataclass(frozen=True, slots=True)
class Claimant:
    """A user at a client who claims a CAL for a document."""

    user: str
    client: str
    document: str
    groups: tuple[str, ...] = ()
    reference: str = ""
    network: str = ""  # of an anonymous browser; "": a user

    @property
    def holder(self) -> str:
        return f"{self.user}|{self.client}"


@dataclass(slots=True)
class Visit:
    """The use of a Named or Document CAL on one client, without a pause as long as the idle timeout."""

    since: int
    used: int


@dataclass(slots=True)
class Cal:
    """One CAL that a user holds, according to the events."""

    id: str
    kind: str
    user: str
    client: str
    document: str
    groups: tuple[str, ...]
    granted: int
    by: str  # "dynamic" or "administrator"
    pending: list[str] | None  # requests without a response yet; None: no longer provisional
    used: int | None = None
    left: int | None = None  # signed out
    removed: int | None = None
    told: list[str] = field(default_factory=list)  # clients whose next claim is denied with the reason, a take-over
    refused: bool = False  # one of the requests was refused while others were open
    over: bool = False  # ended by an event, not by its clock
    beyond: bool = False  # granted in observe mode, although a limit would have denied it
    network: str = ""  # of an anonymous browser
    visits: dict[str, Visit] = field(default_factory=dict)  # client -> its open visit

    @property
    def field(self) -> str:
        """The holder and the document; a field has one CAL at most, except for Usage CALs whose hour is over."""
        part = {"named": "", "session": f"|{self.client}"}.get(self.kind, f"|{self.document}")
        return f"{self.kind}|{self.user}{part}"


@dataclass(slots=True)
class Waiter:
    """A claimant in the queue."""

    claimant: Claimant
    seq: int
    kept_until: int
    asked: set[str]  # documents whose denial has been recorded
    offer: str | None = None
    offer_document: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """What serves a claim: a CAL that the user holds, a new one (perhaps taken from an idle holder), or nothing."""

    cal: Cal | None = None
    other: str | None = None  # what is to happen because another machine uses it
    kind: str | None = None
    victim: Cal | None = None
    beyond: bool = False  # in observe mode, where it would be denied
    why: dict[str, str] = field(default_factory=dict)


def cals_of(events: Sequence[Event]) -> list[Cal]:
    """Returns every CAL that was ever granted, in its present state."""
    cals: dict[str, Cal] = {}
    for event in events:
        _apply(cals, event)
    return list(cals.values())


def waiters_of(events: Sequence[Event]) -> list[Waiter]:
    """Returns the waiters, first come first."""
    waiting: dict[str, Waiter] = {}
    for event in events:
        facts = event.facts
        match event.what:
            case "waits":
                seq = max((waiter.seq for waiter in waiting.values()), default=0) + 1
                claimant = facts["claimant"]
                waiting[claimant.holder] = Waiter(claimant, seq, event.at + PLACE_KEPT, {claimant.document})
            case "polled":
                claimant = facts["claimant"]
                waiter = waiting[claimant.holder]
                waiter.asked.add(claimant.document)
                if not waiter.offer:  # claiming a document that an offer cannot serve does not forfeit the offer
                    waiter.kept_until = event.at + PLACE_KEPT
                    waiter.claimant = claimant
            case "offered":
                waiting[facts["holder"]].offer = facts["kind"]
                waiting[facts["holder"]].offer_document = facts["document"]
                waiting[facts["holder"]].kept_until = event.at + OFFER_STANDS
            case "offer-revoked":
                waiting[facts["holder"]].offer = None
                waiting[facts["holder"]].kept_until = event.at + PLACE_KEPT
            case "left-queue":
                waiting.pop(facts["holder"], None)
    return sorted(waiting.values(), key=lambda waiter: waiter.seq)


def _granted(event: Event) -> Cal:
    facts = event.facts
    claimant, by = facts["claimant"], facts["by"]
    assigned = by == "administrator"
    cal = Cal(
        *(facts["id"], facts["kind"], claimant.user, claimant.client, claimant.document, claimant.groups),
        *(event.at, by),
        pending=None if assigned else [claimant.reference],
        used=None if assigned else event.at,
        beyond=facts.get("beyond", False),
        network=claimant.network,
    )
    if not assigned:
        _visit(cal, claimant.client, event.at)
    return cal


def _apply(cals: dict[str, Cal], event: Event) -> None:  # noqa: C901 - a line an event
    """Applies one event to the CALs."""
    facts = event.facts
    if event.what == "granted":
        cals[facts["id"]] = _granted(event)
        return
    cal = cals.get(facts.get("id", ""))
    if cal is None:
        return
    match event.what:
        case "used":
            _use(cal, event)
        case "touched":
            cal.used = facts["used"]
            _visit(cal, facts["client"], facts["used"])
        case "visited":
            del cal.visits[facts["client"]]
        case "corrected":
            _correct(cal, event.at)
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


def _use(cal: Cal, event: Event) -> None:
    client, reference = event.facts["client"], event.facts["reference"]
    cal.used = event.at
    _visit(cal, client, event.at)
    if cal.kind == "named":
        cal.client = client
    if cal.pending is not None and reference not in cal.pending:
        cal.pending.append(reference)
        cal.refused = False


def _visit(cal: Cal, client: str, used: int) -> None:
    """Begins a visit, or goes on with it; one that was over has been recorded before."""
    if cal.kind in ("named", "document"):
        cal.visits.setdefault(client, Visit(used, used)).used = used


def _correct(cal: Cal, now: int) -> None:
    """Nothing of a CAL can lie in the future: it was noted under a wrong clock."""
    cal.granted, cal.used = min(cal.granted, now), now
    cal.left = None if cal.left is None else min(cal.left, now)
    cal.removed = None if cal.removed is None else min(cal.removed, now)
    for visit in cal.visits.values():
        visit.since, visit.used = min(visit.since, now), min(visit.used, now)
