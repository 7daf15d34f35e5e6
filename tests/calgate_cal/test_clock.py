"""The store's clock: after a failover it can be a little behind, and a clock that was wrong must not stop CALs."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import pytest

from cal_model.license import HOUR, MINUTE, TEN, Lab
from calgate_cal import lua

License = Callable[..., Awaitable[Lab]]


async def tend(q: Lab) -> None:
    await q.store.call(f"{lua.VERSION}_tend", lua.keys(q.store.prefix, "q"), (100,))


async def test_clock_steps_back_a_little_time_stands_still_at_the_newest_record(license: License) -> None:
    q = await license(session={"in_license": 1})
    await q.at(60)
    await q.open("bob")
    await q.at(0)
    assert await q.open("carol") == "no-cal"
    assert (await q.license_admin.state()).now == TEN + 60


async def test_clock_was_two_hours_ahead_its_session_cals_come_free_like_others(license: License) -> None:
    q = await license(session={"in_license": 2, "reclaimable_after": "off"})
    await q.open("alice")
    await q.at(2 * HOUR)
    await q.open("bob")
    await q.at(MINUTE)
    assert (await q.license_admin.state()).now == q.time
    await tend(q)
    assert [(holder.user, holder.last_used) for holder in await q.holders()] == [("alice", TEN), ("bob", q.time)]
    await q.at(30 * MINUTE)
    assert [await q.open("carol"), await q.open("dave")] == ["session", "no-cal"]
    await q.at(31 * MINUTE)
    assert await q.open("dave") == "session"


async def test_tending_records_how_many_cals_had_times_of_a_wrong_clock(license: License) -> None:
    q = await license(session={"in_license": 2})
    await q.at(2 * HOUR)
    await q.open("bob")
    await q.at(0)
    for _ in range(2):
        await tend(q)
    (entry,) = [it for it in await q.log() if it["what"] == "times-corrected"]
    assert (entry["cals"], entry["ahead"]) == ("1", str(round(2 * HOUR * 1000)))


@pytest.mark.parametrize("ahead", [61, 10 * MINUTE, 2 * HOUR, 10 * 365 * 24 * HOUR])
async def test_clock_was_ahead_however_far_the_license_goes_on(license: License, ahead: float) -> None:
    q = await license(named={"in_license": 1, "dynamic": True}, session={"in_license": 1}, usage={"in_license": 1})
    await q.at(ahead)
    await q.open("alice")
    await q.at(0)
    assert await q.open("bob") == "session"
    await q.at(30 * MINUTE)
    assert await q.open("carol") == "session"  # no 28-day Usage CAL


async def test_records_written_after_a_clock_was_ahead_have_their_own_time(license: License) -> None:
    q = await license(session={"in_license": 2})
    await q.at(2 * HOUR)
    await q.open("alice")
    await q.at(MINUTE)
    await q.open("bob")
    records = [record async for record in q.license_admin.records(0)]
    assert [(it["user"], it.at - TEN) for it in records if it.what == "granted"] == [
        ("alice", 2 * HOUR),
        ("bob", MINUTE),
    ]


async def test_record_that_only_the_stream_knows_does_not_stop_the_license(license: License) -> None:
    q = await license(session={"in_license": 1})
    await q.store.redis.xadd("calgate:{q}:audit", {"what": "kept"}, id=f"{round((q.time + 2 * HOUR) * 1000)}-0")
    assert await q.open("alice") == "session"
    await q.at(30 * MINUTE)
    assert await q.open("bob") == "session"
    assert await q.license_admin.set_clock() is not None
    stream = await q.store.redis.xinfo_stream("calgate:{q}:audit")
    assert int(stream["last-generated-id"].partition(b"-")[0]) == round(q.time * 1000)


async def test_tending_gateway_warns_of_a_clock_that_was_ahead_once_in_ten_minutes(
    license: License, caplog: pytest.LogCaptureFixture
) -> None:
    q = await license(session={"in_license": 1})
    await q.at(2 * HOUR)
    await q.open("alice")
    await q.at(0)
    with caplog.at_level(logging.WARNING, "calgate_cal"):
        tending = asyncio.create_task(q.allocator.tend(0.01))
        while not caplog.messages:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        tending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tending
    warned = [message for message in caplog.messages if "ahead of the store's clock" in message]
    assert len(warned) == 1
    assert "7200 s ahead" in warned[0]
    assert "calgate cals clock --license q" in warned[0]


async def test_administrator_sets_the_clock_records_and_leases_return_to_the_present(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True}, session={"in_license": 1})
    await q.at(2 * HOUR)
    for user in ("alice", "bob"):
        await q.open(user)
    await q.at(MINUTE)
    before = {(holder.user, holder.id) for holder in await q.holders()}
    assert await q.license_admin.set_clock() == (2, 4)  # granted and kept, twice
    assert {(holder.user, holder.id) for holder in await q.holders()} == before
    assert {holder.last_used for holder in await q.holders()} == {q.time}
    stream = await q.store.redis.xinfo_stream("calgate:{q}:audit")
    assert int(stream["last-generated-id"].partition(b"-")[0]) == round(q.time * 1000)
    await q.at(2 * MINUTE)
    await q.open("bob")
    records = [record async for record in q.license_admin.records(0)]
    assert [it.what for it in records] == ["configured", "granted", "kept", "granted", "kept", "clock-set"]
    assert records[-1]["by"] == "admin"
    assert {it["lease"] for it in records if it.what == "granted"} == {lease for _, lease in before}


async def test_clock_that_was_never_ahead_needs_no_setting(license: License) -> None:
    q = await license(session={"in_license": 1})
    await q.open("alice")
    await q.at(1)
    assert await q.license_admin.set_clock() is None
