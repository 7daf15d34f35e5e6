"""The rules of CALs, put as plainly as can be: the history of a license is a list of events, and everything else, who
holds what, how full a pool is, who is next in the queue, is worked out anew from that list whenever it has grown.

Nothing is counted along the way, so this can be read beside the rules and compared with them line by line. It knows
nothing of Redis. Times are milliseconds; a CAL whose time is over is simply not there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

Found = TypeVar("Found")

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
class Ask:
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
    pending: list[str]  # requests that have not been answered yet; provisional while there are any
    used: int | None = None
    left: int | None = None  # signed out
    removed: int | None = None
    told: list[str] = field(default_factory=list)  # clients that are to be told of a take-over
    over: bool = False  # ended by an event, not by its clock

    @property
    def field(self) -> str:
        """Whose it is; there is never more than one of a field, but for Usage CALs whose hour is over."""
        part = {"named": "", "session": f"|{self.client}"}.get(self.kind, f"|{self.document}")
        return f"{self.kind}|{self.user}{part}"


@dataclass(slots=True)
class Waiter:
    """Somebody in the queue."""

    ask: Ask
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


def anew(look: Callable[["Model"], Found]) -> Callable[["Model"], Found]:
    """What follows from the events alone need not be worked out again before there is another event."""
    name = look.__name__

    def looked(model: "Model") -> Found:
        events, found = model.found.get(name, (-1, None))
        if events != len(model.events):
            found = look(model)
            model.found[name] = (len(model.events), found)
        return cast(Found, found)

    return looked


class Model:
    """One license with its terms, as the settings file has them (times in milliseconds)."""

    def __init__(self, terms: dict[str, Any]) -> None:
        self.terms = terms
        self.events: list[Event] = []
        self.found: dict[str, tuple[int, Any]] = {}
        self._clock = 0

    # ------------------------------------------------------------ time

    @property
    def now(self) -> int:
        """A server's clock may step back after a failover; time does not go behind the newest record."""
        return max(self._clock, self._newest())

    @anew
    def _newest(self) -> int:
        return max((event.at for event in self.events if event.recorded), default=0)

    def at(self, clock: int) -> None:
        """The server's clock shows this."""
        self._clock = clock

    def _note(self, what: str, *, recorded: bool = True, **facts: Any) -> None:
        self.events.append(Event(self.now, what, facts, recorded))

    # ------------------------------------------------------------ what is out

    @anew
    def all_cals(self) -> list[Cal]:
        """Every CAL that was ever given, with what became of it."""
        cals: dict[str, Cal] = {}
        for event in self.events:
            _tell(cals, event)
        return list(cals.values())

    def cals(self) -> list[Cal]:
        """Those that are out: neither ended nor past their time."""
        now = self.now
        return [cal for cal in self.all_cals() if not cal.over and self.ends(cal) > now]

    def ends(self, cal: Cal) -> int:
        """When it comes back by itself, if it is not used again."""
        terms = self.terms[cal.kind]
        if cal.kind == "session":
            # max(granted + minimum, last activity + idle timeout), or sign-out in place of the latter; then the maximum
            ends = max(cal.granted + terms["minimum"], _or(cal.left, (cal.used or 0) + terms["idle_timeout"]))
            ends = min(ends, cal.granted + terms.get("maximum", FOREVER))
        elif cal.kind == "usage":
            ends = cal.granted + 28 * DAY
        elif cal.removed is not None:
            # a removal does not restart the clock: last used + quarantine; never used: gone at once
            ends = cal.removed if cal.used is None else cal.used + terms["quarantine"]
        elif cal.used is not None and self._returned_at(cal) < FOREVER:
            ends = max(self._returned_at(cal), cal.used + terms["quarantine"])
        else:
            ends = FOREVER
        return min(ends, cal.granted + PROVISIONAL) if cal.pending else ends

    def _returned_at(self, cal: Cal) -> int:
        """A dynamically assigned Named CAL that is unused for so long is returned."""
        after = self.terms[cal.kind].get("return_after")
        return cal.used + after if cal.used is not None and cal.by == "dynamic" and after else FOREVER

    def serves(self, cal: Cal) -> bool:
        """A quarantined CAL occupies its place and does not serve its old owner; a Usage CAL serves for an hour."""
        if cal.kind == "usage":
            return self.now < cal.granted + HOUR
        if cal.kind == "session":
            return True
        return cal.removed is None and self.now < self._returned_at(cal)

    def occupied(self, kind: str) -> int:
        return len([cal for cal in self.cals() if cal.kind == kind])

    # ------------------------------------------------------------ what an administrator set

    @anew
    def settings(self) -> dict[str, Any]:
        """The last thing said about each setting; None, or nothing: the file's word."""
        return {event.facts["name"]: event.facts["value"] for event in self.events if event.what == "set"}

    def _set(self, name: str) -> Any:
        return self.settings().get(name)

    def limit(self, kind: str) -> int:
        return int(min(_or(self._set(f"limit:{kind}"), self.terms[kind]["limit"]), self.terms[kind]["in_license"]))

    def allocated(self, document: str) -> int:
        return int(self._set(f"allocated:{document}") or 0)

    def is_dynamic(self, kind: str, ask: Ask) -> bool:
        """Whether a new CAL of this kind is assigned to the asker without an administrator."""
        on = self._set(f"dynamic:{kind}")
        if kind == "document":
            on = _or(self._set(f"dynamic:document:{ask.document}"), on)
        wanted = self.terms[kind].get("dynamic_for")
        return bool(_or(on, self.terms[kind]["dynamic"])) and (wanted is None or bool(set(wanted) & set(ask.groups)))

    # ------------------------------------------------------------ the order of consumption

    def own(self, ask: Ask) -> dict[str, Cal]:
        """What he has, by kind."""
        mine = {}
        for cal in self.cals():
            right_client = cal.kind != "session" or cal.client == ask.client
            right_document = cal.kind not in ("document", "usage") or cal.document == ask.document
            if cal.user == ask.user and right_client and right_document:
                mine[cal.kind] = cal  # of several Usage CALs the last one
        return mine

    def choose(self, ask: Ask) -> Choice:
        """QlikView's order; takes from the idle only what would else be a denial."""
        own, why = self.own(ask), dict[str, str]()
        for kind in ("named", "document"):  # 1, 2: his own
            if kind in own and self.serves(own[kind]):
                return Choice(cal=own[kind], other=self._other_client(own[kind], ask) if kind == "named" else None)
        for kind in ("named", "document"):  # 3, 4: a new one for good
            if self._may_have(kind, ask, own, why):
                return Choice(kind=kind)
        for kind in ("session", "usage"):  # 5, 6: his own, else a new one
            if kind in own and self.serves(own[kind]):
                return Choice(cal=own[kind])
            if self._may_have(kind, ask, own, why):
                return Choice(kind=kind)
        for idle in self._reclaimable():
            if self.has_room("session", ask, without=idle) == "":
                return Choice(kind="session", victim=idle)
        return Choice(why=why)  # 7: denied

    def _may_have(self, kind: str, ask: Ask, own: dict[str, Cal], why: dict[str, str]) -> bool:
        """Whether a new CAL of this kind is his to take; else a word in `why`."""
        if self.terms[kind]["in_license"] == 0:
            return False
        if kind in ("named", "document"):
            if kind in own:
                why[kind] = "quarantined"
            elif kind == "document" and not self.allocated(ask.document):
                why[kind] = "not-allocated"
            elif not self.is_dynamic(kind, ask):
                why[kind] = "not-assigned"
            if kind in why:
                return False
        word = self.has_room(kind, ask)
        if word:
            why[kind] = word
        return not word

    def has_room(self, kind: str, ask: Ask, without: Cal | None = None) -> str:
        """Empty if one more may go out to him, else the reason. An offer holds a place; his own is not in his way."""
        most = self.limit(kind) + self.terms[kind].get("overdraft", 0)
        out = [cal for cal in self.cals() if cal.kind == kind and (without is None or cal.id != without.id)]
        offers = [w.ask for w in self.waiters() if w.offer == kind and w.ask.holder != ask.holder]
        if len(out) >= most:
            return "full"
        if kind == "document":
            out_of_it = [taken for taken in (*out, *offers) if taken.document == ask.document]
            if len(out_of_it) >= self.allocated(ask.document):
                return "full"
        if kind == "session":
            for cap in self.terms[kind]["max"]:
                if cap["group"] in ask.groups and _of_group(cap["group"], (*out, *offers)) >= cap["cals"]:
                    return "capped"
            kept = sum(
                max(0, reserve["cals"] - _of_group(reserve["group"], (*out, *offers)))
                for reserve in self.terms[kind]["reserve"]
                if reserve["group"] not in ask.groups
            )
            if len(out) + len(offers) < most <= len(out) + len(offers) + kept:
                return "reserved"
        return "promised" if len(out) + len(offers) >= most else ""

    def _reclaimable(self) -> list[Cal]:
        """Session CALs idle so long that they may be taken, past their minimum, the least recently used first."""
        terms, now = self.terms["session"], self.now
        if "reclaimable_after" not in terms or self.limit("session") == 0:
            return []
        idle = [
            cal
            for cal in self.cals()
            if cal.kind == "session"
            and (cal.used or 0) + terms["reclaimable_after"] <= now
            and cal.granted + terms["minimum"] <= now
        ]
        return sorted(idle, key=lambda cal: (cal.used, cal.field))

    def _other_client(self, cal: Cal, ask: Ask) -> str | None:
        """The same user on a second machine: allow, take over (the first one is told why, once), refuse."""
        policy = self.terms["named"]["other_client"]
        if policy == "allow":
            return None
        if ask.client in cal.told:
            return "taken-over"
        idle = self.terms["session"]["idle_timeout"]
        if cal.client in ("", ask.client) or cal.used is None or cal.used + idle <= self.now:
            return None
        return "in-use-elsewhere" if policy == "refuse" else "take-over"

    # ------------------------------------------------------------ how full it is, for the denial page

    def pictures(self, why: dict[str, str]) -> list[dict[str, Any]]:
        """Each pool that has CALs."""
        return [
            {
                "kind": kind,
                "limit": self.limit(kind),
                "occupied": self.occupied(kind),
                "note": why.get(kind, ""),
                "free_at": self._free_at(kind),
            }
            for kind in KINDS
            if self.terms[kind]["in_license"] > 0
        ]

    def _free_at(self, kind: str) -> int | None:
        times = [self.ends(cal) for cal in self.cals() if cal.kind == kind]
        sessions = [cal for cal in self.cals() if cal.kind == "session"]
        terms = self.terms["session"]
        if kind == "session" and sessions and "reclaimable_after" in terms:
            first = min(sessions, key=lambda cal: (cal.used, cal.field))
            ripe = max(first.granted + terms["minimum"], (first.used or 0) + terms["reclaimable_after"])
            times.append(max(ripe, self.now))
        soonest = min(times, default=FOREVER)
        return None if soonest >= FOREVER else soonest

    # ------------------------------------------------------------ the queue

    @anew
    def waiters(self) -> list[Waiter]:
        """Who waits, in order of coming."""
        waiting: dict[str, Waiter] = {}
        for event in self.events:
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

    def _waiter(self, holder: str) -> Waiter | None:
        return next((waiter for waiter in self.waiters() if waiter.ask.holder == holder), None)

    def tend_queue(self) -> None:
        """Before every decision: who stopped asking is gone; what came free is offered to the first who can use it."""
        if not self.terms["queue"]:
            return
        for waiter in self.waiters():
            if waiter.kept_until <= self.now:
                self._note("left-queue", holder=waiter.ask.holder)
        for waiter in reversed(self.waiters()):  # a limit was lowered: the last comer loses his offer first
            if waiter.offer and self.has_room(waiter.offer, waiter.ask):
                self._note("offer-revoked", holder=waiter.ask.holder)
        while self._offer_one():
            pass

    def _offer_one(self) -> bool:
        for waiter in self.waiters():
            choice = self.choose(waiter.ask) if not waiter.offer else Choice()
            if choice.kind:
                if choice.victim:
                    self._note("over", id=choice.victim.id)
                self._note("offered", holder=waiter.ask.holder, kind=choice.kind)
                return True
        return False

    def place(self, holder: str) -> tuple[int, int | None]:
        """From 1, and when one comes free for him as far as the clocks of what is out tell."""
        place = next(n for n, waiter in enumerate(self.waiters(), 1) if waiter.ask.holder == holder)
        soonest = FOREVER
        for kind in KINDS:
            times = sorted(ends for cal in self.cals() if cal.kind == kind and (ends := self.ends(cal)) < FOREVER)
            soonest = min(soonest, times[place - 1] if len(times) >= place else FOREVER)
        return place, None if soonest >= FOREVER else soonest

    def _leave(self, holder: str, *, recorded: bool) -> None:
        if self._waiter(holder):
            self._note("left-queue", holder=holder, recorded=recorded)

    # ------------------------------------------------------------ what happens

    def claim(self, ask: Ask, new_id: str) -> tuple[Any, ...]:
        """("granted", kind, id, provisional, good for) or ("denied", code, pools, place, estimate)."""
        self.tend_queue()
        own, choice = self.own(ask), self.choose(ask)
        if choice.other in ("in-use-elsewhere", "taken-over"):
            denial = self._deny(ask, choice.other, {"named": choice.other})
            if choice.other == "taken-over":
                assert choice.cal
                self._note("told", id=choice.cal.id, client=ask.client, recorded=False)
            return denial
        if not choice.cal and not choice.kind:
            return self._deny(ask, "no-cal", choice.why)
        if choice.cal:
            self._use(choice.cal, ask, take_over=choice.other == "take-over")
            served = choice.cal.id
        else:
            self._grant(ask, choice, new_id)
            served = new_id
        cal = next(cal for cal in self.cals() if cal.id == served)
        if cal.kind == "named" and "session" in own:  # released as if he had signed out
            self._sign_out(own["session"])
        self._leave(ask.holder, recorded=False)
        good_for = None
        if cal.kind == "session":
            good_for = self.ends(cal) - self.now
        elif cal.kind == "usage":
            good_for = cal.granted + HOUR - self.now
        return "granted", cal.kind, cal.id, bool(cal.pending), good_for

    def _use(self, cal: Cal, ask: Ask, *, take_over: bool) -> None:
        if take_over:
            self._note("taken-over", id=cal.id, client=cal.client)
        if cal.left is not None:
            self._note("came-back", id=cal.id)
        self._note("used", id=cal.id, client=ask.client, reference=ask.reference, recorded=False)

    def _grant(self, ask: Ask, choice: Choice, new_id: str) -> None:
        if choice.victim:
            self._note("over", id=choice.victim.id)
        assert choice.kind
        self._bury(choice.kind, ask)
        self._note("granted", id=new_id, kind=choice.kind, ask=ask, by="dynamic")

    def _bury(self, kind: str, ask: Ask) -> None:
        """One of the same holder whose time is over is ended in the log before the new one begins."""
        place = Cal("", kind, ask.user, ask.client, ask.document, (), 0, "", []).field
        for cal in self.all_cals():
            if cal.field == place and not cal.over and self.ends(cal) <= self.now:
                self._note("over", id=cal.id)

    def _deny(self, ask: Ask, code: str, why: dict[str, str]) -> tuple[Any, ...]:
        pools = self.pictures(why)
        self._note("denied")
        if not self.terms["queue"] or code != "no-cal":
            return "denied", code, pools, 0, None
        waiter = self._waiter(ask.holder)
        if waiter is None:
            self._note("waits", ask=ask)
        elif not waiter.offer:  # who asks for what his offer does not serve keeps the offer
            self._note("asked", holder=ask.holder, ask=ask, recorded=False)
        return ("denied", code, pools, *self.place(ask.holder))

    def settle(self, cal_id: str, reference: str, *, served: bool) -> None:
        """How the request that a provisional CAL was given for ended."""
        cal = self._out(cal_id)
        if cal is None or not cal.pending:
            return
        if served:
            self._note("kept", id=cal.id)
        elif set(cal.pending) <= {reference}:
            self._note("over", id=cal.id)  # taken back as never used
        else:
            self._note("answered", id=cal.id, reference=reference, recorded=False)

    def touch(self, cal_id: str, client: str, age: int) -> str | None:
        """Somebody used a CAL so long ago; answers why it is lost."""
        cal = self._out(cal_id)
        if cal is None or self._newest_of(cal) != cal.id:
            return "ended"
        if not self.serves(cal):
            return "hour-over" if cal.kind == "usage" else "removed"
        if cal.left is not None:
            return "signed-out"
        if cal.kind == "named" and client in cal.told:
            return "taken-over"
        if cal.pending:
            self._note("kept", id=cal.id)
        self._note("touched", id=cal.id, used=max(self.now - age, cal.used or 0, cal.granted), recorded=False)
        return None

    def release(self, user: str, client: str) -> None:
        """The user signed out on this client."""
        own = self.own(Ask(user, client, ""))
        if "session" in own:
            self._sign_out(own["session"])
        if "named" in own and own["named"].client == client:
            self._note("unused", id=own["named"].id, recorded=False)
        self._leave(f"{user}|{client}", recorded=True)

    def _sign_out(self, cal: Cal) -> None:
        if cal.left is None:
            self._note("signed-out", id=cal.id)
            if not self._out(cal.id):
                self._note("over", id=cal.id)

    def wait(self, user: str, client: str) -> tuple[Any, ...]:
        """Keeps a place; ("waiting", place, estimate), ("offered",) or ("gone",)."""
        self.tend_queue()
        waiter = self._waiter(f"{user}|{client}")
        if not self.terms["queue"] or waiter is None:
            return ("gone",)
        if waiter.offer:
            return ("offered",)
        self._note("asked", holder=waiter.ask.holder, recorded=False)
        if self.choose(waiter.ask).cal:
            return ("offered",)
        return ("waiting", *self.place(waiter.ask.holder))

    def tend(self) -> None:
        """Ends what is due. That nothing depends on when this happens is the point of counting what is out afresh."""
        for cal in self.all_cals():
            if not cal.over and self.ends(cal) <= self.now:
                self._note("over", id=cal.id)
        self.tend_queue()

    # ------------------------------------------------------------ administrators

    def assign(self, kind: str, user: str, document: str, new_id: str) -> str:
        """Named and Document CALs are assigned to users, never beyond the limit."""
        self.tend_queue()
        ask = Ask(user, "", document)
        mine = self.own(ask).get(kind)
        if mine:
            return "has-one" if self.serves(mine) else "quarantined"
        if kind == "document" and not self.allocated(document):
            return "not-allocated"
        if self.occupied(kind) >= self.limit(kind) or self.has_room(kind, ask):
            return "full"
        self._bury(kind, ask)
        self._note("granted", id=new_id, kind=kind, ask=ask, by="administrator")
        return "done"

    def remove(self, kind: str, user: str, document: str) -> tuple[str, int] | str:
        """Never used: gone at once. Used: quarantined until last use + quarantine, or gone at once if that is past."""
        cal = self.own(Ask(user, "", document)).get(kind)
        if cal is None:
            return "has-none"
        if not self.serves(cal):
            return "quarantined"
        ends = self.now if cal.pending or cal.used is None else cal.used + self.terms[kind]["quarantine"]
        if ends <= self.now:
            self._note("over", id=cal.id)
            return "done", 0
        self._note("removed", id=cal.id)
        return "done", ends

    def undo(self, kind: str, user: str, document: str) -> str:
        """Until the quarantine is over the removal can be undone."""
        cal = self.own(Ask(user, "", document)).get(kind)
        if cal is None:
            return "has-none"
        if self.serves(cal):
            return "not-removed"
        self._note("undone", id=cal.id)
        return "done"

    def allocate(self, document: str, cals: int) -> str:
        """The sum over documents may not exceed the limit."""
        allocations = {name: cals for name, cals in self.settings().items() if name.startswith("allocated:")}
        others = sum(cals or 0 for name, cals in allocations.items() if name != f"allocated:{document}")
        if others + cals > self.limit("document"):
            return "too-many"
        self._note("set", name=f"allocated:{document}", value=cals or None)
        return "done"

    def set_limit(self, kind: str, limit: int | None) -> str:
        """May be lowered and raised up to what was bought; lowering takes nothing away."""
        if limit is not None and limit > self.terms[kind]["in_license"]:
            return "too-many"
        self._note("set", name=f"limit:{kind}", value=limit)
        return "done"

    def set_dynamic(self, kind: str, document: str, on: bool | None) -> str:
        self._note("set", name=f"dynamic:{kind}" + (f":{document}" if document else ""), value=on)
        return "done"

    def end(self, user: str, client: str, *, force: bool) -> str:
        """Ends a Session CAL: the minimum still counts, unless forced."""
        cal = self.own(Ask(user, client, "")).get("session")
        if cal is None:
            return "has-none"
        if force:
            self._note("over", id=cal.id)
        else:
            self._sign_out(cal)
        return "done"

    # ------------------------------------------------------------ helpers

    def _out(self, cal_id: str) -> Cal | None:
        return next((cal for cal in self.cals() if cal.id == cal_id), None)

    def _newest_of(self, cal: Cal) -> str:
        """The last CAL of the same field: an older Usage CAL's hour is over, whatever became of it."""
        return [other.id for other in self.cals() if other.field == cal.field][-1]


def _tell(cals: dict[str, Cal], event: Event) -> None:  # noqa: C901 - a line an event
    """What one event does to the CALs."""
    facts = event.facts
    if event.what == "granted":
        ask, by = facts["ask"], facts["by"]
        assigned = by == "administrator"
        cals[facts["id"]] = Cal(
            *(facts["id"], facts["kind"], ask.user, ask.client, ask.document, ask.groups, event.at, by),
            pending=[] if assigned else [ask.reference],
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
            if cal.pending and facts["reference"] not in cal.pending:
                cal.pending.append(facts["reference"])
        case "touched":
            cal.used = facts["used"]
        case "kept":
            cal.pending = []
        case "answered":
            cal.pending = [reference for reference in cal.pending if reference != facts["reference"]]
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


def _of_group(group: str, taken: Sequence[Cal | Ask]) -> int:
    return len([one for one in taken if group in one.groups])


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
