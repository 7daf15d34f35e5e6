"""Named CALs: assigned, by an administrator or dynamically; removed, quarantined, given back."""

from collections.abc import Awaitable, Callable

import pytest

from cal_model.license import DAY, HOUR, MINUTE, TEN, Lab
from calgate.plugin.services import Event
from calgate_cal.admin import AdminError

License = Callable[..., Awaitable[Lab]]
NOON_OF_THE_TENTH = 2 * HOUR


async def test_assigned_named_cal_serves_every_document_on_every_machine(license: License) -> None:
    q = await license(named={"in_license": 1})
    assert await q.license_admin.assign("CORP\\Alice") == "CORP\\alice"
    assert [await q.open("alice"), await q.open("alice", "b.qvw"), await q.open("alice", client="laptop")] == [
        "named"
    ] * 3
    assert await q.occupied() == {"named": 1}
    assert (await q.denial("bob")).pools[0].note == "not-assigned"


async def test_dynamic_assignment_is_permanent(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    lease = await q.claim("alice")
    assert (lease.kind, lease.provisional, lease.until) == ("named", True, None)
    await q.allocator.settle(lease, served=True)
    await q.at(1000 * DAY)
    assert await q.open("alice") == "named"
    assert (await q.denial("bob")).pools[0].note == "full"


async def test_dynamic_for_restricts_dynamic_assignment_to_groups(license: License) -> None:
    q = await license(named={"in_license": 2, "dynamic": True, "dynamic_for": ["Analysts", "Chiefs"]})
    assert q.allocator.groups == {"Analysts", "Chiefs"}
    assert (await q.denial("bob", groups="Sales")).pools[0].note == "not-assigned"
    assert await q.open("alice", groups="Sales Chiefs") == "named"


async def test_mistyped_document_does_not_use_up_a_named_cal(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    lease = await q.claim("alice", "mistyped.qvw")
    await q.allocator.settle(lease, served=False)
    assert await q.open("bob") == "named"


async def test_named_cal_is_taken_back_after_its_gateway_died_before_the_response(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    await q.claim("alice")
    await q.at(10 * MINUTE)
    assert await q.open("bob") == "named"


async def test_session_cal_comes_back_when_its_holder_is_assigned_a_named_cal(license: License) -> None:
    q = await license(named={"in_license": 1}, session={"in_license": 1})
    assert await q.open("alice") == "session"
    await q.license_admin.assign("alice")
    await q.at(5 * MINUTE)
    assert await q.open("alice") == "named"
    await q.at(15 * MINUTE - 0.001)
    assert await q.open("bob") == "no-cal"
    await q.at(15 * MINUTE)
    assert await q.open("bob") == "session"


async def test_unused_named_cal_is_free_at_once_after_removal_without_undo(license: License) -> None:
    q = await license(named={"in_license": 1})
    await q.license_admin.assign("alice")
    assert await q.license_admin.remove("alice") == ("CORP\\alice", None)
    assert await q.occupied() == {}
    with pytest.raises(AdminError, match="no Named CAL in quarantine"):
        await q.license_admin.undo("alice")


async def test_named_cal_used_on_the_10th_and_removed_on_the_12th_is_free_on_the_17th_at_noon(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True, "quarantine": "7d"})
    await q.at(NOON_OF_THE_TENTH)
    await q.open("alice")
    await q.at(NOON_OF_THE_TENTH + 2 * DAY)
    assert await q.license_admin.remove("alice") == ("CORP\\alice", TEN + NOON_OF_THE_TENTH + 7 * DAY)
    await q.at(NOON_OF_THE_TENTH + 7 * DAY - 0.001)
    assert (await q.denial("bob")).pools[0].note == "full"
    assert (await q.denial("alice")).pools[0].note == "quarantined"
    await q.at(NOON_OF_THE_TENTH + 7 * DAY)
    assert await q.open("bob") == "named"


async def test_named_cal_used_longer_ago_than_the_quarantine_is_free_at_once(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True, "quarantine": "1d"})
    await q.open("alice")
    await q.at(1 * DAY)
    assert await q.license_admin.remove("alice") == ("CORP\\alice", None)
    assert await q.open("bob") == "named"


async def test_removal_can_be_undone_during_the_quarantine(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    await q.open("alice")
    await q.license_admin.remove("alice")
    await q.at(6 * DAY)
    assert await q.license_admin.undo("alice") == "CORP\\alice"
    assert await q.open("alice") == "named"
    await q.at(100 * DAY)
    assert await q.open("alice") == "named"


async def test_quarantined_named_cal_serves_nobody_and_its_former_owner_goes_on_to_later_steps(
    license: License,
) -> None:
    q = await license(named={"in_license": 2, "dynamic": True}, session={"in_license": 1})
    await q.open("alice")
    await q.license_admin.remove("alice")
    assert await q.open("alice") == "session"
    assert await q.occupied() == {"named": 1, "session": 1}


async def test_removal_is_published_to_every_gateway_in_the_same_step(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    heard: list[Event] = []
    q.store.listen(heard.append)
    lease = await q.hold("alice")
    await q.license_admin.remove("alice")
    while not heard:
        await q.store.ping()
    assert heard == [Event("lease-lost", lease.id, "removed")]
    assert await q.touch(lease) == ["removed"]


async def test_impossible_change_is_refused_with_its_reason_and_changes_nothing(license: License) -> None:
    q = await license(named={"in_license": 1})
    await q.license_admin.assign("alice")
    before = await q.log()
    for order, reason in (
        (q.license_admin.assign("alice"), "has a Named CAL already"),
        (q.license_admin.assign("bob"), "no Named CAL is free: all 1"),
        (q.license_admin.assign("nobody"), "knows nobody called nobody"),
        (q.license_admin.assign("OTHER\\alice"), "knows nobody"),
        (q.license_admin.remove("bob"), "has no Named CAL"),
        (q.license_admin.undo("alice"), "has not been removed"),
    ):
        with pytest.raises(AdminError, match=reason):
            await order
    assert await q.log() == before


async def test_change_is_recorded_with_its_author(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    await q.license_admin.assign("alice")
    await q.open("alice")
    await q.license_admin.remove("alice")
    await q.license_admin.undo("alice")
    changes = [(entry["what"], entry["by"], entry["name"]) for entry in await q.log() if "by" in entry]
    assert changes == [(what, "admin", "CORP\\alice") for what in ("assigned", "removed", "undone")]


async def test_holder_who_left_the_directory_is_found_among_the_holders(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    await q.open("norbert")
    assert (await q.license_admin.remove("corp\\NORBERT"))[0] == "CORP\\norbert"


async def test_named_cal_assigned_to_a_user_at_work_releases_their_session_cals_at_once(license: License) -> None:
    q = await license(named={"in_license": 1}, session={"in_license": 2})
    leases = [await q.hold("alice", client=client) for client in ("pc", "laptop")]
    await q.at(20 * MINUTE)
    await q.license_admin.assign("alice")
    assert [await q.open(user) for user in ("bob", "carol")] == ["session", "session"]
    assert await q.touch(*leases) == ["ended", "ended"]
    assert await q.open("alice") == "named"


async def test_named_cal_assigned_within_the_minimum_leaves_the_session_cal_until_it_is_over(license: License) -> None:
    q = await license(named={"in_license": 1}, session={"in_license": 1})
    lease = await q.hold("alice")
    await q.license_admin.assign("alice")
    assert await q.touch(lease) == ["signed-out"]
    await q.at(15 * MINUTE - 0.001)
    assert await q.open("bob") == "no-cal"
    await q.at(15 * MINUTE)
    assert await q.open("bob") == "session"
