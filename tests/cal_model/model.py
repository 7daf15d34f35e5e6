"""The rules of CALs, written as plainly as possible: the history of a license is a list of events, and everything else
(leases, pools, the next waiter) is worked out from that list again whenever it has grown.

Nothing is counted along the way, so this can be compared with the written rules line by line. It knows nothing of
Redis. Times are milliseconds; a CAL whose time is over is simply not there.
"""

from dataclasses import replace
from typing import Any

from cal_model.events import HOUR, MINUTE, MOST_AHEAD, MOST_OF_ONE_USER, Cal, Choice, Claimant, Event
from cal_model.rules import Rules


class Model(Rules):
    """One license through its history. Every method is something that a user or administrator does; it adds events."""

    def __init__(self, terms: dict[str, Any]) -> None:
        super().__init__(terms)
        self.denied_until: dict[str, int] = {}  # network of anonymous browsers -> when a denial is recorded again
        self.visited: list[tuple[str, str, int, int]] = []  # CAL, client, since, used

    def _note(self, what: str, *, recorded: bool = True, **facts: Any) -> None:
        self.events.append(Event(self.now, what, facts, recorded))

    # ------------------------------------------------------------ the queue

    def tend_queue(self) -> None:
        """Before every decision: drops waiters who stopped polling; offers free CALs to the first who can use them."""
        if not self.terms["queue"]:
            return
        for waiter in self.waiters():
            if waiter.kept_until <= self.now:
                self._note("left-queue", holder=waiter.claimant.holder)
        for waiter in reversed(self.waiters()):  # a limit was lowered: the last to come loses the offer first
            if waiter.offer and self.has_room(waiter.offer, waiter.claimant):
                self._note("offer-revoked", holder=waiter.claimant.holder)
        while self._offer_one():
            pass

    def _offer_one(self) -> bool:
        for waiter in self.waiters():
            choice = self.choose(waiter.claimant) if not waiter.offer else Choice()
            if choice.kind:
                if choice.victim:
                    self._end(choice.victim)
                document = self.cal_document(waiter.claimant.document)
                self._note("offered", holder=waiter.claimant.holder, kind=choice.kind, document=document)
                return True
        return False

    def _leave(self, holder: str) -> None:
        if self.waiter(holder):
            self._note("left-queue", holder=holder)

    # ------------------------------------------------------------ what happens

    def claim(self, claimant: Claimant, new_id: str) -> tuple[Any, ...]:
        """("granted", kind, id, provisional, good for) or ("denied", code, pools, place, estimate)."""
        self.tend_queue()
        held, choice = self.held(claimant), self.choose(claimant)
        if choice.other in ("in-use-elsewhere", "taken-over"):
            denial = self._deny(claimant, choice.other, {"named": choice.other})
            if choice.other == "taken-over":
                assert choice.cal
                self._note("told", id=choice.cal.id, client=claimant.client, recorded=False)
            return denial
        if not choice.cal and not choice.kind:
            if self.terms["enforce"] or claimant.network:
                return self._deny(claimant, "no-cal", choice.why)
            self._note("denied")
            choice = Choice(kind="session", beyond=True)
        if choice.cal:
            self._use(choice.cal, claimant, take_over=choice.other == "take-over")
            served = choice.cal.id
        else:
            self._grant(claimant, choice, new_id)
            served = new_id
        cal = next(cal for cal in self.cals() if cal.id == served)
        if cal.kind == "named" and "session" in held:  # released as after a sign-out
            self._sign_out(held["session"])
        self._leave(claimant.holder)
        good_for = None
        if cal.kind == "session":
            good_for = self.ends(cal) - self.now
        elif cal.kind == "usage":
            good_for = cal.granted + HOUR - self.now
        kind = "unenforced" if cal.beyond and not self.terms["enforce"] else cal.kind
        return "granted", kind, cal.id, cal.pending is not None, good_for

    def _use(self, cal: Cal, claimant: Claimant, *, take_over: bool) -> None:
        if take_over:
            self._note("taken-over", id=cal.id, client=cal.client)
        if cal.left is not None:
            self._note("came-back", id=cal.id)
        self._end_old_visit(cal, claimant.client, self.now)
        self._note("used", id=cal.id, client=claimant.client, reference=claimant.reference, recorded=False)

    def _grant(self, claimant: Claimant, choice: Choice, new_id: str) -> None:
        if choice.victim:
            self._end(choice.victim)
        assert choice.kind
        if choice.kind == "document":
            claimant = replace(claimant, document=self.cal_document(claimant.document))
        self._expire(choice.kind, claimant)
        self._note("granted", id=new_id, kind=choice.kind, claimant=claimant, by="dynamic", beyond=choice.beyond)

    def _expire(self, kind: str, claimant: Claimant) -> None:
        """Records the end of the holder's CAL whose time is over, before the new one begins.

        An older Usage CAL whose hour is over has no part in this: its 28 days run on.
        """
        field = Cal("", kind, claimant.user, claimant.client, claimant.document, (), 0, "", []).field
        same = [cal for cal in self.all_cals() if cal.field == field]
        if same and not same[-1].over and self.ends(same[-1]) <= self.now:
            self._end(same[-1])

    def _deny(self, claimant: Claimant, code: str, why: dict[str, str]) -> tuple[Any, ...]:
        pools, waiter = self.snapshots(why), self.waiter(claimant.holder)
        waits = self.terms["queue"] and code == "no-cal" and not claimant.network
        is_poll = waits and waiter and claimant.document in waiter.asked  # a waiting page's, which is no further denial
        if not is_poll and not self._is_recorded(claimant.network):
            self._note("denied")
        if not waits:
            return "denied", code, pools, 0, None
        if waiter is None:
            if len([other for other in self.waiters() if other.claimant.user == claimant.user]) >= MOST_OF_ONE_USER:
                return "denied", code, pools, 0, None
            self._note("waits", claimant=claimant)
        else:
            self._note("polled", claimant=claimant, recorded=False)
        return ("denied", code, pools, *self.place(claimant.holder))

    def _is_recorded(self, network: str) -> bool:
        """Of the denials of anonymous browsers in one network, one a minute is recorded."""
        if not network or self.denied_until.get(network, 0) > self.now:
            return bool(network)
        self.denied_until[network] = self.now + MINUTE
        return False

    def settle(self, cal_id: str, reference: str, *, served: bool | None) -> None:
        """Reports how the request ended that a provisional CAL was granted for; None: inconclusive."""
        cal = self._out(cal_id)
        if cal is None or cal.pending is None:
            return
        refused = served is False
        if served:
            self._note("kept", id=cal.id)
        elif set(cal.pending) <= {reference} and (refused or cal.refused):
            self._end(cal)  # taken back as never used
        else:
            self._note("answered", id=cal.id, reference=reference, refused=refused, recorded=False)

    def touch(self, cal_id: str, client: str, age: int) -> str | None:
        """Notes a use so long ago; returns why the CAL is lost."""
        cal = self._out(cal_id)
        if cal is None or self._newest_of(cal) != cal.id:
            return "ended"
        if not self.serves(cal):
            return "hour-over" if cal.kind == "usage" else "removed"
        if cal.left is not None:
            return "signed-out"
        if cal.kind == "named" and client in cal.told:
            return "taken-over"
        used = max(self.now - age, cal.used or 0, cal.granted)
        self._end_old_visit(cal, client, used)
        if cal.pending is not None:
            self._note("kept", id=cal.id)
        self._note("touched", id=cal.id, client=client, used=used, recorded=False)
        return None

    def release(self, user: str, client: str) -> None:
        """Signs a user out on this client."""
        held = self.held(Claimant(user, client, ""))
        for cal in self.cals():
            if cal.user == user and cal.kind in ("named", "document"):
                self._end_visits(cal, client)
        if "session" in held:
            self._sign_out(held["session"])
        if "named" in held and held["named"].client == client:
            self._note("unused", id=held["named"].id, recorded=False)
        self._leave(f"{user}|{client}")

    def _sign_out(self, cal: Cal) -> None:
        if cal.left is None:
            self._note("signed-out", id=cal.id)
            if not self._out(cal.id):
                self._end(cal)

    def _sign_out_everywhere(self, user: str) -> None:
        for cal in self.cals():
            if cal.kind == "session" and cal.user == user:
                self._sign_out(cal)

    def _end(self, cal: Cal) -> None:
        if cal.pending is None:
            self._end_visits(cal)
        self._note("over", id=cal.id)

    # ------------------------------------------------------------ visits of Named and Document CALs

    def _end_old_visit(self, cal: Cal, client: str, used: int) -> None:
        """A use after the idle timeout begins another visit."""
        visit = cal.visits.get(client)
        if visit and used >= visit.used + self.terms["session"]["idle_timeout"]:
            self._end_visits(cal, client)

    def _end_visits(self, cal: Cal, client: str | None = None) -> None:
        """Those of one client, or all."""
        for visitor, visit in list(cal.visits.items()):
            if client in (None, visitor):
                self.visited.append((cal.id, visitor, visit.since, visit.used))
                self._note("visited", id=cal.id, client=visitor)

    def tend(self) -> None:
        """Ends what is due. Nothing depends on when this happens, because what is out is counted each time."""
        corrected = [cal for cal in self.all_cals() if not cal.over and (cal.used or 0) > self.now + MOST_AHEAD]
        for cal in corrected:
            self._note("corrected", id=cal.id, recorded=False)
        if corrected:
            self._note("times-corrected")
        for cal in self.all_cals():
            if not cal.over and self.ends(cal) <= self.now:
                self._end(cal)
        self.denied_until = {network: until for network, until in self.denied_until.items() if until > self.now}
        self.tend_queue()

    # ------------------------------------------------------------ administrators

    def assign(self, kind: str, user: str, document: str, new_id: str) -> str:
        """Assigns a Named or Document CAL to a user, never beyond the limit."""
        self.tend_queue()
        claimant = Claimant(user, "", document)
        mine = self._assigned(kind, user, document)
        if mine:
            return "has-one" if self.serves(mine) else "quarantined"
        if kind == "document" and not self.allocated(document):
            return "not-allocated"
        if self.occupied(kind) >= self.limit(kind) or self.has_room(kind, claimant):
            return "full"
        self._expire(kind, claimant)
        self._note("granted", id=new_id, kind=kind, claimant=claimant, by="administrator")
        if kind == "named":
            self._sign_out_everywhere(user)
        return "done"

    def remove(self, kind: str, user: str, document: str) -> tuple[str, int] | str:
        """Removes a CAL: free at once if never used; else quarantined until last use + quarantine."""
        cal = self._assigned(kind, user, document)
        if cal is None:
            return "has-none"
        if not self.serves(cal):
            return "quarantined"
        ends = self.now if cal.pending is not None or cal.used is None else cal.used + self.terms[kind]["quarantine"]
        if ends <= self.now:
            self._end(cal)
            return "done", 0
        self._end_visits(cal)
        self._note("removed", id=cal.id)
        return "done", ends

    def undo(self, kind: str, user: str, document: str) -> str:
        """Takes a removal back while the quarantine lasts."""
        cal = self._assigned(kind, user, document)
        if cal is None:
            return "has-none"
        if self.serves(cal):
            return "not-removed"
        self._note("undone", id=cal.id)
        if kind == "named":
            self._sign_out_everywhere(user)
        return "done"

    def allocate(self, document: str, cals: int) -> str:
        """Allocates CALs to a document; the sum over documents cannot exceed the limit."""
        allocations = {name: cals for name, cals in self.settings().items() if name.startswith("allocated:")}
        others = sum(cals or 0 for name, cals in allocations.items() if name != f"allocated:{document}")
        if others + cals > self.limit("document"):
            return "too-many"
        self._note("set", name=f"allocated:{document}", value=cals or None)
        return "done"

    def set_limit(self, kind: str, limit: int | None) -> str:
        """Lowers a limit or raises it, up to the number bought; lowering takes nothing away."""
        if limit is not None and limit > self.terms[kind]["in_license"]:
            return "too-many"
        self._note("set", name=f"limit:{kind}", value=limit)
        return "done"

    def set_dynamic(self, kind: str, document: str, on: bool | None) -> str:
        self._note("set", name=f"dynamic:{kind}" + (f":{document}" if document else ""), value=on)
        return "done"

    def end(self, user: str, client: str, *, force: bool) -> str:
        """Ends a Session CAL: the minimum still counts, unless forced."""
        cal = self.held(Claimant(user, client, "")).get("session")
        if cal is None:
            return "has-none"
        if force:
            self._end(cal)
        else:
            self._sign_out(cal)
        return "done"

    def dismiss(self, user: str, client: str) -> str:
        """Takes a waiter and any offer out of the queue; a page that is still open joins again at the end."""
        holder = f"{user}|{client}"
        if self.waiter(holder) is None:
            return "has-none"
        self._leave(holder)
        return "done"

    # ------------------------------------------------------------ helpers

    def _assigned(self, kind: str, user: str, document: str) -> Cal | None:
        """Returns a user's CAL of exactly this name: administrators mean the name that they write."""
        mine = [cal for cal in self.cals() if cal.kind == kind and cal.user == user]
        return next((cal for cal in mine if kind == "named" or cal.document == document), None)

    def _out(self, cal_id: str) -> Cal | None:
        return next((cal for cal in self.cals() if cal.id == cal_id), None)

    def _newest_of(self, cal: Cal) -> str:
        """Returns the id of the last CAL of the same field: the hour of an older Usage CAL is over."""
        return [other.id for other in self.all_cals() if other.field == cal.field][-1]
