"""Wishes that a log without denials does not show, compared with the truth that the test knows."""

import pytest

from calgate_cal.planner.hidden import Levels, estimate, holds
from calgate_cal.planner.replay import VENDOR
from calgate_cal.planner.wishes import link
from support.visits import BEGIN, HOUR, MINUTE, calendar, logged, site, visit


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("seats", [16, 14, 11])
def test_people_turned_away_are_estimated_within_a_fifth_or_twenty(seed: int, seats: int) -> None:
    visits, truth = logged(site(seed), seats)
    held = holds(visits, VENDOR.minimum, by_user=False)
    found = estimate(link(visits, [], HOUR)[0], held, seats, calendar(), seed=1)
    assert found is not None
    assert len(found.wishes) == pytest.approx(truth, rel=0.2, abs=20)


def test_a_pool_that_was_never_full_hides_nobody() -> None:
    visits, _ = logged(site(1), 99)
    held = holds(visits, VENDOR.minimum, by_user=False)
    assert estimate(link(visits, [], HOUR)[0], held, None, calendar(), seed=1) is None


def test_a_peak_that_stays_flat_for_hours_is_a_full_pool() -> None:
    visits, truth = logged(site(2), 8)
    held = holds(visits, VENDOR.minimum, by_user=False)
    found = estimate(link(visits, [], HOUR)[0], held, None, calendar(), seed=1)
    assert found is not None
    assert found.seats == 8
    assert len(found.wishes) == pytest.approx(truth, rel=0.3)


def test_a_number_that_was_exceeded_turned_nobody_away() -> None:
    visits, _ = logged(site(3), 14)
    held = holds(visits, VENDOR.minimum, by_user=False)
    assert estimate(link(visits, [], HOUR)[0], held, 7, calendar(), seed=1) is None


def test_a_user_who_returns_while_their_cal_is_held_uses_the_same_one() -> None:
    visits = [visit(0, 5, "ann"), visit(10, 20, "ann"), visit(40, 41, "ann")]
    held = holds(visits, 15 * MINUTE, by_user=False)
    assert [((a - BEGIN) / MINUTE, (b - BEGIN) / MINUTE) for a, b in held] == [(0, 20), (40, 55)]


def test_levels_follow_cals_that_are_taken_and_freed_at_the_same_moment() -> None:
    assert list(Levels([(0, 10), (10, 20), (5, 12)])) == [(0, 5, 1), (5, 10, 2), (10, 12, 2), (12, 20, 1)]
    assert list(Levels([(0, 10), (7, 7)])) == [(0, 7, 1), (7, 10, 1)]
    assert list(Levels([(3, 3)])) == []
    assert list(Levels([])) == []
