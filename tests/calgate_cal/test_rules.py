"""The functions in the store agree with the rules after every step of very many random histories."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from random import Random
from secrets import token_hex

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from redis import Redis

from cal_model.comparison import DisagreementError, Duel, Library
from cal_model.histories import CHAPTERS, a_license
from support.redis_servers import Server

pytestmark = pytest.mark.server

STEPS = int(os.environ.get("CALGATE_STEPS", "100000"))

SEEN: Counter[str] = Counter()
HISTORIES: set[str] = set()

EVENTS = {
    *("granted", "used", "kept", "answered", "over", "touched", "denied", "set"),
    *("signed-out", "came-back", "unused", "removed", "undone", "taken-over", "told"),
    *("waits", "polled", "offered", "offer-revoked", "left-queue"),
    *("visited", "corrected", "times-corrected"),
}
"""Everything that can happen in the model."""

FAULTS = {
    "the minimum off by one": (
        "lease.granted + terms.minimum, lease.left",
        "lease.granted + terms.minimum - 1, lease.left",
    ),
    "quarantine not counted": (
        "    ends = used and used + terms.quarantine or lease.removed",
        "    ends = lease.removed",
    ),
    "a second Named CAL": ("    if held[kind] then", "    if held[kind] and kind ~= 'named' then"),
    "minute 60 for 61": ("license.now < lease.granted + HOUR end", "license.now < lease.granted + HOUR - 60000 end"),
    "reserves ignored": ("out + offered + kept >= most", "out + offered >= most"),
    "time stopped by a record far ahead": ("newest - now <= MOST_AHEAD", "newest - now <= FOREVER"),
    "leases beyond the limit counted": ("- pool.beyond(license, kind)", "- 0 * pool.beyond(license, kind)"),
    "positions of one user unbounded": (">= MOST_OF_ONE_USER then", ">= 10 * MOST_OF_ONE_USER then"),
    "a dismissed waiter kept": ("queue.leave(license, holder, 'gave-up', {'by', by})", "do end"),
    "visits joined over a longer pause": ("used < visit.used + idle then", "used < visit.used + 2 * idle then"),
    "anonymous browsers of one address unbounded": (
        "pool.share(license, 'a:' .. network) >= terms.per_address",
        "pool.share(license, 'a:' .. network) >= FOREVER",
    ),
    "anonymous browsers queued": ("code == 'no-cal' and not claimant.network", "code == 'no-cal'"),
    "a host's own allocation ignored": ("is_named and full or plain", "plain"),
}

TURN = st.integers(0, 2**32)


class License(RuleBasedStateMachine):
    """A history is made of chapters, so that Hypothesis can leave chapters out when it shrinks a failure.

    Hypothesis draws the same numbers again and again, so each chapter's dice come from all that was drawn before it,
    and from a salt of the run.
    """

    library: Library
    salt: str

    @initialize(turn=TURN)
    def begin(self, turn: int) -> None:
        self.path = f"{self.salt}"
        self.duel = Duel(self.library, a_license(self._dice(turn)))

    @rule(chapter=st.sampled_from(CHAPTERS), turn=TURN)
    def go_on(self, chapter: Callable[[Random, Duel], None], turn: int) -> None:
        chapter(self._dice(turn), self.duel)

    def _dice(self, turn: int) -> Random:
        self.path = sha256(f"{self.path}/{turn}".encode()).hexdigest()
        HISTORIES.add(self.path)
        return Random(self.path)

    def teardown(self) -> None:
        if hasattr(self, "duel"):
            SEEN.update(event.what for event in self.duel.model.events)
            self.duel.close()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Server(tmp_path_factory.mktemp("rules")).start()
    with Redis.from_url(server.url, protocol=2) as client:
        yield client
    server.stop()


def play(library: Library, examples: int, phases: Sequence[Phase] = (Phase.generate, Phase.shrink)) -> None:
    """Plays random histories; raises the first on which store and rules disagree, shrunk."""
    salt = os.environ.get("CALGATE_SALT") or token_hex(4)
    print(f"CALGATE_SALT={salt} makes this run again")
    machine = type("License", (License,), {"library": library, "salt": salt})
    how = settings(
        max_examples=examples,
        stateful_step_count=12,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=how)


@pytest.mark.timeout(3 * 3600)
def test_store_agrees_with_the_rules_after_every_step(redis: Redis) -> None:
    library = Library(redis)
    while Duel.steps < STEPS:
        play(library, 100)
    print(f"{Duel.steps} steps, {len(HISTORIES)} different chapters: {dict(sorted(SEEN.items()))}")
    assert set(SEEN) == EVENTS, f"some of it never happened: {EVENTS ^ set(SEEN)}"


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_found(fault: str, redis: Redis) -> None:
    library = Library(redis, FAULTS[fault])
    with pytest.raises(DisagreementError):
        play(library, 2000, [Phase.generate])
