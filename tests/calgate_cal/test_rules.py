"""The functions in the store agree with the rules, after every step of very many random histories."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from redis import Redis

from cal_duel import DAY, HOUR, MINUTE, Duel, Library, Operation, terms
from servers import Server

STEPS = int(os.environ.get("CALGATE_STEPS", "100000"))

USERS = st.sampled_from(["ann", "bob", "cid", "dan"])  # of groups A, B, both and none
CLIENTS = st.sampled_from(["pc", "laptop"])
DOCUMENTS = st.sampled_from(["d1", "d2"])
BACK = st.integers(1, 6)
OFTEN = [0] * 10 + [1000] * 6 + [1, 5000, 5000, 12_000, 29_999, 30_000]
EDGES = [60_000, 5 * MINUTE, 10 * MINUTE - 1, 10 * MINUTE, 15 * MINUTE - 1, 15 * MINUTE, 20 * MINUTE, 30 * MINUTE - 1]
EDGES += [30 * MINUTE, HOUR - 1, HOUR, HOUR - 1, HOUR, DAY - 1, DAY, 7 * DAY - 1, 20 * DAY, 28 * DAY - 1, -2000]
WHILE = st.sampled_from(OFTEN * 12 + EDGES)  # mostly short times, or nobody ever meets anybody
ASSIGNABLE = st.sampled_from([("named", ""), ("document", "d1"), ("document", "d2")])


def op(what: str, *words: st.SearchStrategy[Any]) -> st.SearchStrategy[Operation]:
    return st.tuples(st.just(what), WHILE, *words)


def flat(operation: Operation) -> Operation:
    """A kind and its document are drawn together."""
    return tuple(word for part in operation for word in (part if isinstance(part, tuple) else (part,)))


CLAIM = op("claim", USERS, CLIENTS, DOCUMENTS, st.integers(0, 4))
AGAIN = op("again", BACK, st.integers(0, 4))
SETTLE = op("settle", BACK, st.sampled_from([True, True, True, False]))
TOUCH = op("touch", BACK, st.sampled_from([0, 0, 1, 5000, 10 * MINUTE]))
LEAVE = op("release", BACK)
WAIT = op("wait", BACK)
VISITS = st.one_of(CLAIM, CLAIM, AGAIN, AGAIN, SETTLE, SETTLE, TOUCH, TOUCH, LEAVE, WAIT, op("tend"))
REMOVE = op("remove", st.sampled_from(["named", "document"]), BACK)
ORDERS = st.one_of(
    op("assign", ASSIGNABLE, USERS).map(lambda o: (*o[:2], o[2][0], o[3], o[2][1])),
    REMOVE,
    op("undo", st.sampled_from(["named", "document"]), BACK),
    op("allocate", DOCUMENTS, st.integers(0, 2)),
    op("limit", st.sampled_from(["named", "document", "session", "usage"]), st.sampled_from([None, 0, 1, 2, 3])),
    op("dynamic", ASSIGNABLE, st.sampled_from([True, False, None])).map(flat),
    op("dynamic", st.just("document"), st.just(""), st.sampled_from([True, False, None])),
    op("finish", BACK, st.booleans()),
)


@st.composite
def licenses(draw: st.DrawFn) -> dict[str, Any]:
    """Terms in which something is scarce and some options are on."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731 - one word for a long one
    none: dict[str, Any] = {"in_license": 0, "limit": 0}
    named = pick({}, {}, {}, none) | {"dynamic": pick(True, True, False), "overdraft": pick(0, 0, 1)}
    named |= pick({}, {}, {"dynamic_for": ["A"]}) | pick({}, {}, {"return_after": 3 * DAY}, {"return_after": 20 * DAY})
    named |= {"other_client": pick("allow", "allow", "refuse", "take-over")}
    document = {"dynamic": pick(True, False)} | pick({}, {"dynamic_for": ["B"]})
    one_each = [{"group": "A", "cals": 1}, {"group": "B", "cals": 1}]
    session = {"reserve": pick([], [], one_each[:1], one_each), "max": pick([], [], one_each[1:])}
    session |= pick({}, {}, {}, none)
    session |= {"overdraft": pick(0, 0, 1), "minimum": pick(15 * MINUTE, 15 * MINUTE, 0)}
    session |= pick({}, {"maximum": HOUR}) | pick({}, {"reclaimable_after": 5 * MINUTE})
    return terms(named=named, document=document, session=session, usage=pick({}, none), queue=pick(True, False))


