"""Plays the same history on the model and on the functions in Redis, which must agree after every step."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from redis import Redis

from cal_model.events import DAY, FOREVER, HOUR, KINDS, MINUTE, Cal, Claimant, Event
from cal_model.model import Model
from calgate_cal import lua
from calgate_cal.audit import decode, replay
from calgate_cal.terms import PROVISIONAL

CLOCK = "local test_time = 0\nlocal function clock() return test_time end"
GROUPS = {"ann": ("A",), "bob": ("B",), "cid": ("A", "B"), "dan": ()}
NETWORKS = {"visitor1": "n1", "visitor2": "n1", "visitor3": "n2"}  # anonymous browsers, in no group
SOMEBODY = ["ann", "pc", "d1"]
START = 1_768_039_200_000

Operation = tuple[Any, ...]


class DisagreementError(AssertionError):
    """The store differs from the rules, or its log from the store."""


def agree(after: Operation | str, what: str, *, store: object, rules: object) -> None:
    """Raises DisagreementError unless the two are equal."""
    if store != rules:
        raise DisagreementError(f"{after}: the store has the {what} {store}, the rules {rules}")


def terms(**kinds: dict[str, Any]) -> dict[str, Any]:
    """Makes terms as the store has them: a few CALs of every kind, except for what is given."""
    pool = {"in_license": 2, "limit": 2}
    whole: dict[str, Any] = {
        "named": pool | {"dynamic": False, "quarantine": 7 * DAY, "other_client": "allow", "overdraft": 0},
        "document": pool | {"dynamic": False, "quarantine": DAY},
        "session": pool
        | {"minimum": 15 * MINUTE, "idle_timeout": 30 * MINUTE, "reclaimable_after": 20 * MINUTE}
        | {"overdraft": 0, "reserve": [], "max": []},
        "usage": {"in_license": 1, "limit": 1, "overdraft": 0},
    }
    for kind in KINDS:
        whole[kind] |= kinds.get(kind, {})
    whole["session"]["shared"] = bool(whole["session"]["reserve"] or whole["session"]["max"])
    enforce = bool(kinds.get("enforce", True))
    rest: dict[str, Any] = {"anonymous": kinds["anonymous"]} if "anonymous" in kinds else {}
    rest |= {"channel": "test:news", "audit_keep": 400 * DAY, "provisional": int(PROVISIONAL * 1000)}
    return whole | rest | {"enforce": enforce, "queue": enforce and bool(kinds.get("queue"))}


class Library:
    """The functions on a server, with the test's clock; a fault can be planted by replacing text."""

    def __init__(self, redis: Redis, fault: tuple[str, str] | None = None) -> None:
        self.redis = redis
        source = (
            lua.source(clock=CLOCK) + "\n" + (Path(__file__).parents[1] / "calgate_cal" / "history.lua").read_text()
        )
        if fault:
            assert source.count(fault[0]) == 1, f"{fault[0]!r} is not in the library just once"
            source = source.replace(*fault)
        redis.function_load(source, replace=True)

    def call(self, function: str, keys: Sequence[str], *args: str) -> Any:
        """Calls one function of the library."""
        return self.redis.execute_command("FCALL", f"{lua.VERSION}_{function}", len(keys), *keys, *args)


