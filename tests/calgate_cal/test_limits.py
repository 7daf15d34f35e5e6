"""Limits lowered and raised, overdraft, reserves and caps."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cal_model.license import CLOCK, MINUTE, Lab, who
from calgate.plugin.licensing import NoCal
from calgate_cal import lua
from calgate_cal.admin import AdminError
from calgate_cal.allocator import CalAllocator

License = Callable[..., Awaitable[Lab]]


async def test_lowered_limit_takes_nothing_away_and_grants_nothing_until_enough_cals_came_back(
    license: License,
) -> None:
    q = await license(session={"in_license": 3})
    alice = await q.hold("alice")
    for user in ("bob", "carol"):
        await q.open(user)
    await q.license_admin.limit("session", 2)
    assert [await q.open("alice"), await q.open("dave")] == ["session", "no-cal"]
    await q.at(16 * MINUTE)
    await q.touch(alice)
    await q.release("bob")
    assert await q.open("dave") == "no-cal"
    await q.release("carol")
    assert await q.open("dave") == "session"


async def test_limit_is_raised_up_to_the_number_bought_and_no_further(license: License) -> None:
    q = await license(session={"in_license": 2, "limit": 1})
    await q.open("alice")
    assert await q.open("bob") == "no-cal"
    await q.license_admin.limit("session", 2)
    assert await q.open("bob") == "session"
    with pytest.raises(AdminError, match="3 is more than the 2 Session CALs in license"):
        await q.license_admin.limit("session", 3)
    await q.license_admin.limit("session", None)
    assert (await q.license_admin.state()).pools[2].limit == 1


async def test_overdraft_grants_beyond_the_limit_and_is_recorded_as_such(license: License) -> None:
    q = await license(session={"in_license": 1, "overdraft": 1})
    assert [await q.open(user) for user in ("alice", "bob", "carol")] == ["session", "session", "no-cal"]
    assert [entry.get("overdraft") for entry in await q.log() if entry["what"] == "granted"] == [None, "1"]


async def test_reserved_cals_are_granted_to_their_group_only(license: License) -> None:
    q = await license(session={"in_license": 3, "reserve": [{"group": "Chiefs", "cals": 2}]})
    assert await q.open("alice") == "session"
    assert (await q.denial("bob")).pools[0].note == "reserved"
    assert [await q.open(user, groups="Chiefs") for user in ("carol", "dave")] == ["session", "session"]
    assert (await q.denial("erin", groups="Chiefs")).pools[0].note == "full"


async def test_cals_of_group_members_count_towards_their_reserve(license: License) -> None:
    q = await license(session={"in_license": 2, "reserve": [{"group": "Chiefs", "cals": 1}]})
    assert await q.open("carol", groups="Chiefs") == "session"
    assert await q.open("alice") == "session"


async def test_group_holds_at_most_its_maximum_at_once(license: License) -> None:
    q = await license(session={"in_license": 3, "max": [{"group": "Temps", "cals": 1}]})
    assert await q.open("alice", groups="Temps") == "session"
    assert (await q.denial("bob", groups="Temps")).pools[0].note == "capped"
    assert await q.open("carol") == "session"


async def test_user_holds_at_most_their_maximum_at_once_in_any_spelling(license: License) -> None:
    q = await license(session={"in_license": 3, "max": [{"user": "corp\\ALICE", "cals": 1}]})
    assert [await q.open("alice", client=pc) for pc in ("one", "two")] == ["session", "no-cal"]
    assert [await q.open("bob", client=pc) for pc in ("one", "two")] == ["session", "session"]


async def test_released_cal_returns_to_its_share(license: License) -> None:
    q = await license(session={"in_license": 2, "max": [{"group": "Temps", "cals": 1}]})
    await q.open("alice", groups="Temps")
    await q.at(29 * MINUTE)
    await q.open("alice", groups="Temps")
    await q.at(30 * MINUTE)
    await q.release("alice")
    assert await q.open("bob", groups="Temps") == "session"


async def test_idle_cal_is_reclaimed_only_if_that_makes_room(license: License) -> None:
    q = await license(
        session={
            "in_license": 2,
            "max": [{"group": "Temps", "cals": 1}],
            "idle_timeout": "9h",
            "reclaimable_after": "20m",
        }
    )
    await q.open("carol")
    await q.at(1)
    await q.open("alice", groups="Temps")
    await q.at(30 * MINUTE)
    assert await q.open("bob", groups="Temps") == "session"
    assert {holder.user for holder in await q.holders()} == {"carol", "bob"}


async def test_new_terms_apply_from_the_next_claim_with_shares_counted_again(license: License) -> None:
    q = await license(session={"in_license": 3, "reserve": [{"group": "Chiefs", "cals": 1}]})
    await q.open("carol", groups="Chiefs")
    terms: Any = await q.store.redis.hget("calgate:{q}:state", "terms")
    for change in (b'"shared": false', b'"shared": true'):
        new = terms.replace(b'"shared": true', change)
        await q.store.call(f"{lua.VERSION}_configure", q.allocator._keys["q"], ("tester", new))
    assert [await q.open(user) for user in ("alice", "bob", "dave")] == ["session", "session", "no-cal"]


async def test_administrators_change_applies_on_every_gateway_from_its_next_claim(license: License) -> None:
    q = await license(named={"in_license": 2}, document={"in_license": 1}, session={"in_license": 1})
    other = CalAllocator(q.config, q.store, "another gateway", clock=lambda: q.time)
    q.store.library(lua.VERSION, lua.source(clock=CLOCK))

    async def opens(user: str) -> str:
        try:
            lease = await other.claim("q", who(user), "sales.qvw", reference=f"r-{user}")
        except NoCal as no:
            return no.code
        await other.settle(lease, served=True)
        return lease.kind

    assert [await opens(user) for user in ("alice", "bob")] == ["session", "no-cal"]
    await q.license_admin.end("alice", None, force=True)
    assert [await opens(user) for user in ("bob", "alice")] == ["session", "no-cal"]
    await q.license_admin.assign("alice")
    assert await opens("alice") == "named"
    await q.license_admin.remove("alice")
    assert await opens("alice") == "no-cal"
    await q.license_admin.undo("alice")
    assert await opens("alice") == "named"
    await q.license_admin.allocate("sales.qvw", 1)
    await q.license_admin.dynamic("document", True, "sales.qvw")
    assert await opens("carol") == "document"
    await q.license_admin.limit("named", 1)
    await q.license_admin.dynamic("named", True)
    assert await opens("dave") == "no-cal"
    await q.license_admin.limit("named", None)
    assert await opens("dave") == "named"


async def test_pool_that_is_nearly_full_and_full_is_logged(license: License, caplog: pytest.LogCaptureFixture) -> None:
    q = await license(session={"in_license": 10})
    for number in range(10):
        await q.open(f"user{number}")
    assert [record.message for record in caplog.records if "session CALs" in record.message] == [
        "license q: 9 of 10 session CALs are out",
        "license q: all 10 session CALs are out",
    ]