SEEN: Counter[str] = Counter()


class License(RuleBasedStateMachine):
    """A history goes on in parts, so that a part can be left out when a failure is made small."""

    library: Library

    @initialize(terms=licenses())
    def begin(self, terms: dict[str, Any]) -> None:
        self.duel = Duel(self.library, terms)

    @rule(visits=st.lists(VISITS, min_size=8, max_size=40))
    def people_come_and_go(self, visits: list[Operation]) -> None:
        self.duel.play(visits)

    @rule(rush=st.lists(st.one_of(CLAIM, CLAIM, SETTLE, WAIT, LEAVE), min_size=8, max_size=40))
    def everybody_comes_at_once(self, rush: list[Operation]) -> None:
        self.duel.play(rush)

    @rule(kind=st.sampled_from(["named", "document"]), back=BACK, visits=st.lists(VISITS, max_size=10))
    def an_administrator_thinks_better_of_it(self, kind: str, back: int, visits: list[Operation]) -> None:
        self.duel.play([("settle", 0, back, True), ("remove", 0, kind, back)])
        self.duel.play([*visits, ("undo", 0, kind, back)])

    @rule(back=BACK, visits=st.lists(VISITS, max_size=3))
    def an_hour_passes(self, back: int, visits: list[Operation]) -> None:
        self.duel.play([("settle", 0, back, True), ("touch", HOUR - 1, back, 0), *visits])

    @rule(kind=st.sampled_from(["named", "session"]), leaver=BACK, waiter=BACK, visits=st.lists(VISITS, max_size=3))
    def somebody_leaves_while_others_wait(self, kind: str, leaver: int, waiter: int, visits: list[Operation]) -> None:
        self.duel.play([("wait", 0, waiter), ("finish", 0, leaver, True), ("wait", 0, waiter), *visits])
        self.duel.play([("limit", 0, kind, 0), ("wait", 0, waiter), ("limit", 0, kind, None)])

    @rule(orders=st.lists(ORDERS, min_size=1, max_size=4))
    def an_administrator_changes_things(self, orders: list[Operation]) -> None:
        self.duel.play(orders)

    def teardown(self) -> None:
        if hasattr(self, "duel"):
            SEEN.update(event.what for event in self.duel.model.events)
            self.duel.close()


@pytest.fixture(scope="module")
def redis(cal_server: Server) -> Iterator["Redis[bytes]"]:
    with Redis.from_url(cal_server.url, protocol=2) as client:
        yield client


def play(library: Library, examples: int, phases: Sequence[Phase] = (Phase.generate, Phase.shrink)) -> None:
    """Random histories; the first on which store and rules disagree is made small and raised."""
    machine = type("License", (License,), {"library": library})
    how = settings(
        max_examples=examples,
        stateful_step_count=10,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=how)


@pytest.mark.timeout(7200)
def test_the_store_agrees_with_the_rules_after_every_step(redis: "Redis[bytes]") -> None:
    library = Library(redis)
    while Duel.steps < STEPS:
        play(library, 200)
    print(f"{Duel.steps} steps: {dict(sorted(SEEN.items()))}")
    assert set(SEEN) >= EVENTS, f"some of it never happened: {EVENTS - set(SEEN)}"


EVENTS = {
    *("granted", "used", "kept", "answered", "over", "touched", "denied", "set"),
    *("signed-out", "came-back", "unused", "removed", "undone", "taken-over", "told"),
    *("waits", "asked", "offered", "left-queue"),
}
"""Everything that can happen in the model, but for what is so rare ("offer-revoked") that it has a test of its own."""

FAULTS = {
    "the minimum off by one": ("it.granted + terms.minimum, it.left", "it.granted + terms.minimum - 1, it.left"),
    "quarantine not counted": ("    ends = used and used + terms.quarantine or it.removed", "    ends = it.removed"),
    "a second Named CAL": ("    if own[kind] then", "    if own[kind] and kind ~= 'named' then"),
    "minute 60 for 61": ("license.now < it.granted + HOUR end", "license.now < it.granted + HOUR - 60000 end"),
    "reserves ignored": ("out + offered + kept >= most", "out + offered >= most"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.timeout(600)
def test_a_planted_fault_is_found(fault: str, redis: "Redis[bytes]") -> None:
    library = Library(redis, FAULTS[fault])
    try:
        with pytest.raises(AssertionError):
            play(library, 2000, [Phase.generate])
    finally:
        Library(redis)  # the shipped ones again
