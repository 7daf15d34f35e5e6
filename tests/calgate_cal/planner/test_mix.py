"""Named and Session CALs together."""

from calgate_cal.planner.curve import one_pass
from calgate_cal.planner.mix import Mixes, Prices, cheapest
from calgate_cal.planner.replay import VENDOR
from calgate_cal.planner.wishes import Wish
from support.visits import DAY, HOUR, calendar, wish


def mixes(wishes: list[Wish], weeks: int) -> Mixes:
    made = one_pass(wishes, VENDOR)
    first = calendar().slot(wishes[0].begin).week
    return Mixes(*(made, range(first, first + weeks), calendar()), below=0.01, margin=0.2, keep=(), seed=1)


def weekly(users: list[str], week: int) -> list[Wish]:
    """A visit of each user on Monday at the same time."""
    return [wish(week * 7 * DAY / 60, week * 7 * DAY / 60 + 60, user) for user in users]


def test_people_who_come_once_cannot_be_foreseen_so_seats_remain_for_them() -> None:
    wishes = sorted(it for week in range(10) for it in weekly(["ann", f"new{week}", f"guest{week}"], week))
    made = mixes(wishes, 10)
    assert made.order[0] == "ann"
    assert made.session(0) == 4  # three at once, with the margin
    assert made.session(made.users) == 3  # everybody of the past, and still two strangers in each other week


def test_people_who_always_come_need_no_seat_once_they_hold_a_named_cal() -> None:
    wishes = sorted(it for week in range(10) for it in weekly(["ann", "bob"], week))
    assert [mixes(wishes, 10).session(named) for named in range(3)] == [3, 2, 0]


def test_cheapest_mix_is_found_with_few_passes() -> None:
    need = [max(0, 40 - 3 * named) if named < 10 else max(1, 13 - named // 4) for named in range(101)]
    for prices in (Prices(1, 10), Prices(1, 4), Prices(1, 1), Prices(5, 1)):
        counted: set[int] = set()

        def session(named: int, counted: set[int] = counted) -> int:
            counted.add(named)
            return need[named]

        best = cheapest(session, [number * prices.named for number in range(101)], prices.session)
        costs = [named * prices.named + need[named] * prices.session for named in range(101)]
        assert costs[best] == min(costs)
        assert len(counted) < 50


def test_users_are_ranked_by_hours_held_and_not_by_visits() -> None:
    often = [
        wish(week * 7 * DAY / 60 + hour * 60, week * 7 * DAY / 60 + hour * 60 + 1, "often")
        for week in range(8)
        for hour in range(0, 8, 2)
    ]
    long = [wish(week * 7 * DAY / 60, week * 7 * DAY / 60 + 5 * HOUR / 60, "long") for week in range(8)]
    assert mixes(sorted([*often, *long]), 8).order == ["long", "often"]


def test_browsers_without_sign_in_get_no_named_cal_and_keep_their_seats_however_long_they_come() -> None:
    browser = "anonymous:3f9a2c0000000000"
    wishes = sorted(it for week in range(10) for it in weekly(["ann", browser], week))
    made = mixes(wishes, 10)
    assert made.order == ["ann"]
    assert [made.session(named) for named in range(2)] == [3, 2]