class Duel:
    """One license. An operation is (what, milliseconds that pass before it, …).

    An earlier claim is named by how many claims back it is; 0 means none.

    "claim": user, client, document, and the claim whose lease the gateway believes to hold
    "again": the claim that is made again; as with "claim"
    "settle": claim, served (None: inconclusive) · "touch": claim, age · "tend"
    "release": claim of the user and client
    "assign": kind, user, document · "remove", "undo": kind, claim of the user · "allocate": document, CALs
    "limit": kind, limit or None · "dynamic": kind, document or "", on or None · "finish": claim of the user, forced
    "dismiss": claim of the user and client
    """

    steps = 0  # of all duels together

    def __init__(self, library: Library, terms: dict[str, Any], name: str = "duel") -> None:
        self.keys = lua.keys("test", name)
        self.model = Model(terms)
        self._library = library
        self._time = START
        self._number = 0
        self._claims: dict[int, list[str]] = {}  # number of a claim -> user, client, document
        self._got: dict[
            int, tuple[str, Claimant]
        ] = {}  # number of a claim -> the model's id of its CAL, and the claimant
        self._ids: dict[str, str] = {}  # the store's ids -> the model's
        library.call("forget", self.keys)
        library.call("configure", self.keys, "test", json.dumps(terms))

    def back_to(self, user: str, *, client: str | None = None, document: str | None = None) -> int:
        """Returns how many claims back a user's last claim is (from a client, for a document); 0: none."""
        for back, claim in enumerate(reversed(self._claims.values()), 1):
            if claim[0] == user and client in (None, claim[1]) and document in (None, claim[2]):
                return back
        return 0

    def close(self) -> None:
        """Checks that the log alone says what is in use and what was set; then empties the store."""
        self.play([("tend", 0)])
        log: Any = self._library.redis.xrange(self.keys[lua.KEY_NAMES.index("audit")])
        logged = replay(decode(entry, facts) for entry, facts in log)
        visits = [facts for _, facts in log if facts[b"what"] == b"visited"]
        visited = [self._visited(facts) for facts in visits]
        agree("at the end", "logged visits", store=sorted(visited), rules=sorted(self.model.visited))
        out = {self._ids.get(lease, lease) for lease in logged.out}
        agree("at the end", "logged CALs", store=out, rules={cal.id for cal in self.model.cals()})
        state: Any = self._library.redis.hgetall(self.keys[0])
        set_ = {name.decode(): value.decode() for name, value in state.items() if name != b"terms"}
        if logged.settings != set_:
            raise DisagreementError(f"the log says that {logged.settings} was set, the store has {set_}")
        self._library.call("forget", self.keys)

    def _visited(self, facts: dict[bytes, bytes]) -> tuple[str, str, int, int]:
        client, since, used = (facts[name].decode() for name in (b"client", b"since", b"used"))
        return self._ids[facts[b"lease"].decode()], client, int(since), int(used)

    def play(self, operations: Sequence[Operation]) -> None:
        """Raises DisagreementError at the first step on which the two differ."""
        operations = [self._resolved(number, op) for number, op in enumerate(operations, self._number + 1)]
        script = [self._written(number, *op) for number, op in enumerate(operations, self._number + 1)]
        times = []
        for line in script:
            self._time += line[0]
            line[0] = self._time
            times.append(self._time)
        replies = self._library.call("history", self.keys, json.dumps(script))
        for time, operation, (reply, state, holders, queue) in zip(times, operations, replies, strict=True):
            Duel.steps += 1
            self._number += 1
            self.model.at(time)
            theirs = [json.loads(text) for text in holders[1:]]
            for it in theirs:
                self._ids.setdefault(it["id"], f"n{self._number}")
            before = len(self.model.events)
            mine = self._act(*operation)
            said = self._read(operation[0], reply)
            agree(operation, "reply", store=said, rules=mine)
            self._compare(operation, state, theirs, [json.loads(text) for text in queue])
            self._never(operation, self.model.events[before:])

    # ------------------------------------------------------------ the same operation, for the store and for the model

    def _resolved(self, number: int, operation: Operation) -> Operation:
        """Returns the operation with each "claims back" replaced by that claim's number, or its user and client."""
        what, passes, *words = operation
        match what:
            case "claim":
                words[3] = self._back(words[3])
                self._claims[number] = words[:3]
            case "again":
                what, words = "claim", [*self._claims.get(self._back(words[0]), SOMEBODY), self._back(words[1])]
                self._claims[number] = words[:3]
            case "settle" | "touch":
                words[0] = self._back(words[0])
            case "release" | "finish" | "dismiss":
                user, client, _ = self._claims.get(self._back(words[0]), SOMEBODY)
                words[:1] = user, client
            case "remove" | "undo":
                user, _, document = self._claims.get(self._back(words[1]), SOMEBODY)
                words[1:] = user, document if words[0] == "document" else ""
        return what, passes, *words

    def _back(self, claims: int) -> int:
        """Returns the number of the claim that many claims back; 0: none."""
        return list(self._claims)[-claims] if 0 < claims <= len(self._claims) else 0

    def _written(self, number: int, what: str, passes: int, *words: Any) -> list[Any]:
        """Returns the operation as history.lua reads it."""
        if what == "claim":
            user, client, document, held = words
            groups = "\n".join(GROUPS.get(user, ()))
            return [passes, what, user, client, document, groups, str(number), held, NETWORKS.get(user, "")]
        if what in ("assign", "remove", "undo", "allocate", "limit", "dynamic", "finish", "dismiss"):
            by = [passes, what, "test"]
            if what == "assign":
                kind, user, document = words
                return [*by, kind, user, f"CORP\\{user}", document]
            if what == "dynamic":
                words = (words[0], words[2], words[1])
            return [
                *by,
                *("" if word is None else str(int(word)) if isinstance(word, bool) else str(word) for word in words),
            ]
        if what == "settle":
            return [passes, what, words[0], "" if words[1] is None else str(int(words[1]))]
        return [passes, what, *words]

    def _act(self, what: str, _: int, *words: Any) -> Any:
        """Carries out the operation by the rules."""
        acts: dict[str, Callable[..., Any]]
        acts = {"claim": self._claim, "settle": self._settle, "touch": self._touch, "assign": self._assign}
        act = acts.get(what)
        if act is not None:
            return act(*words)
        if what == "finish":
            return self.model.end(*words[:2], force=words[2])
        return getattr(self.model, {"limit": "set_limit", "dynamic": "set_dynamic"}.get(what, what))(*words)

    def _claim(self, user: str, client: str, document: str, _held: int) -> Any:
        groups, network = GROUPS.get(user, ()), NETWORKS.get(user, "")
        claimant = Claimant(user, client, document, groups, str(self._number), network)
        reply = self.model.claim(claimant, f"n{self._number}")
        if reply[0] == "granted":
            self._got[self._number] = (reply[2], claimant)
        return reply

    def _settle(self, number: int, served: bool | None) -> str:
        if number not in self._got:
            return "nothing"
        cal, claimant = self._got[number]
        self.model.settle(cal, claimant.reference, served=served)
        return "done"

    def _touch(self, number: int, age: int) -> str:
        if number not in self._got:
            return "nothing"
        cal, claimant = self._got[number]
        return self.model.touch(cal, claimant.client, age) or "kept"

    def _assign(self, kind: str, user: str, document: str) -> str:
        return self.model.assign(kind, user, document, f"n{self._number}")

    def _read(self, what: str, reply: Any) -> Any:
        """Translates a reply of the store into the model's."""
        said = _text(reply)
        if what in ("release", "tend"):
            return None
        if what == "claim" and said[0] == "granted":
            _, kind, lease, provisional, good_for, *_ = said
            return "granted", kind, self._ids[lease], bool(provisional), _number(good_for)
        if what == "claim":
            _, code, pools, place, estimate, _is_poll = said
            snapshots = [{"free_at": None, **picture} for picture in json.loads(pools)]
            return "denied", code, snapshots, place, _number(estimate)
        if what == "remove" and said[0] == "done":
            return tuple(said)
        return said if isinstance(said, str) else said[0]

    # ------------------------------------------------------------ everything compared

    def _compare(
        self, operation: Operation, state: Any, theirs: list[dict[str, Any]], queue: list[dict[str, Any]]
    ) -> None:
        model = self.model
        agree(operation, "CALs", store=sorted(map(self._read_row, theirs)), rules=sorted(map(self._row, model.cals())))
        pools = {pool["kind"]: pool for pool in map(json.loads, state[3:])}
        waiters = model.waiters()
        agree(operation, "waiters", store=state[2], rules=len(waiters))
        for kind, pool in pools.items():
            offered = len([w for w in waiters if w.offer == kind and w.kept_until > model.now])
            said = (pool["occupied"], pool["beyond"], pool["limit"], pool["offered"], pool["anonymous"])
            anonymous = len(model.anonymous()) if kind == "session" else 0
            rules = (model.occupied(kind), model.beyond(kind), model.limit(kind), offered, anonymous)
            agree(operation, "pool", store=said, rules=rules)
        line = [(w.claimant.holder, w.offer, w.kept_until, w.claimant.document) for w in waiters]
        stored = [(f"{w['user']}|{w['client']}", w.get("offer"), w["kept_until"], w["document"]) for w in queue]
        agree(operation, "queue", store=stored, rules=line)

    def _row(self, cal: Cal) -> tuple[Any, ...]:
        client = "" if cal.kind == "document" else cal.client
        times = (cal.granted, cal.used, self.model.ends(cal), cal.left, cal.removed)
        visits = sorted((client, visit.since, visit.used) for client, visit in cal.visits.items())
        return cal.id, cal.kind, cal.user, client, times, _pending(cal), cal.told, self.model.serves(cal), visits

    def _read_row(self, it: dict[str, Any]) -> tuple[Any, ...]:
        client = "" if it["kind"] == "document" else it["client"]
        times = (it["granted"], it.get("last_used"), it["ends"], it.get("left"), it.get("removed"))
        pending, told = "pending" in it and (sorted(it["pending"]), "refused" in it), it.get("told", [])
        visits = [(visit["client"], visit["since"], visit["used"]) for visit in it.get("visits", [])]
        if "visiting" in it:  # the last use is this visit's
            visits[0] = (*visits[0][:2], it["last_used"])
        return self._ids[it["id"]], it["kind"], it["user"], client, times, pending, told, it["serves"], sorted(visits)

    def _never(self, operation: Operation, new: list[Event]) -> None:
        """Checks the invariants that hold after every operation."""
        model = self.model
        out = model.cals()
        fields = [cal.field for cal in out if cal.kind != "usage"]
        assert len(fields) == len(set(fields)), f"{operation}: two CALs of one kind for one claim: {fields}"
        for kind in [event.facts["kind"] for event in new if event.what == "granted"]:
            assert not model.terms["enforce"] or model.occupied(kind) <= model.most(kind), (
                f"{operation}: over the limit of {kind}"
            )
        if any(event.what == "granted" and event.facts["claimant"].network for event in new):
            assert len(model.anonymous()) <= model.terms["anonymous"]["max"], f"{operation}: too many anonymous"
        assert all(cal.kind == "session" for cal in model.anonymous()), f"{operation}: an anonymous CAL of another kind"


def _pending(cal: Cal) -> Any:
    return cal.pending is not None and (sorted(cal.pending), cal.refused)


def _text(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode()
    return [_text(item) for item in reply] if isinstance(reply, list) else reply


def _number(text: str) -> int | None:
    return int(text) if text else None


__all__ = ["DAY", "FOREVER", "HOUR", "MINUTE", "Duel", "Library", "Operation", "terms"]
