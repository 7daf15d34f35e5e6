"""Random histories of a license: what users and administrators do, at the edges of every clock."""

from collections.abc import Callable
from random import Random
from typing import Any

from cal_model.comparison import DAY, HOUR, MINUTE, NETWORKS, Duel, Operation, terms

USERS = ("ann", "bob", "cid", "dan")  # of groups A, B, both and none
CLAIMANTS = (*USERS, *USERS, *USERS, *USERS, *NETWORKS)
CLIENTS = ("pc", "pc", "laptop", "laptop", "phone", "tablet")
DOCUMENTS = ("d1", "d1", "d2", "d2", "h|d1")
ASSIGNABLE = (("named", ""), ("named", ""), ("document", "d1"), ("document", "d2"), ("document", "h|d1"))

OFTEN = [0] * 10 + [1000] * 6 + [1, 5000, 5000, 12_000, 29_999, 30_000]
EDGES = [60_000, 5 * MINUTE, 10 * MINUTE - 1, 10 * MINUTE, 15 * MINUTE - 1, 15 * MINUTE, 20 * MINUTE, 30 * MINUTE - 1]
EDGES += [30 * MINUTE, HOUR - 1, HOUR, HOUR - 1, HOUR, DAY - 1, DAY, 7 * DAY - 1, 20 * DAY, 28 * DAY - 1]
EDGES += [-2000, -MINUTE, -MINUTE - 1, -HOUR]  # a clock steps back: after a failover, or because it had been wrong


def a_license(r: Random) -> dict[str, Any]:
    """Makes terms in which something is scarce and some options are on."""

    def pick(*values: Any) -> Any:
        return r.choice(values)

    none: dict[str, Any] = {"in_license": 0, "limit": 0}
    named = pick({}, {}, {}, none) | {"dynamic": pick(True, True, False), "overdraft": pick(0, 0, 1)}
    named |= pick({}, {}, {"dynamic_for": ["A"]}) | pick({}, {}, {"return_after": 3 * DAY}, {"return_after": 20 * DAY})
    named |= {"other_client": pick("allow", "allow", "refuse", "take-over")}
    document = {"dynamic": pick(True, False)} | pick({}, {"dynamic_for": ["B"]})
    one_each = [{"group": "A", "cals": 1}, {"group": "B", "cals": 1}]
    session = {"reserve": pick([], [], one_each[:1], one_each), "max": pick([], [], one_each[1:])}
    session |= pick({}, {}, {}, none) | {"overdraft": pick(0, 0, 1), "minimum": pick(15 * MINUTE, 15 * MINUTE, 0)}
    session |= pick({}, {"maximum": HOUR}) | pick({}, {"reclaimable_after": 5 * MINUTE})
    usage = pick({}, none, {"in_license": 2, "limit": 2})
    options: dict[str, Any] = pick({}, {"anonymous": {"max": pick(1, 2), "per_address": pick(1, 1, 2)}})
    options |= {"queue": pick(True, False), "enforce": pick(True, True, True, False)}
    return terms(named=named, document=document, session=session, usage=usage, **options)


def people_come_and_go(r: Random, duel: Duel) -> None:
    """Users claim, use and leave."""
    duel.play([_visit(r) for _ in range(r.randint(4, 30))])


def everybody_comes_at_once(r: Random, duel: Duel) -> None:
    """Many claims at once; a queue builds up if there is one."""
    rush = ("claim", "claim", "settle", "again", "release")
    duel.play([_visit(r, r.choice(rush)) for _ in range(r.randint(4, 30))])


def an_administrator_changes_things(r: Random, duel: Duel) -> None:
    """Everything that an administrator can do."""
    duel.play([_order(r) for _ in range(r.randint(1, 4))])


def an_administrator_thinks_better_of_it(r: Random, duel: Duel) -> None:
    """A CAL is removed, and given back during the quarantine or too late."""
    mine = [cal for cal in duel.model.cals() if cal.kind in ("named", "document") and cal.used is not None]
    if not mine:
        people_come_and_go(r, duel)
        return
    cal = r.choice(mine)
    document = cal.document if cal.kind == "document" else None
    back = duel.back_to(cal.user, document=document)
    duel.play([("settle", 0, back, True), ("remove", 0, cal.kind, back)])
    duel.play([_visit(r) for _ in range(r.randint(1, 8))])
    duel.play([("undo", 0, cal.kind, duel.back_to(cal.user, document=document))])


