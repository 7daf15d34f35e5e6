"""The queue: first come, first served; positions kept by polling; offers that stand a minute."""

from collections.abc import Awaitable, Callable

import pytest

from cal_model.license import MINUTE, Lab
from calgate_cal import lua
from calgate_cal.admin import AdminError, LicenseAdmin

License = Callable[..., Awaitable[Lab]]


@pytest.fixture
async def full(license: License) -> Lab:
    """Alice has the only Session CAL, past its minimum; bob and then carol wait."""
    q = await license(session={"in_license": 1}, queue=True)
    await q.open("alice")
    await q.at(16 * MINUTE)
    await q.open("alice")
    assert [(await q.denial(user)).place for user in ("bob", "carol")] == [1, 2]
    return q


async def test_estimate_comes_from_the_clocks_of_the_occupied_cals(full: Lab) -> None:
    told = [await full.denial(user) for user in ("bob", "carol")]
    assert [(no.place, no.estimate) for no in told] == [(1, full.time + 30 * MINUTE), (2, None)]


async def test_polling_waiter_keeps_the_position(full: Lab) -> None:
    lease = await full.hold("alice")
    for _ in range(10):
        await full.at(full.time - 1_768_039_200 + 29)
        await full.touch(lease)
        assert [(await full.denial(user)).place for user in ("bob", "carol")] == [1, 2]


async def test_waiter_loses_the_position_after_30_seconds_without_a_poll(full: Lab) -> None:
    await full.at(16 * MINUTE + 10)
    await full.denial("carol")
    await full.at(16 * MINUTE + 30)
    assert await full.stands("bob") is None
    assert (await full.denial("carol")).place == 1
    assert (await full.denial("bob")).place == 2


async def test_freed_cal_is_offered_to_the_first_waiter_and_newcomers_do_not_overtake(full: Lab) -> None:
    await full.release("alice")
    assert (await full.denial("dave")).pools[0].note == "promised"
    assert (await full.denial("carol")).place == 2
    assert await full.stands("bob") == (1, "session")
    assert await full.open("bob") == "session"
    assert await full.stands("bob") is None


async def test_last_holder_does_not_overtake_after_signing_out(full: Lab) -> None:
    await full.release("alice")
    assert (await full.denial("alice")).place == 3


async def test_offer_stands_a_minute_and_then_goes_to_the_next_waiter(full: Lab) -> None:
    await full.release("alice")
    assert await full.stands("bob") == (1, "session")
    for second in (20, 40, 59.999):
        await full.at(16 * MINUTE + second)
        assert (await full.denial("carol")).place == 2
    await full.at(17 * MINUTE)
    assert await full.stands("carol") == (1, "session")
    assert await full.stands("bob") is None
    assert await full.open("carol") == "session"


async def test_offer_passes_to_the_next_waiter_when_the_first_browser_went_away(full: Lab) -> None:
    await full.at(16 * MINUTE + 10)
    await full.denial("carol")
    await full.at(16 * MINUTE + 31)  # bob's browser is gone
    await full.release("alice")
    assert await full.stands("carol") == (1, "session")
    assert await full.open("carol") == "session"


async def test_idle_cal_is_reclaimed_for_the_first_waiter(license: License) -> None:
    q = await license(session={"in_license": 1, "idle_timeout": "9h", "reclaimable_after": "20m"}, queue=True)
    await q.open("alice")
    await q.at(20 * MINUTE - 1)
    await q.denial("bob")
    await q.at(20 * MINUTE)
    assert (await q.denial("carol")).place == 2
    assert await q.stands("bob") == (1, "session")


async def test_reserved_cals_serve_the_first_waiter_of_their_group(license: License) -> None:
    q = await license(session={"in_license": 2, "reserve": [{"group": "Chiefs", "cals": 1}]}, queue=True)
    await q.open("alice")
    await q.open("boss", groups="Chiefs")
    await q.at(16 * MINUTE)
    for user in ("alice", "boss"):
        await q.open(user, groups="Chiefs" if user == "boss" else "")
    assert (await q.denial("bob")).place == 1
    assert (await q.denial("chief", groups="Chiefs")).place == 2
    await q.release("boss")
    assert await q.stands("chief") == (2, "session")
    assert await q.stands("bob") == (1, None)
    assert (await q.denial("bob")).estimate == q.time + 30 * MINUTE


async def test_sign_out_gives_up_the_position(full: Lab) -> None:
    await full.release("bob")
    assert await full.stands("bob") is None
    assert (await full.denial("carol")).place == 1


