"""What holds at a moment: leases, pools, which CAL serves which claim, the next waiter. Changes nothing."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from cal_model.events import (
    DAY,
    FOREVER,
    HOUR,
    KINDS,
    MOST_AHEAD,
    PROVISIONAL,
    Cal,
    Choice,
    Claimant,
    Event,
    Waiter,
    cals_of,
    waiters_of,
)

Found = TypeVar("Found")


def cached(look: Callable[["Rules"], Found]) -> Callable[["Rules"], Found]:
    """Caches a method whose result depends on the events alone, until there is another event."""
    name = look.__name__

    def looked(rules: "Rules") -> Found:
        events, found = rules.found.get(name, (-1, None))
        if events != len(rules.events):
            found = look(rules)
            rules.found[name] = (len(rules.events), found)
        return cast(Found, found)

    return looked


class Rules:
    """One license with its terms, as the settings file has them (times in milliseconds)."""

    def __init__(self, terms: dict[str, Any]) -> None:
        self.terms = terms
        self.events: list[Event] = []
        self.found: dict[str, tuple[int, Any]] = {}
        self._clock = 0

    # ------------------------------------------------------------ time

    @property
    def now(self) -> int:
        """A server's clock can be a little behind the newest record after a failover: then time stands still."""
        newest = self._newest()
        return newest if 0 < newest - self._clock <= MOST_AHEAD else self._clock

    @cached
    def _newest(self) -> int:
        return max((event.at for event in self.events if event.recorded), default=0)

    def at(self, clock: int) -> None:
        """Sets the server's clock."""
        self._clock = clock

    # ------------------------------------------------------------ what is in use

    @cached
    def all_cals(self) -> list[Cal]:
        """Returns every CAL that was ever granted, in its present state."""
        return cals_of(self.events)

    def cals(self) -> list[Cal]:
        """Returns the CALs in use: neither ended nor past their time."""
        now = self.now
        return [cal for cal in self.all_cals() if not cal.over and self.ends(cal) > now]

    def ends(self, cal: Cal) -> int:
        """Returns when a CAL comes back by itself if it is not used again."""
        terms = self.terms[cal.kind]
        ends: int
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
        return min(ends, cal.granted + PROVISIONAL) if cal.pending is not None else ends

    def _returned_at(self, cal: Cal) -> int:
        """Returns when a dynamically assigned Named CAL is returned because it was unused."""
        after: int | None = self.terms[cal.kind].get("return_after")
        return cal.used + after if cal.used is not None and cal.by == "dynamic" and after else FOREVER

    def serves(self, cal: Cal) -> bool:
        """A quarantined CAL is occupied and does not serve its former owner; a Usage CAL serves for an hour."""
        if cal.kind == "usage":
            return self.now < cal.granted + HOUR
        if cal.kind == "session":
            return True
        return cal.removed is None and self.now < self._returned_at(cal)

    def occupied(self, kind: str) -> int:
        return len(self._occupying(kind))

    def _occupying(self, kind: str) -> list[Cal]:
        """In observe mode leases beyond the limit decide nothing."""
        return [cal for cal in self.cals() if cal.kind == kind and (self.terms["enforce"] or not cal.beyond)]

    def beyond(self, kind: str) -> int:
        return len([cal for cal in self.cals() if cal.kind == kind]) - self.occupied(kind)

    # ------------------------------------------------------------ which document

    def cal_document(self, document: str) -> str:
        """The name of a Document CAL: `host|document` where an administrator named it so, else the document's own."""
        is_named = self._set(f"allocated:{document}") or self._set(f"dynamic:document:{document}") is not None
        return document if is_named else document.rpartition("|")[2]

    def _other_document(self, document: str) -> str | None:
        host, _, plain = document.rpartition("|")
        return None if not host else plain if self.cal_document(document) == document else document

    # ------------------------------------------------------------ what an administrator set

    @cached
    def settings(self) -> dict[str, Any]:
        """Returns the last value of each setting; None, or none at all: the settings file's."""
        return {event.facts["name"]: event.facts["value"] for event in self.events if event.what == "set"}

    def _set(self, name: str) -> Any:
        return self.settings().get(name)

    def limit(self, kind: str) -> int:
        return int(min(_or(self._set(f"limit:{kind}"), self.terms[kind]["limit"]), self.terms[kind]["in_license"]))

    def allocated(self, document: str) -> int:
        return int(self._set(f"allocated:{document}") or 0)

    def is_dynamic(self, kind: str, claimant: Claimant) -> bool:
        """Returns whether a new CAL of this kind is assigned to the claimant without an administrator."""
        on = self._set(f"dynamic:{kind}")
        if kind == "document":
            on = _or(self._set(f"dynamic:document:{self.cal_document(claimant.document)}"), on)
        wanted = self.terms[kind].get("dynamic_for")
        is_wanted = wanted is None or bool(set(wanted) & set(claimant.groups))
        return bool(_or(on, self.terms[kind]["dynamic"])) and is_wanted

    # ------------------------------------------------------------ the order of consumption

    def held(self, claimant: Claimant) -> dict[str, Cal]:
        """Returns what the claimant holds, by kind."""
        held = {}
        newest = {cal.field: cal.id for cal in self.all_cals()}
        for cal in self.cals():
            if cal.kind == "usage" and newest[cal.field] != cal.id:
                continue  # spent, even if the newer one is gone
            right_client = cal.kind != "session" or cal.client == claimant.client
            right_document = cal.kind != "usage" or cal.document == claimant.document
            if cal.user == claimant.user and right_client and right_document and cal.kind != "document":
                held[cal.kind] = cal
        for name in (self._other_document(claimant.document), self.cal_document(claimant.document)):
            for cal in self.cals():
                if cal.user == claimant.user and cal.kind == "document" and cal.document == name:
                    held["document"] = cal
        return held

    def choose(self, claimant: Claimant) -> Choice:
        """Decides what serves a claim."""
        held, why = self.held(claimant), dict[str, str]()
        choose = self._choose_anonymous if claimant.network else self._choose_for_user
        return choose(claimant, held, why)

    def _choose_for_user(self, claimant: Claimant, held: dict[str, Cal], why: dict[str, str]) -> Choice:
        """Follows QlikView's order; an idle holder loses a CAL only to a claimant who would be denied."""
        for kind in ("named", "document"):  # 1, 2: their own
            if kind in held and self.serves(held[kind]):
                other = self._other_client(held[kind], claimant) if kind == "named" else None
                return Choice(cal=held[kind], other=other)
        for kind in ("named", "document"):  # 3, 4: a new one, permanently
            if self._may_have(kind, claimant, held, why):
                return Choice(kind=kind)
        for kind in ("session", "usage"):  # 5, 6: the one held, else a new one
            if kind in held and self.serves(held[kind]):
                return Choice(cal=held[kind])
            if self._may_have(kind, claimant, held, why):
                return Choice(kind=kind)
        for idle in self._reclaimable():
            if self.has_room("session", claimant, without=idle) == "":
                return Choice(kind="session", victim=idle)
        return Choice(why=why)  # 7: denied

    def _choose_anonymous(self, claimant: Claimant, held: dict[str, Cal], why: dict[str, str]) -> Choice:
        """Gives a browser that did not sign in a Session CAL, and never one that a user left idle."""
        if "session" in held:
            return Choice(cal=held["session"])
        return Choice(kind="session") if self._may_have("session", claimant, held, why) else Choice(why=why)

    def anonymous(self) -> list[Cal]:
        """Returns the CALs of anonymous browsers."""
        return [cal for cal in self.cals() if cal.network]

    def _anonymous_bound(self, network: str) -> str:
        """Returns why one more anonymous browser of this network gets none, "" if it can have one."""
        bound = self.terms.get("anonymous", {"max": 0, "per_address": 0})
        networks = [cal.network for cal in self.anonymous()]
        if len(networks) >= bound["max"]:
            return "anonymous-full"
        return "address-full" if networks.count(network) >= bound["per_address"] else ""

    def _may_have(self, kind: str, claimant: Claimant, held: dict[str, Cal], why: dict[str, str]) -> bool:
        """Returns whether the claimant can take a new CAL of this kind; else `why` gets a code."""
        if self.terms[kind]["in_license"] == 0:
            return False
        if kind in ("named", "document"):
            if kind in held:
                why[kind] = "quarantined"
            elif kind == "document" and not self.allocated(self.cal_document(claimant.document)):
                why[kind] = "not-allocated"
            elif not self.is_dynamic(kind, claimant):
                why[kind] = "not-assigned"
            if kind in why:
                return False
        word = self.has_room(kind, claimant)
        if word:
            why[kind] = word
        return not word

    def has_room(self, kind: str, claimant: Claimant, without: Cal | None = None) -> str:
        """Empty if one more can be given to the claimant, else the reason. Offers to others count as occupied."""
        most = self.limit(kind) if claimant.network else self.most(kind)
        out = [cal for cal in self._occupying(kind) if without is None or cal.id != without.id]
        offers = [w for w in self.waiters() if w.offer == kind and w.claimant.holder != claimant.holder]
        if len(out) >= most:
            return "full"
        if claimant.network and (bound := self._anonymous_bound(claimant.network)):
            return bound
        if kind == "document":
            document = self.cal_document(claimant.document)
            taken = [cal.document for cal in out] + [waiter.offer_document for waiter in offers]
            if taken.count(document) >= self.allocated(document):
                return "full"
        if kind == "session":
            groups = [cal.groups for cal in out] + [waiter.claimant.groups for waiter in offers]
            for cap in self.terms[kind]["max"]:
                if cap["group"] in claimant.groups and _of_group(cap["group"], groups) >= cap["cals"]:
                    return "capped"
            kept = sum(
                max(0, reserve["cals"] - _of_group(reserve["group"], groups))
                for reserve in self.terms[kind]["reserve"]
                if reserve["group"] not in claimant.groups
            )
            if len(out) + len(offers) < most <= len(out) + len(offers) + kept:
                return "reserved"
        return "promised" if len(out) + len(offers) >= most else ""

    def most(self, kind: str) -> int:
        """How many can be occupied, overdraft included."""
        return self.limit(kind) + int(self.terms[kind].get("overdraft", 0))

    def excess(self, kind: str) -> int:
        """How many must come back before one is free."""
        return max(0, self.occupied(kind) - self.most(kind))

    def _reclaimable(self) -> list[Cal]:
        """Returns Session CALs idle so long that they can be taken, past their minimum, least recently used first."""
        terms, now = self.terms["session"], self.now
        if "reclaimable_after" not in terms or self.limit("session") == 0:
            return []
        idle = [
            cal
            for cal in self._occupying("session")
            if cal.used is not None
            and (cal.used or 0) + terms["reclaimable_after"] <= now
            and cal.granted + terms["minimum"] <= now
        ]
        return sorted(idle, key=lambda cal: (cal.used, cal.field))

    def _other_client(self, cal: Cal, claimant: Claimant) -> str | None:
        """Decides about a second machine of a user: allow, take over (the first is denied once), refuse."""
        policy = self.terms["named"]["other_client"]
        if policy == "allow":
            return None
        if claimant.client in cal.told:
            return "taken-over"
        idle = self.terms["session"]["idle_timeout"]
        if cal.client in ("", claimant.client) or cal.used is None or cal.used + idle <= self.now:
            return None
        return "in-use-elsewhere" if policy == "refuse" else "take-over"

    # ------------------------------------------------------------ how full it is, for the denial page

    def snapshots(self, why: dict[str, str]) -> list[dict[str, Any]]:
        """Returns the state of each pool that has CALs."""
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
        """When one comes free; more than the limit can be out, and these have to come back first."""
        times = sorted(ends for cal in self.cals() if cal.kind == kind and (ends := self.ends(cal)) < FOREVER)
        times = times[self.excess(kind) :] if self.most(kind) else []
        sessions = [cal for cal in self.cals() if cal.kind == "session"]
        terms = self.terms["session"]
        can_reclaim = sessions and "reclaimable_after" in terms and self.most(kind) and not self.excess(kind)
        if kind == "session" and can_reclaim:
            first = min(sessions, key=lambda cal: (cal.used, cal.field))
            ripe = max(first.granted + terms["minimum"], (first.used or 0) + terms["reclaimable_after"])
            times.append(max(ripe, self.now))
        return min(times, default=None)

    # ------------------------------------------------------------ the queue

    @cached
    def waiters(self) -> list[Waiter]:
        """Returns the waiters, first come first."""
        return waiters_of(self.events)

    def waiter(self, holder: str) -> Waiter | None:
        return next((waiter for waiter in self.waiters() if waiter.claimant.holder == holder), None)

    def place(self, holder: str) -> tuple[int, int | None]:
        """Returns the position from 1, and when a CAL comes free for it as far as the occupied CALs' clocks tell."""
        place = next(n for n, waiter in enumerate(self.waiters(), 1) if waiter.claimant.holder == holder)
        soonest = FOREVER
        for kind in KINDS:
            times = sorted(ends for cal in self.cals() if cal.kind == kind and (ends := self.ends(cal)) < FOREVER)
            index = place - 1 + self.excess(kind)
            soonest = min(soonest, times[index] if index < len(times) else FOREVER)
        return place, None if soonest >= FOREVER else soonest


def _of_group(group: str, taken: Sequence[Sequence[str]]) -> int:
    return len([groups for groups in taken if group in groups])


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
