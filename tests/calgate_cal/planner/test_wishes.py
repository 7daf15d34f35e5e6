"""Wishes made of records: one that was tried again is still one wish."""

import pytest

from calgate_cal.planner.curve import one_pass
from calgate_cal.planner.replay import Clocks
from calgate_cal.planner.wishes import Denial, Retries, link, merge
from support.visits import BEGIN, HOUR, MINUTE, visit


def denial(minute: float, user: str, machine: str = "pc") -> Denial:
    return Denial(BEGIN + minute * MINUTE, user, machine)


def test_attempts_that_end_in_a_visit_are_one_wish_from_the_first_attempt() -> None:
    denials = [denial(1, "bob"), denial(12, "bob"), denial(23, "bob")]
    wishes, retries = link([visit(0, 30, "ann"), visit(34, 44, "bob")], denials, HOUR)
    assert [(it.user, it.begin - BEGIN, it.used - it.begin, it.denied) for it in wishes] == [
        ("ann", 0, 30 * MINUTE, False),
        ("bob", MINUTE, 10 * MINUTE, True),
    ]
    assert one_pass(wishes, Clocks()).counts().denied() == [2, 1, 0]
    assert retries is None  # too few to say how users try again


def test_a_wish_that_was_never_served_lasts_as_the_users_own_visits_do() -> None:
    visits = [visit(0, 30, "ann"), visit(100, 110, "bob"), visit(300, 304, "bob")]
    wishes, _ = link(visits, [denial(500, "bob"), denial(500, "cid")], HOUR)
    assert [(it.user, it.used - it.begin) for it in wishes if it.denied] == [("bob", 7 * MINUTE), ("cid", 10 * MINUTE)]


def test_attempts_further_apart_than_the_link_are_two_wishes() -> None:
    for gap, wishes in ((60, 1), (60.1, 2)):
        assert len(link([], [denial(0, "bob"), denial(gap, "bob")], HOUR)[0]) == wishes


def test_denials_on_two_machines_are_two_wishes() -> None:
    assert len(link([], [denial(0, "bob", "a"), denial(1, "bob", "b")], HOUR)[0]) == 2


def test_gap_and_patience_of_retries_are_read_from_the_records() -> None:
    denials = [denial(number * 1000 + minute, "bob") for number in range(10) for minute in (0, 10, 20)]
    assert link([], denials, HOUR)[1] == Retries(10 * MINUTE, 20 * MINUTE, 10)


def test_a_visit_on_a_usage_cal_is_a_wish_of_an_hour_or_more() -> None:
    short, long = visit(0, 5, "ann")._replace(kind="usage"), visit(0, 90, "bob")._replace(kind="usage")
    assert sorted(it.used - it.begin for it in link([short, long], [], HOUR)[0]) == [HOUR, 1.5 * HOUR]


def test_a_visit_long_after_a_denial_is_a_wish_of_its_own() -> None:
    for begin, wishes in ((60, 1), (60.1, 2)):
        found, _ = link([visit(begin, 90, "bob")], [denial(0, "bob")], HOUR)
        assert (len(found), found[0].denied) == (wishes, True)


@pytest.mark.parametrize("kinds", [("document", "session"), ("session", "document"), ("usage", "session")])
def test_two_visits_at_once_need_what_the_more_demanding_one_needs(kinds: tuple[str, str]) -> None:
    first, second = (
        visit(begin, 60, "ann")._replace(kind=kind, document=f"{begin}.qvw") for begin, kind in enumerate(kinds)
    )
    assert [it.kind for it in merge([first, second])[0]] == ["session"]