async def test_dismissed_waiter_makes_way_and_joins_again_at_the_end(full: Lab) -> None:
    await full.license_admin.dismiss("bob", "pc")
    assert [(one.user, one.place) for one in await full.license_admin.queue()] == [("carol", 1)]
    assert (await full.denial("bob")).place == 2


async def test_offer_of_a_dismissed_waiter_goes_to_the_next(full: Lab) -> None:
    await full.release("alice")
    assert await full.stands("bob") == (1, "session")
    await full.license_admin.dismiss("bob", "pc")
    assert await full.stands("carol") == (1, "session")
    assert await full.open("carol") == "session"


async def test_dismissal_is_recorded_with_the_wait_the_administrator_and_the_reason(full: Lab) -> None:
    await full.at(16 * MINUTE + 20)
    admin = LicenseAdmin(
        "q", full.license_admin.license, full.store, None, "CORP\\smith (console, ::1)", reason="left their desk"
    )
    await admin.dismiss("bob", "pc")
    record = (await full.log())[-1]
    assert (record["what"], record["name"], record["client"]) == ("gave-up", "CORP\\bob", "pc")
    assert (record["waited"], record["by"]) == ("20000", "CORP\\smith (console, ::1)")
    assert record["reason"] == "left their desk"


async def test_dismissal_of_a_user_who_does_not_wait_changes_nothing(full: Lab) -> None:
    before = await full.log()
    for user, client in (("bob", "laptop"), ("alice", "pc"), ("dave", "pc")):
        with pytest.raises(AdminError, match="do not wait"):
            await full.license_admin.dismiss(user, client)
    assert await full.log() == before
    assert await full.stands("bob") == (1, None)


async def test_waiter_who_is_assigned_a_cal_gets_it_at_the_next_poll(license: License) -> None:
    q = await license(named={"in_license": 1}, session={"in_license": 1}, queue=True)
    await q.open("alice")
    await q.denial("bob")
    await q.license_admin.assign("bob")
    assert await q.open("bob") == "named"
    assert await q.license_admin.queue() == []


async def test_offer_made_impossible_by_a_lowered_limit_is_taken_back_and_the_position_kept(full: Lab) -> None:
    await full.release("alice")
    assert await full.stands("bob") == (1, "session")
    await full.license_admin.limit("session", 0)
    assert await full.stands("bob") == (1, None)
    await full.license_admin.limit("session", None)
    assert await full.stands("bob") == (1, "session")


async def test_offer_is_made_by_tending_without_a_claim(full: Lab) -> None:
    await full.release("alice")
    await full.store.call(f"{lua.VERSION}_tend", full.allocator._keys["q"], (100,))
    assert [(waiting.user, waiting.offer) for waiting in await full.license_admin.queue()] == [
        ("bob", "session"),
        ("carol", None),
    ]


async def test_license_without_a_queue_has_no_waiters(license: License) -> None:
    q = await license(session={"in_license": 1})
    await q.open("alice")
    assert (await q.denial("bob")).place is None
    assert await q.license_admin.queue() == []


async def test_one_user_cannot_fill_the_queue(license: License) -> None:
    q = await license(session={"in_license": 1}, queue=True)
    await q.open("alice")
    places = [(await q.denial("bob", client=f"browser{number}")).place for number in range(20)]
    assert places == [1, 2, 3, *[None] * 17]
    assert (await q.denial("carol")).place == 4
    await q.release("bob", client="browser0")
    assert (await q.denial("bob", client="browser9")).place == 4


async def test_positions_of_one_user_are_counted_again_after_new_terms(license: License) -> None:
    q = await license(session={"in_license": 1}, queue=True)
    await q.open("alice")
    for number in range(3):
        await q.denial("bob", client=f"browser{number}")
    terms = await q.store.redis.hget("calgate:{q}:state", "terms")
    new = f" {terms.decode()}" if isinstance(terms, bytes) else ""
    await q.store.call(f"{lua.VERSION}_configure", q.allocator._keys["q"], ("tester", new))
    assert (await q.denial("bob", client="browser9")).place is None


async def test_granted_cal_says_how_long_its_user_waited_and_polls_are_told_from_denials(full: Lab) -> None:
    assert await full.allocator.waiting("q") == 2
    assert (await full.denial("bob")).is_poll
    assert not (await full.denial("dave")).is_poll
    await full.release("alice")
    await full.at(16 * MINUTE + 20)
    assert (await full.claim("bob")).waited == 20
    assert (await full.claim("bob")).waited is None
    assert await full.allocator.waiting("q") == 2
