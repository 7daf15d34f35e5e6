"""A Named CAL whose owner uses a second machine, and a Named CAL that is unused."""

from collections.abc import Awaitable, Callable

from cal_model.license import DAY, MINUTE, Lab

License = Callable[..., Awaitable[Lab]]


async def test_refuse_denies_the_second_machine_while_the_first_is_in_use(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True, "other_client": "refuse"}, session={"in_license": 1})
    await q.open("alice", client="pc")
    assert await q.open("alice", client="laptop") == "in-use-elsewhere"
    await q.at(30 * MINUTE)
    assert await q.open("alice", client="laptop") == "named"


async def test_refuse_lets_the_second_machine_in_once_the_first_has_signed_out(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True, "other_client": "refuse"})
    await q.open("alice", client="pc")
    await q.release("alice", client="pc")
    assert await q.open("alice", client="laptop") == "named"


async def test_take_over_serves_the_second_machine_and_tells_the_first_why_once(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True, "other_client": "take-over"})
    first = await q.hold("alice", client="pc")
    assert await q.open("alice", client="laptop") == "named"
    assert await q.touch(first) == ["taken-over"]
    assert (await q.denial("alice", client="pc")).code == "taken-over"
    assert await q.open("alice", client="pc") == "named"


async def test_allow_serves_both_machines(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    first = await q.hold("alice", client="pc")
    assert await q.open("alice", client="laptop") == "named"
    assert await q.touch(first) == []


async def test_dynamic_named_cal_unused_for_n_days_is_returned(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True, "return_after": "30d"})
    lease = await q.hold("alice")
    await q.at(29 * DAY)
    assert await q.touch(lease) == []
    await q.at(59 * DAY - 0.001)
    assert await q.open("bob") == "no-cal"
    await q.at(59 * DAY)
    assert await q.open("bob") == "named"


async def test_named_cal_returned_sooner_than_the_quarantine_is_quarantined_until_then(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True, "return_after": "2d", "quarantine": "7d"})
    await q.open("alice")
    await q.at(2 * DAY)
    assert (await q.denial("alice")).pools[0].note == "quarantined"
    await q.at(7 * DAY - 0.001)
    assert await q.open("bob") == "no-cal"
    await q.at(7 * DAY)
    assert await q.open("bob") == "named"


async def test_named_cal_assigned_by_an_administrator_is_never_returned(license: License) -> None:
    q = await license(named={"in_license": 1, "return_after": "2d"})
    await q.license_admin.assign("alice")
    await q.open("alice")
    await q.at(100 * DAY)
    assert await q.open("alice") == "named"
