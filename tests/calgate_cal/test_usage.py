"""Usage CALs: an hour of one document, taken from the pool for 28 days."""

from collections.abc import Awaitable, Callable

from cal_model.license import DAY, HOUR, MINUTE, Lab

License = Callable[..., Awaitable[Lab]]


async def test_usage_cal_serves_its_user_and_document_for_60_minutes_on_any_machine(license: License) -> None:
    q = await license(usage={"in_license": 1})
    lease = await q.hold("alice")
    assert lease.until == q.time + HOUR
    await q.at(HOUR - 0.001)
    assert [await q.open("alice"), await q.open("alice", client="laptop")] == ["usage", "usage"]
    assert await q.open("alice", "hr.qvw") == "no-cal"
    assert await q.open("bob") == "no-cal"


async def test_activity_in_minute_61_takes_another_usage_cal(license: License) -> None:
    q = await license(usage={"in_license": 2})
    lease = await q.hold("alice")
    await q.at(HOUR)
    assert await q.touch(lease) == ["hour-over"]
    assert await q.open("alice") == "usage"
    assert await q.occupied() == {"usage": 2}
    assert sorted(holder.state for holder in await q.holders()) == ["held", "spent"]


async def test_activity_in_minute_61_is_denied_when_no_usage_cal_is_left(license: License) -> None:
    q = await license(usage={"in_license": 1})
    await q.open("alice")
    await q.at(HOUR)
    no = await q.denial("alice")
    assert (no.pools[0].note, no.free_at) == ("full", q.time - HOUR + 28 * DAY)


async def test_usage_cal_occupies_the_pool_for_exactly_28_days_from_its_beginning(license: License) -> None:
    q = await license(usage={"in_license": 1})
    await q.open("alice")
    await q.at(10 * MINUTE)
    await q.open("alice")
    await q.at(28 * DAY - 0.001)
    assert await q.open("bob") == "no-cal"
    await q.at(28 * DAY)
    assert await q.open("bob") == "usage"


async def test_usage_cal_is_not_occupied_for_28_days_when_the_document_server_refused(license: License) -> None:
    q = await license(usage={"in_license": 1})
    lease = await q.claim("alice", "mistyped.qvw")
    await q.allocator.settle(lease, served=False)
    assert await q.open("alice") == "usage"
