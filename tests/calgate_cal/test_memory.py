"""Data that the store loses, by a failover or by age, and leases that must not come back."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cal_model.freeze_version import SETTINGS, live
from cal_model.license import HOUR, MINUTE, Lab
from calgate.plugin.errors import Unavailable
from calgate.plugin.licensing import Activity
from calgate_cal import lua

License = Callable[..., Awaitable[Lab]]
KEY = "calgate:{q}:"


async def forget(q: Lab, field: str, kind: str) -> None:
    """Deletes a lease as a failover does that lost the last writes."""
    await q.store.redis.hdel(f"{KEY}leases", field)
    for key in (kind, "idle", "used"):
        await q.store.redis.zrem(f"{KEY}{key}", field)


async def test_forgotten_lease_returns_to_its_holder_even_beyond_the_limit(license: License) -> None:
    q = await license(session={"in_license": 1})
    lease = await q.hold("alice")
    await forget(q, "session|alice|pc", "session")
    assert await q.open("bob") == "session"
    assert (await q.hold("alice")).id == lease.id
    assert await q.occupied() == {"session": 2}
    assert await q.open("carol") == "no-cal"
    assert "reasserted" in [entry["what"] for entry in await q.log()]


async def test_forgotten_lease_is_reasserted_by_a_report_of_its_use(license: License) -> None:
    q = await license(session={"in_license": 1})
    lease = await q.hold("alice")
    await forget(q, "session|alice|pc", "session")
    await q.at(MINUTE)
    assert await q.touch(lease) == []
    assert [(it.id, it.last_used) for it in await q.holders()] == [(lease.id, q.time)]


async def test_kind_without_cals_is_searched_again_after_a_lease_of_it_was_reasserted(
    license: License,
) -> None:
    q = await license(named={"in_license": 1, "dynamic": True}, session={"in_license": 1})
    lease = await q.hold("alice")
    await forget(q, "named|alice", "named")
    terms: Any = await q.store.redis.hget(f"{KEY}state", "terms")
    none = json.loads(terms)
    none["named"] |= {"in_license": 0, "limit": 0}
    await q.store.call(f"{lua.VERSION}_configure", q.allocator._keys["q"], ("tester", json.dumps(none)))
    assert await q.open("bob") == "session"
    assert await q.touch(lease) == []
    q.allocator._known.forget(lease)
    assert (await q.hold("alice")).id == lease.id


async def test_ended_lease_does_not_come_back_when_a_gateway_still_knows_it(license: License) -> None:
    q = await license(named={"in_license": 1}, session={"in_license": 1})
    session = await q.hold("alice")
    await q.license_admin.end("alice", None, force=True)
    assert await q.touch(session) == ["ended"]
    assert (await q.hold("alice")).id != session.id
    await q.license_admin.assign("bob")
    named = await q.claim("bob")
    await q.license_admin.remove("bob")
    await q.at(8 * 24 * HOUR)
    assert await q.allocator.touch([Activity(named, q.time)]) != []
    assert await q.occupied() == {}


async def test_forgotten_lease_whose_time_is_over_does_not_come_back(license: License) -> None:
    q = await license(session={"in_license": 1})
    lease = await q.hold("alice")
    await forget(q, "session|alice|pc", "session")
    await q.at(30 * MINUTE)
    assert await q.touch(lease, ago=30 * MINUTE) == ["ended"]


async def test_gateway_is_trusted_for_an_hour_after_the_stores_last_confirmation(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    lease = await q.hold("alice")
    await forget(q, "named|alice", "named")
    await q.at(HOUR)
    assert await q.touch(lease) == ["ended"]


async def test_records_are_kept_as_long_as_the_settings_say(license: License) -> None:
    q = await license(session={"in_license": 0})
    q.store.audit_keep = HOUR
    await q.allocator.configure()
    for _ in range(300):
        await q.open("alice")
    await q.at(HOUR - 1)
    await q.open("alice")
    assert len(await q.log()) > 300
    await q.at(2 * HOUR)
    await q.store.call(f"{lua.VERSION}_tend", q.allocator._keys["q"], (1,))
    assert len(await q.log()) < 200  # whole blocks of the stream go


async def test_due_leases_are_recorded_as_ended_by_tending(license: License) -> None:
    q = await license(session={"in_license": 3})
    for user in ("alice", "bob"):
        await q.open(user)
    await q.at(10 * HOUR)
    assert await q.occupied() == {}
    await q.store.call(f"{lua.VERSION}_tend", q.allocator._keys["q"], (1,))
    assert [entry["what"] for entry in await q.log()].count("expired") == 1
    await q.store.call(f"{lua.VERSION}_tend", q.allocator._keys["q"], (1,))
    assert [(entry["what"], entry["ended"]) for entry in (await q.log())[-2:]] == [
        ("expired", str(round((q.time - 10 * HOUR + 30 * MINUTE) * 1000))),
    ] * 2


async def test_no_key_has_an_expiry(license: License) -> None:
    q = await license(**SETTINGS)
    await live(q)
    keys = [key async for key in q.store.redis.scan_iter(f"{KEY}*")]
    assert len(keys) > 10
    assert {await q.store.redis.pttl(key) for key in keys} == {-1}


async def test_store_out_of_memory_grants_nothing_and_leaves_nothing_half_done(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True}, session={"in_license": 1}, queue=True)
    await q.store.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable):
            await q.claim("alice")
    finally:
        await q.store.redis.config_set("maxmemory", 0)
    assert (await q.log(), await q.holders()) == ([], [])
    assert await q.open("alice") == "named"
