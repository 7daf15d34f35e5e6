"""The planner on records that the real functions wrote, under a clock that the test moves."""

import contextlib
from collections.abc import Awaitable, Callable, Sequence

from cal_model.license import HOUR, MINUTE, TEN, Lab
from calgate.plugin.licensing import Claimant, NoCal
from calgate_cal.planner.curve import one_pass
from calgate_cal.planner.plan import Options, Prepared, prepare
from calgate_cal.planner.recorded import options_of, recorded
from calgate_cal.planner.sources.audit import Window
from support.visits import calendar

License = Callable[..., Awaitable[Lab]]


def told(made: Prepared) -> list[str]:
    return [note.text for note in made.notes]


async def planned(q: Lab, until: float, since: float = 0) -> Prepared:
    """The wishes of the records between two times after ten o'clock."""
    options = options_of(q.config.licenses["q"], Options())
    history = await recorded(q.license_admin, Window(TEN + since, TEN + until), options)
    return prepare(history, options, calendar())


def denied(prepared: Prepared) -> Sequence[int]:
    """The wishes denied with 0, 1, 2, … seats."""
    replays = prepared.replays
    return one_pass(replays.wishes, replays.rules.clocks, replays.rules.named, replays.first).counts().denied()


def lengths(prepared: Prepared) -> list[tuple[str, float, float]]:
    """Each wish's user, beginning in minutes after ten, and length in minutes."""
    wishes = prepared.replays.wishes
    return [(it.user, (it.begin - TEN) / MINUTE, round((it.used - it.begin) / MINUTE, 1)) for it in wishes]


async def test_denials_before_a_grant_are_the_same_wish(license: License) -> None:
    q = await license(session={"in_license": 1})
    ann = await q.hold("ann")
    for minute in (1, 12, 23):
        await q.at(minute * MINUTE)
        assert await q.open("bob") == "no-cal"
    await q.touch(ann)
    await q.at(30 * MINUTE)
    await q.release("ann")
    await q.at(34 * MINUTE)
    bob = await q.hold("bob")
    await q.at(HOUR)
    await q.touch(bob)
    await q.release("bob")
    made = await planned(q, 61 * MINUTE)
    assert lengths(made) == [("ann", 0, 30), ("bob", 1, 26)]
    assert denied(made) == [2, 1, 0]


async def test_grants_that_were_taken_back_are_no_visits(license: License) -> None:
    q = await license(session={"in_license": 1})
    for number in range(9):
        lease = await q.claim(f"u{number}", "mistyped.qvw")
        await q.allocator.settle(lease, served=False)
    await q.open("ann")
    assert await q.open("bob") == "no-cal"
    await q.at(20 * MINUTE)
    await q.release("ann")
    made = await planned(q, HOUR)
    assert made.people == 1
    assert lengths(made) == [("ann", 0, 20), ("bob", 0, 20)]
    assert denied(made) == [2, 1, 0]


async def test_a_denial_of_a_second_machine_is_no_wish_and_is_reported(license: License) -> None:
    q = await license(named={"in_license": 1, "other_client": "refuse"}, session={"in_license": 5})
    await q.license_admin.assign("ann")
    await q.open("ann")
    assert await q.open("ann", client="laptop") == "in-use-elsewhere"
    await q.open("bob")
    made = await planned(q, HOUR)
    assert denied(made) == [1, 0]
    assert "1 denial that more CALs would not have prevented: in-use-elsewhere" in told(made)


async def test_a_denial_by_the_bounds_of_anonymous_browsers_is_no_wish_and_is_reported(license: License) -> None:
    q = await license(session={"in_license": 2}, anonymous={"max": 1})
    for number, address in enumerate(("192.0.2.1", "192.0.2.2")):
        visitor = Claimant(f"anonymous:{number}", f"anonymous-{number}", address, is_anonymous=True)
        with contextlib.suppress(NoCal):
            await q.allocator.settle(await q.allocator.claim("q", visitor, "sales.qvw", reference="r"), served=True)
    made = await planned(q, HOUR)
    assert denied(made) == [1, 0]
    assert "1 denial that more CALs would not have prevented: anonymous-full" in told(made)


async def test_visits_on_usage_cals_are_wishes_for_session_cals(license: License) -> None:
    q = await license(session={"in_license": 1}, usage={"in_license": 10})
    kinds = [await q.open(user) for user in ("ann", "bob", "cid", "dan", "eve")]
    assert kinds == ["session", *["usage"] * 4]
    assert denied(await planned(q, 10 * MINUTE)) == [5, 4, 3, 2, 1, 0]


async def test_grants_by_overdraft_are_wishes_and_reported(license: License) -> None:
    q = await license(session={"in_license": 1, "overdraft": 2})
    for user in ("ann", "bob", "cid"):
        assert await q.open(user) == "session"
    made = await planned(q, MINUTE)
    assert denied(made) == [3, 2, 1, 0]
    assert "2 grants beyond the limit, by overdraft" in told(made)


async def test_visits_begun_before_the_window_are_present_and_do_not_count(license: License) -> None:
    q = await license(session={"in_license": 5})
    for user in ("ann", "bob", "cid", "dan"):
        await q.open(user)
    made = await planned(q, 2 * HOUR, since=10 * MINUTE)
    assert (made.replays.total, made.people, denied(made)) == (0, 0, [0])
    await q.at(20 * MINUTE)
    await q.open("eve")
    made = await planned(q, 2 * HOUR, since=10 * MINUTE)
    assert (made.replays.total, denied(made)) == (1, [1, 1, 1, 1, 1, 0])  # four CALs are taken already


async def test_observe_mode_shows_each_user_once_and_for_the_whole_visit(license: License) -> None:
    q = await license(session={"in_license": 1, "reclaimable_after": "off"}, enforce=False)
    users = ("ann", "bob", "cid", "dan", "eve")
    for minute in range(0, 121, 20):
        await q.at(minute * MINUTE)
        for user in users:
            await q.open(user, f"{minute}.qvw")
    made = await planned(q, 121 * MINUTE)
    assert [length for _, _, length in lengths(made)] == [120] * 5
    assert denied(made) == [5, 4, 3, 2, 1, 0]


async def test_a_wait_in_the_queue_is_one_wish_that_waited(license: License) -> None:
    q = await license(session={"in_license": 1, "idle_timeout": "9h", "reclaimable_after": "off"}, queue=True)
    await q.open("ann")
    for second in range(0, 1200, 20):
        await q.at(second)
        assert await q.open("bob") == "no-cal"
    await q.release("ann")
    await q.at(1200)
    assert await q.open("bob") == "session"
    made = await planned(q, 1300)
    assert denied(made) == [2, 1, 0]
    assert made.replays.at(1).waited == {1: 1180}  # ann signs out then, and an offer is taken at once


async def test_a_user_with_a_named_cal_is_a_wish_of_their_own_visits(license: License) -> None:
    q = await license(named={"in_license": 1}, session={"in_license": 1})
    await q.license_admin.assign("ann")
    lease = await q.hold("ann")
    await q.at(25 * MINUTE)
    await q.touch(lease)
    await q.release("ann")
    await q.at(40 * MINUTE)
    await q.open("ann")
    made = await planned(q, 50 * MINUTE)
    assert [(it.user, it.kind) for it in made.replays.wishes] == [("ann", "named")] * 2
    assert lengths(made) == [("ann", 0, 25), ("ann", 40, 0)]
    assert (made.owners, denied(made)) == (["ann"], [0])
