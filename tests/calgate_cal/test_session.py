"""Session CALs: taken when a document is opened, held for a minimum, freed by sign-out or idleness."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from cal_model.license import MINUTE, Lab, who
from calgate.plugin.licensing import NoCal, Released

License = Callable[..., Awaitable[Lab]]


async def test_tabs_of_one_client_share_a_cal_and_two_machines_are_two(license: License) -> None:
    q = await license(session={"in_license": 2})
    assert [await q.open("bob"), await q.open("bob", "other.qvw"), await q.open("bob", client="laptop")] == [
        "session"
    ] * 3
    assert await q.occupied() == {"session": 2}
    assert await q.open("bob", client="phone") == "no-cal"


async def test_ten_concurrent_requests_of_one_browser_make_one_grant(license: License) -> None:
    q = await license(session={"in_license": 5})
    leases = await asyncio.gather(*(q.claim("bob") for _ in range(10)))
    assert len({lease.id for lease in leases}) == 1
    assert await q.occupied() == {"session": 1}
    assert [entry["what"] for entry in await q.log()] == ["granted"]


async def test_session_cal_signed_out_at_14_59_is_occupied_until_15_00(license: License) -> None:
    q = await license(session={"in_license": 1})
    await q.open("bob")
    await q.at(14 * MINUTE + 59)
    await q.release("bob")
    await q.at(15 * MINUTE - 0.001)
    assert await q.open("carol") == "no-cal"
    await q.at(15 * MINUTE)
    assert await q.open("carol") == "session"


async def test_session_cal_signed_out_at_15_01_is_free_at_once(license: License) -> None:
    q = await license(session={"in_license": 1})
    lease = await q.hold("bob")
    await q.at(15 * MINUTE + 1)
    await q.touch(lease)
    await q.release("bob")
    assert await q.open("carol") == "session"


async def test_session_cal_idle_from_minute_5_is_free_at_minute_35(license: License) -> None:
    q = await license(session={"in_license": 1, "reclaimable_after": "off"})
    lease = await q.hold("bob")
    await q.at(5 * MINUTE)
    await q.touch(lease)
    await q.at(35 * MINUTE - 0.001)
    assert await q.open("carol") == "no-cal"
    await q.at(35 * MINUTE)
    assert await q.open("carol") == "session"


async def test_activity_counts_from_when_it_happened_not_from_when_it_is_reported(license: License) -> None:
    q = await license(session={"in_license": 1, "reclaimable_after": "off"})
    lease = await q.hold("bob")
    await q.at(20 * MINUTE)
    assert await q.touch(lease, ago=10 * MINUTE) == []
    await q.at(40 * MINUTE - 0.001)
    assert await q.open("carol") == "no-cal"
    await q.at(40 * MINUTE)
    assert await q.open("carol") == "session"


async def test_user_who_returns_before_the_release_gets_the_same_cal_with_its_clock_running_on(
    license: License,
) -> None:
    q = await license(session={"in_license": 1})
    first = await q.claim("bob")
    await q.allocator.settle(first, served=True)
    await q.at(10 * MINUTE)
    await q.release("bob")
    await q.at(12 * MINUTE)
    again = await q.claim("bob")
    assert again.id == first.id
    await q.at(15 * MINUTE)
    await q.release("bob")
    assert await q.open("carol") == "session"


async def test_second_sign_out_does_not_restart_the_minimum(license: License) -> None:
    q = await license(session={"in_license": 1})
    await q.open("bob")
    for minute in (5, 10, 14):
        await q.at(minute * MINUTE)
        await q.release("bob")
    await q.at(15 * MINUTE)
    assert await q.open("carol") == "session"


async def test_maximum_ends_an_active_session_cal(license: License) -> None:
    q = await license(session={"in_license": 1, "maximum": "1h"})
    lease = await q.hold("bob")
    for minute in (20, 40, 59):
        await q.at(minute * MINUTE)
        assert await q.touch(lease) == []
    await q.at(60 * MINUTE)
    assert await q.touch(lease) == ["ended"]
    assert await q.open("carol") == "session"


async def test_least_recently_used_cal_is_reclaimed_for_a_user_who_would_be_denied(license: License) -> None:
    q = await license(session={"in_license": 2, "idle_timeout": "2h", "reclaimable_after": "20m"})
    bob, carol = await q.hold("bob"), await q.hold("carol")
    await q.at(5 * MINUTE)
    await q.touch(carol)
    await q.at(6 * MINUTE)
    await q.touch(bob)
    await q.at(25 * MINUTE - 0.001)
    assert await q.open("dave") == "no-cal"
    await q.at(25 * MINUTE)
    assert await q.open("dave") == "session"
    assert await q.touch(carol, ago=1) == ["ended"]
    assert await q.touch(bob) == []


async def test_idle_cal_is_not_reclaimed_before_its_minimum(license: License) -> None:
    q = await license(session={"in_license": 1, "reclaimable_after": "5m"})
    await q.open("bob")
    await q.at(15 * MINUTE - 0.001)
    assert await q.open("carol") == "no-cal"
    await q.at(15 * MINUTE)
    assert await q.open("carol") == "session"


async def test_lease_has_its_end_on_the_gateways_own_clock(license: License) -> None:
    q = await license(session={"in_license": 1})
    await q.open("bob")
    q.time += 1000  # this machine's clock is wrong; the store's is not
    lease = await q.claim("bob")
    assert lease.until == q.time + 30 * MINUTE


async def test_denial_has_the_pools_and_when_a_cal_can_come_free(license: License) -> None:
    q = await license(session={"in_license": 1}, contact="bi@corp.example")
    await q.open("bob")
    await q.at(5 * MINUTE)
    no = await q.denial("carol")
    assert [(pool.kind, pool.limit, pool.occupied, pool.note) for pool in no.pools] == [("session", 1, 1, "full")]
    assert no.free_at == q.time + 25 * MINUTE
    assert (no.code, no.contact, no.license, no.document, no.place) == (
        "no-cal",
        "bi@corp.example",
        "q",
        "sales.qvw",
        None,
    )
    record = (await q.log())[-1]
    told = [record[name] for name in ("what", "name", "document", "reference")]
    assert told == ["denied", "CORP\\carol", "sales.qvw", "r2"]
    assert '"occupied":1' in record["pools"]


async def test_grant_is_taken_back_as_unused_when_the_document_server_refused(license: License) -> None:
    q = await license(session={"in_license": 1})
    lease = await q.claim("bob", "mistyped.qvw")
    assert lease.provisional
    await q.allocator.settle(lease, served=False)
    assert await q.occupied() == {}
    assert (await q.log())[-1]["what"] == "taken-back"


async def test_grant_is_kept_while_another_request_is_under_way_or_was_served(license: License) -> None:
    q = await license(session={"in_license": 1})
    first, second, third = await q.claim("bob"), await q.claim("bob", "mistyped.qvw"), await q.claim("bob")
    await q.allocator.settle(second, served=False)
    assert await q.occupied() == {"session": 1}
    await q.allocator.settle(first, served=True)
    await q.allocator.settle(third, served=False)
    assert await q.occupied() == {"session": 1}


@pytest.mark.parametrize(
    ("answers", "out"),
    [
        ("?", {"session": 1}),
        ("?-", {}),
        ("-?", {}),
        ("?+", {"session": 1}),
        ("-?+", {"session": 1}),
        ("??-", {}),
        ("+-?", {"session": 1}),
    ],
)
async def test_inconclusive_response_leaves_the_lease_to_the_other_requests_in_any_order(
    license: License, answers: str, out: dict[str, int]
) -> None:
    q = await license(session={"in_license": 1})
    requests = [(await q.claim("bob"), answer) for answer in answers]
    for lease, answer in requests:
        await q.allocator.settle(lease, served={"+": True, "-": False, "?": None}[answer])
    assert await q.occupied() == out
    await q.at(10 * MINUTE)
    assert await q.occupied() == (out if "+" in answers else {})


async def test_later_request_decides_a_provisional_lease_again(license: License) -> None:
    q = await license(session={"in_license": 1})
    page, refused = await q.claim("bob"), await q.claim("bob", "mistyped.qvw")
    await q.allocator.settle(refused, served=False)
    again = await q.claim("bob")
    await q.allocator.settle(page, served=None)
    await q.allocator.settle(again, served=None)
    assert await q.occupied() == {"session": 1}


async def test_request_repeated_after_a_lost_reply_is_settled_once(license: License) -> None:
    q = await license(session={"in_license": 1})
    lease = await q.claim("bob", reference="same")
    assert await q.claim("bob", reference="same") == lease
    await q.allocator.settle(lease, served=False)
    assert await q.occupied() == {}


async def test_grant_is_taken_back_after_ten_minutes_when_its_gateway_died_before_the_response(
    license: License,
) -> None:
    q = await license(session={"in_license": 1})
    await q.claim("bob")
    await q.at(10 * MINUTE - 0.001)
    assert await q.open("carol") == "no-cal"
    await q.at(10 * MINUTE)
    assert await q.open("carol") == "session"


async def test_exempt_user_takes_no_cal_in_any_spelling(license: License) -> None:
    q = await license(session={"in_license": 1}, exempt={"users": ["corp\\Monitor"], "paths": ["/health"]})
    lease = await q.claim("MONITOR")
    assert (lease.kind, lease.provisional) == ("exempt", False)
    assert await q.touch(lease) == []
    assert await q.occupied() == {}
    assert q.allocator.licenses["q"].exempt_paths == ("/health",)


async def test_names_with_a_separator_are_never_mistaken_for_each_other(license: License) -> None:
    q = await license(session={"in_license": 2})
    for user, client in (("a|b", "c"), ("a", "b|c")):
        await q.allocator.claim("q", who(user, client), "d", reference="r")
    assert await q.occupied() == {"session": 2}


async def test_empty_store_gets_the_terms_at_the_first_claim(license: License) -> None:
    q = await license(session={"in_license": 1})
    await q.store.redis.flushall()
    await q.at(0)
    assert await q.open("bob") == "session"
    with pytest.raises(NoCal):
        await q.claim("carol")


async def test_held_lease_is_looked_up_without_taking_or_renewing_one(license: License) -> None:
    q = await license(session={"in_license": 1, "reclaimable_after": "off"})
    assert await q.allocator.held("q", who("bob"), "sales.qvw") is None
    await q.claim("bob")
    asked_for = await q.allocator.held("q", who("bob"), "sales.qvw")
    assert asked_for is not None
    assert (asked_for.provisional, asked_for.reference) == (True, "")
    lease = await q.hold("bob")
    await q.at(10 * MINUTE)
    held = await q.allocator.held("q", who("bob"), "sales.qvw")
    assert held is not None
    assert (held.id, held.kind, held.provisional) == (lease.id, "session", False)
    await q.at(30 * MINUTE)
    assert await q.allocator.held("q", who("bob"), "sales.qvw") is None


async def test_denial_counts_the_cals_beyond_a_lowered_limit_before_one_comes_free(license: License) -> None:
    q = await license(session={"in_license": 3, "reclaimable_after": "off"})
    for minute, user in enumerate(("alice", "bob", "carol")):
        await q.at(minute * MINUTE)
        await q.open(user)
    assert (await q.denial("dave")).free_at == q.time + 28 * MINUTE  # alice's
    await q.license_admin.limit("session", 2)
    assert (await q.denial("dave")).free_at == q.time + 29 * MINUTE  # bob's
    await q.license_admin.limit("session", 1)
    assert (await q.denial("dave")).free_at == q.time + 30 * MINUTE  # carol's
    await q.license_admin.limit("session", 0)
    assert (await q.denial("dave")).free_at is None


async def test_sign_out_tells_what_becomes_of_the_cal(license: License) -> None:
    q = await license(named={"in_license": 1}, session={"in_license": 2})
    await q.license_admin.assign("alice")
    for user in ("alice", "bob"):
        await q.open(user)
    assert await q.release("alice") == Released("q", "named")
    assert await q.release("bob") == Released("q", "session", q.time + 15 * MINUTE)
    assert await q.release("nina") == Released("q", "")
    await q.open("carol")
    await q.at(16 * MINUTE)
    assert await q.release("carol") == Released("q", "session")


async def test_provisional_lease_keeps_a_bounded_number_of_pending_requests(license: License) -> None:
    q = await license(session={"in_license": 1})
    for _ in range(300):
        lease = await q.claim("bob")
    (holder,) = [json.loads(text) for text in (await q.license_admin._read("holders", "0", 10))[1:]]
    assert len(holder["pending"]) == 100
    await q.allocator.settle(lease, served=True)
    assert [it.state for it in await q.holders()] == ["held"]


async def test_session_cal_ended_after_its_minimum_is_free_at_once(license: License) -> None:
    q = await license(session={"in_license": 1})
    await q.open("alice")
    await q.at(16 * MINUTE)
    assert [until for _, until in await q.license_admin.end("alice", None, force=False)] == [None]
    assert await q.open("bob") == "session"
