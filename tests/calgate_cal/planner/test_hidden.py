"""Wishes that a log without denials does not show, compared with the truth that the test knows."""

import random

import pytest

from calgate_cal.planner.hidden import Levels, estimate, holds
from calgate_cal.planner.replay import VENDOR, denied
from calgate_cal.planner.wishes import Visit, Wish, link
from support.visits import BEGIN, DAY, HOUR, MINUTE, calendar, visit


def site(seed: int) -> list[Wish]:
    """Twelve weeks of 100 users, of whom a third sign out."""
    generator = random.Random(seed)
    weight = [1 / (number + 1) ** 0.8 for number in range(100)]
    wishes = []
    for day in (number for number in range(84) if number % 7 < 5):
        for user in generator.choices(range(100), weight, k=round(110 * generator.uniform(0.7, 1.3))):
            begin = BEGIN - HOUR + day * DAY + generator.triangular(0, 11, 3) * HOUR
            used = begin + min(3 * HOUR, generator.lognormvariate(6.6, 1))
            name = f"u{user}"
            wishes.append(Wish(begin, False, used, generator.random() < 0.3, name, (name, "pc"), "session"))
    return sorted(wishes)


def logged(wishes: list[Wish], seats: int) -> tuple[list[Visit], int]:
    """Returns the log of a server with so many seats, and how many people it turned away."""
    gone = set(denied(wishes, seats).denied)
    visits = [
        Visit(
            *(it.begin, it.used if it.signed_out else it.used + VENDOR.idle_timeout, it.used),
            *("signed-out" if it.signed_out else "expired", it.user, "pc", "session", ""),
        )
        for number, it in enumerate(wishes)
        if number not in gone
    ]
    return visits, len(gone)


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
