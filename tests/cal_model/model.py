"""The rules of CALs, put as plainly as can be: the history of a license is a list of events, and everything else, who
holds what, how full a pool is, who is next in the queue, is worked out anew from that list whenever it has grown.

Nothing is counted along the way, so this can be read beside the rules and compared with them line by line. It knows
nothing of Redis. Times are milliseconds; a CAL whose time is over is simply not there.
"""

from typing import Any

from cal_model.events import HOUR, Cal, Choice, Claim, Event
from cal_model.rules import Rules


class Model(Rules):
    """One license through its history. Every method is something that somebody does, and adds events."""

    def _note(self, what: str, *, recorded: bool = True, **facts: Any) -> None:
        self.events.append(Event(self.now, what, facts, recorded))

    # ------------------------------------------------------------ the queue

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

    def _leave(self, holder: str, *, recorded: bool) -> None:
        if self.waiter(holder):
            self._note("left-queue", holder=holder, recorded=recorded)

    # ------------------------------------------------------------ what happens

    def claim(self, ask: Claim, new_id: str) -> tuple[Any, ...]:
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
        return "granted", cal.kind, cal.id, cal.pending is not None, good_for

    def _use(self, cal: Cal, ask: Claim, *, take_over: bool) -> None:
        if take_over:
            self._note("taken-over", id=cal.id, client=cal.client)
        if cal.left is not None:
            self._note("came-back", id=cal.id)
        self._note("used", id=cal.id, client=ask.client, reference=ask.reference, recorded=False)

    def _grant(self, ask: Claim, choice: Choice, new_id: str) -> None:
        if choice.victim:
            self._note("over", id=choice.victim.id)
        assert choice.kind
        self._bury(choice.kind, ask)
        self._note("granted", id=new_id, kind=choice.kind, ask=ask, by="dynamic")

    def _bury(self, kind: str, ask: Claim) -> None:
        """One of the same holder whose time is over is ended in the log before the new one begins."""
        place = Cal("", kind, ask.user, ask.client, ask.document, (), 0, "", []).field
        for cal in self.all_cals():
            if cal.field == place and not cal.over and self.ends(cal) <= self.now:
                self._note("over", id=cal.id)

    def _deny(self, ask: Claim, code: str, why: dict[str, str]) -> tuple[Any, ...]:
        pools = self.pictures(why)
        self._note("denied")
        if not self.terms["queue"] or code != "no-cal":
            return "denied", code, pools, 0, None
        waiter = self.waiter(ask.holder)
        if waiter is None:
            self._note("waits", ask=ask)
        elif not waiter.offer:  # who asks for what his offer does not serve keeps the offer
            self._note("asked", holder=ask.holder, ask=ask, recorded=False)
        return ("denied", code, pools, *self.place(ask.holder))

    def settle(self, cal_id: str, reference: str, *, served: bool | None) -> None:
        """How the request that a provisional CAL was given for ended; None: its answer cannot tell."""
        cal = self._out(cal_id)
        if cal is None or cal.pending is None:
            return
        refused = served is False
        if served:
            self._note("kept", id=cal.id)
        elif set(cal.pending) <= {reference} and (refused or cal.refused):
            self._note("over", id=cal.id)  # taken back as never used
        else:
            self._note("answered", id=cal.id, reference=reference, refused=refused, recorded=False)

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
        if cal.pending is not None:
            self._note("kept", id=cal.id)
        self._note("touched", id=cal.id, used=max(self.now - age, cal.used or 0, cal.granted), recorded=False)
        return None

    def release(self, user: str, client: str) -> None:
        """The user signed out on this client."""
        own = self.own(Claim(user, client, ""))
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
        ask = Claim(user, "", document)
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
        cal = self.own(Claim(user, "", document)).get(kind)
        if cal is None:
            return "has-none"
        if not self.serves(cal):
            return "quarantined"
        ends = self.now if cal.pending is not None or cal.used is None else cal.used + self.terms[kind]["quarantine"]
        if ends <= self.now:
            self._note("over", id=cal.id)
            return "done", 0
        self._note("removed", id=cal.id)
        return "done", ends

    def undo(self, kind: str, user: str, document: str) -> str:
        """Until the quarantine is over the removal can be undone."""
        cal = self.own(Claim(user, "", document)).get(kind)
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
        cal = self.own(Claim(user, client, "")).get("session")
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