def somebody_leaves_while_others_wait(r: Random, duel: Duel) -> None:
    """A CAL comes free for the queue; sometimes an administrator takes back the offer, or takes out the waiter."""
    if not duel.model.waiters():
        everybody_comes_at_once(r, duel)
    sessions = [cal for cal in duel.model.cals() if cal.kind == "session"]
    waiters = [waiter.claimant for waiter in duel.model.waiters()]
    if not sessions or not waiters:
        return
    leaver, waiter = r.choice(sessions), r.choice(waiters)
    duel.play([("again", 0, duel.back_to(waiter.user, client=waiter.client), 0)])
    duel.play([("finish", 0, duel.back_to(leaver.user, client=leaver.client), True), ("tend", 0)])
    if r.random() < 0.3:
        duel.play([("limit", 0, "session", 0), ("tend", 0), ("limit", 0, "session", None), ("tend", 0)])
    if r.random() < 0.3:
        duel.play([("dismiss", 0, duel.back_to(waiter.user, client=waiter.client)), ("tend", 0)])
    come = ("again", 0, duel.back_to(waiter.user, client=waiter.client), 0)
    duel.play([come, *(_visit(r) for _ in range(r.randint(1, 4)))])


def many_claims_come_from_one_place(r: Random, duel: Duel) -> None:
    """One user claims from every client, or every anonymous browser comes: more than one user or address may have."""
    user = r.choice(USERS)
    crowd = r.choice(([(user, client) for client in sorted(set(CLIENTS))], [(name, "pc") for name in NETWORKS]))
    document = r.choice(DOCUMENTS)
    duel.play([("claim", 0, name, client, document, 0) for name, client in r.sample(crowd, len(crowd))])


def an_hour_passes(r: Random, duel: Duel) -> None:
    """An hour passes, nearly, to the last millisecond, or completely."""
    hours = [cal for cal in duel.model.cals() if cal.kind == "usage"]
    back, passes = _back(r), r.choice((59 * MINUTE, HOUR - 1, HOUR))
    if hours:
        back = duel.back_to(hours[-1].user, document=hours[-1].document)
    visits = [_visit(r) for _ in range(r.randint(0, 3))]
    duel.play([("settle", 0, back, True), ("touch", passes, back, 0), *visits])


CHAPTERS: tuple[Callable[[Random, Duel], None], ...] = (
    *(people_come_and_go, everybody_comes_at_once, an_administrator_changes_things),
    *(an_administrator_thinks_better_of_it, somebody_leaves_while_others_wait, an_hour_passes),
    *(everybody_comes_at_once, somebody_leaves_while_others_wait, many_claims_come_from_one_place),
)


def _while(r: Random) -> int:
    """Returns mostly short times, or users would hardly ever meet."""
    return r.choice(EDGES) if r.random() < 0.06 else r.choice(OFTEN)


def _back(r: Random) -> int:
    return r.randint(1, 6)


def _visit(r: Random, what: str | None = None) -> Operation:
    usual = ("claim", "claim", "again", "again", "settle", "settle", "touch", "touch", "release", "tend")
    what = what or r.choice(usual)
    passes = _while(r)
    match what:
        case "claim":
            return what, passes, r.choice(CLAIMANTS), r.choice(CLIENTS), r.choice(DOCUMENTS), r.randint(0, 4)
        case "again":
            return what, passes, _back(r), r.randint(0, 4)
        case "settle":
            return what, passes, _back(r), r.choice((True, True, True, True, False, False, None, None))
        case "touch":
            return what, passes, _back(r), r.choice((0, 0, 1, 5000, 10 * MINUTE))
        case "tend":
            return what, passes
    return what, passes, _back(r)


def _order(r: Random) -> Operation:
    what = r.choice(
        ("assign", "remove", "remove", "undo", "allocate", "limit", "dynamic", "dynamic", "finish", "dismiss")
    )
    passes = _while(r)
    kind, document = r.choice(ASSIGNABLE)
    match what:
        case "assign":
            return what, passes, kind, r.choice(USERS), document
        case "remove" | "undo":
            return what, passes, kind, _back(r)
        case "allocate":
            return what, passes, r.choice(DOCUMENTS), r.randint(0, 2)
        case "limit":
            return what, passes, r.choice(("named", "document", "session", "usage")), r.choice((None, 0, 1, 2, 3))
        case "dynamic":
            return what, passes, kind, r.choice((document, "")), r.choice((True, False, None))
        case "dismiss":
            return what, passes, _back(r)
    return what, passes, _back(r), r.random() < 0.5
