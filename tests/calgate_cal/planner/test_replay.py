"""Who would have been denied with another number of Session CALs."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calgate_cal.planner.curve import one_pass
from calgate_cal.planner.replay import Clocks, Retry, denied, queued
from calgate_cal.planner.wishes import Wish
from support.visits import DAY, MINUTE, each_its_own, of_file, wish

QUARTER, NONE = Clocks(minimum=15 * MINUTE), Clocks(minimum=0)


def counts(wishes: Sequence[Wish], clocks: Clocks, upto: int, **rules: object) -> list[int]:
    """The wishes denied with 0, 1, 2, … seats."""
    return [len(denied(wishes, seats, clocks, **rules).denied) for seats in range(upto)]  # type: ignore[arg-type]


@pytest.mark.parametrize("clocks", [QUARTER, NONE])
def test_visits_that_overlap_are_denied_in_order_of_their_beginning(clocks: Clocks) -> None:
    assert counts(of_file("A_order.csv"), clocks, 4) == [5, 3, 1, 0]


def test_users_with_a_named_cal_need_no_seat_and_are_in_no_number() -> None:
    wishes = of_file("A_order.csv")
    assert counts(wishes, QUARTER, 4, named={"ann"}) == [4, 1, 0, 0]
    assert counts(wishes, QUARTER, 4, named={"cid"}) == [4, 2, 0, 0]


def test_a_user_who_returns_within_the_minimum_uses_the_same_cal() -> None:
    wishes = of_file("B_one_cal.csv")
    assert counts(wishes, QUARTER, 4) == [5, 2, 1, 0]
    assert counts(wishes, NONE, 3) == [5, 2, 0]


@pytest.mark.parametrize("patience", [60, 10])
def test_a_wish_that_is_tried_again_counts_once(patience: float) -> None:
    retry = Retry(10 * MINUTE, patience * MINUTE)
    assert counts(of_file("C_retry.csv"), QUARTER, 4, retry=retry) == [3, 2, 1, 0]


def test_a_retry_that_is_let_in_waited_from_the_first_attempt() -> None:
    outcome = denied(of_file("C_retry.csv"), 1, QUARTER, retry=Retry(10 * MINUTE, 60 * MINUTE))
    assert (outcome.denied, outcome.never_served) == ([1, 2], [])
    assert outcome.waited == {1: 30 * MINUTE, 2: 60 * MINUTE}


def test_a_month_is_denied_as_counted_by_hand_for_every_number_of_seats() -> None:
    month = of_file("D_month.csv")
    assert counts(month, QUARTER, 7) == [240, 128, 61, 23, 8, 1, 0]
    assert counts(month, NONE, 7) == [240, 124, 58, 22, 5, 1, 0]
    assert counts(each_its_own(month), QUARTER, 7) == [240, 131, 65, 28, 9, 3, 0]


def test_without_a_sign_out_the_cal_stays_taken_for_the_idle_timeout() -> None:
    left = wish(0, 5, "ann")._replace(signed_out=False)
    for at, refused in ((34.9, 1), (35, 0)):
        assert len(denied([left, wish(at, at + 1, "bob")], 1).denied) == refused


def test_a_lease_ends_at_the_maximum_though_it_is_in_use() -> None:
    wishes = [wish(0, 300, "ann"), wish(60, 61, "bob")]
    assert len(denied(wishes, 1, Clocks(maximum=60 * MINUTE)).denied) == 0


def test_the_longest_idle_lease_past_its_minimum_is_reclaimed() -> None:
    idle = [wish(0, 1, "ann")._replace(signed_out=False), wish(2, 5, "bob")._replace(signed_out=False)]
    clocks = Clocks(reclaimable_after=10 * MINUTE)
    assert denied([*idle, wish(14, 15, "cid")], 2, clocks).denied == [2]  # all are within their minimum
    assert denied([*idle, wish(16, 99, "cid"), wish(17, 18, "dan")], 2, clocks).denied == []
    back = wish(16.5, 17, "ann")  # ann's CAL was taken, bob's is taken next
    assert denied([*idle, wish(16, 99, "cid"), wish(17, 18, "ann")], 2, clocks).denied == []
    assert denied([*idle, wish(16, 99, "cid"), back], 2, clocks).denied == [3]


def test_a_queue_serves_in_order_of_coming_as_cals_come_free() -> None:
    wishes = [wish(0, 30, "ann"), wish(5, 10, "bob"), wish(6, 7, "cid")]
    outcome = queued(wishes, 1)
    assert (outcome.denied, outcome.never_served) == ([1, 2], [])
    assert outcome.waited == {1: 25 * MINUTE, 2: 39 * MINUTE}  # bob's CAL is free after the minimum


def test_a_user_in_the_queue_gives_up_after_the_patience_of_the_records() -> None:
    wishes = [wish(0, 30, "ann"), wish(5, 10, "bob"), wish(6, 7, "cid")]
    assert queued(wishes, 1, patience=30 * MINUTE).never_served == [2]
    assert queued(wishes, 0).never_served == [0, 1, 2]


WISHES = st.lists(
    st.tuples(
        st.integers(0, 600), st.integers(0, 90), st.sampled_from("abcdefgh"), st.sampled_from("xy"), st.booleans()
    ),
    max_size=40,
).map(
    lambda rows: sorted(
        wish(begin, begin + length, user, machine)._replace(signed_out=signed_out)
        for begin, length, user, machine, signed_out in rows
    )
)
CLOCKS = st.builds(lambda minutes: Clocks(minimum=minutes * MINUTE), st.sampled_from([0, 15]))


@given(WISHES, CLOCKS)
def test_more_seats_never_deny_more_without_retries(wishes: list[Wish], clocks: Clocks) -> None:
    found = [set(denied(wishes, seats, clocks).denied) for seats in range(12)]
    assert all(len(more) <= len(fewer) for fewer, more in itertools.pairwise(found))


@given(WISHES, CLOCKS)
def test_one_pass_equals_every_replay_where_each_visit_is_its_own(wishes: list[Wish], clocks: Clocks) -> None:
    own = each_its_own(wishes)
    made = one_pass(own, clocks)
    for seats in range(made.counts().peak + 1):
        above = [index for index in range(len(own)) if made.seat_of(index) > seats]
        assert denied(own, seats, clocks).denied == above


@given(WISHES, CLOCKS, st.integers(0, 8), st.sets(st.sampled_from("abcdefgh")))
def test_the_fast_loop_denies_the_same_as_the_rules_with_retries_that_never_happen(
    wishes: list[Wish], clocks: Clocks, seats: int, named: set[str]
) -> None:
    never = Retry(gap=1.0, patience=0.0)
    assert denied(wishes, seats, clocks, named).denied == denied(wishes, seats, clocks, named, never).denied


@given(WISHES, CLOCKS, st.sampled_from("abcdefgh"), st.integers(0, 8))
def test_a_user_who_gets_a_named_cal_never_raises_the_number_denied(
    wishes: list[Wish], clocks: Clocks, user: str, seats: int
) -> None:
    own = [it._replace(holder=(str(number), "pc")) for number, it in enumerate(wishes)]
    assert len(denied(own, seats, clocks, {user}).denied) <= len(denied(own, seats, clocks).denied)


@given(WISHES, CLOCKS, st.integers(0, 8))
def test_a_week_later_the_same_wishes_are_denied(wishes: list[Wish], clocks: Clocks, seats: int) -> None:
    later = [it._replace(begin=it.begin + 7 * DAY, used=it.used + 7 * DAY) for it in wishes]
    retry = Retry(10 * MINUTE, 60 * MINUTE)
    assert denied(later, seats, clocks, retry=retry).denied == denied(wishes, seats, clocks, retry=retry).denied


def test_a_usage_cal_serves_an_hour_and_comes_back_after_28_days() -> None:
    day = 24 * 60
    wishes = [
        wish(0, 30, "ann"),
        wish(5, 20, "bob"),
        wish(10, 20, "cid"),
        wish(40, 50, "bob"),
        wish(28 * day, 28 * day + 1, "x"),
    ]
    wishes += [wish(28 * day, 28 * day + 1, "y"), wish(28 * day + 5, 28 * day + 6, "z")]
    assert [wishes[index].user for index in denied(wishes, 1, NONE, usage=1).denied] == ["cid", "y"]
    assert [wishes[index].user for index in denied(wishes, 1, NONE, usage=2).denied] == ["y"]
    assert denied(wishes, 1, NONE, usage=3).denied == []


def test_a_visit_of_more_than_an_hour_takes_more_than_one_usage_cal() -> None:
    wishes = [wish(0, 90, "ann"), wish(10, 100, "bob")]
    assert denied(wishes, 1, NONE, usage=1).denied == [1]
    assert denied(wishes, 1, NONE, usage=2).denied == []


def test_a_usage_cal_is_taken_before_a_session_cal_is_reclaimed() -> None:
    clocks = Clocks(minimum=0, idle_timeout=60 * MINUTE, reclaimable_after=10 * MINUTE)
    idle = wish(0, 1, "ann")._replace(signed_out=False)
    wishes = [idle, wish(20, 21, "bob"), wish(30, 31, "ann")]
    assert denied(wishes, 1, clocks, usage=1).denied == []
    assert queued(wishes, 1, clocks, usage=1).denied == []
