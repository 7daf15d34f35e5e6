"""Anonymous CALs: Session CALs of browsers on public routes, where nobody signs in."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cal_model.license import MINUTE, SALES, TEN, Lab
from calgate.plugin import Bars, ConsoleContext, Inputs, Services, Table, Visitor
from calgate.plugin.licensing import Activity, Claimant, Lease, NoCal
from calgate_cal import report, report_page
from calgate_cal.anonymous import MOST_UNSERVED, UnservedClaims, network_of
from calgate_cal.planner.plan import Options, prepare
from calgate_cal.planner.recorded import options_of, recorded
from calgate_cal.planner.sources.audit import Window
from calgate_cal.screens import screens
from support.visits import calendar

License = Callable[..., Awaitable[Lab]]


def visitor(number: int, address: str = "192.0.2.1") -> Claimant:
    return Claimant(f"anonymous:{number:06}", f"anonymous-{number:06}", address, is_anonymous=True)


async def claim(q: Lab, claimant: Claimant, document: str = SALES) -> Lease:
    return await q.allocator.claim("q", claimant, document, reference=f"r-{claimant.user}")


async def visit(q: Lab, claimant: Claimant, document: str = SALES) -> str:
    """Claims, and the document server serves: returns the kind of CAL, or the code of the denial."""
    try:
        lease = await claim(q, claimant, document)
    except NoCal as no:
        return no.code
    await q.allocator.settle(lease, served=True)
    return lease.kind


async def test_anonymous_browsers_get_session_cals_up_to_max_which_are_part_of_the_limit(license: License) -> None:
    q = await license(session={"in_license": 3}, anonymous={"max": 2, "per_address": 9})
    assert [await visit(q, visitor(number)) for number in (1, 1, 2, 3)] == [
        "session",
        "session",
        "session",
        "anonymous-full",
    ]
    assert await q.occupied() == {"session": 2}
    assert [await q.open(user) for user in ("bob", "carol")] == ["session", "no-cal"]
    [session] = [pool for pool in await q.allocator.pools("q") if pool.kind == "session"]
    assert (session.occupied, session.anonymous) == (3, 2)


async def test_anonymous_browser_gets_no_other_kind_and_nothing_that_is_beyond_the_limit(license: License) -> None:
    q = await license(
        named={"in_license": 2, "dynamic": True},
        usage={"in_license": 2},
        session={"in_license": 1, "overdraft": 1},
        anonymous={"max": 1},
    )
    assert await q.open("bob", client="pc") == "named"
    assert await visit(q, visitor(1)) == "session"
    assert await visit(q, visitor(2)) == "none-for-anonymous"
    assert await q.occupied() == {"named": 1, "session": 1}


async def test_browsers_at_one_address_hold_per_address_and_one_of_another_address_gets_its_own(
    license: License,
) -> None:
    q = await license(session={"in_license": 9}, anonymous={"max": 4, "per_address": 2})
    assert [await visit(q, visitor(number)) for number in (1, 2, 3)] == ["session", "session", "address-full"]
    assert await visit(q, visitor(4, "2001:db8:1:2::1")) == "session"
    assert await visit(q, visitor(5, "2001:db8:1:2:ffff::9")) == "session"
    assert await visit(q, visitor(6, "2001:db8:1:2:aaaa::9")) == "anonymous-full"
    await q.allocator.release("q", visitor(1))
    await q.at(15 * MINUTE)
    assert await visit(q, visitor(7, "2001:db8:1:2:bbbb::9")) == "address-full"
    assert await visit(q, visitor(8, "::ffff:192.0.2.1")) == "session"


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not an address", "unknown"),
    ],
)
def test_network_of_an_anonymous_claimant_is_its_address_or_the_first_half_of_it(client: str, network: str) -> None:
    assert network_of(visitor(1, client)) == network
    assert network_of(Claimant("S-1-5-21-1", "CORP\\bob", client)) == ""


async def test_anonymous_browser_is_never_queued_and_overtakes_nobody_who_waits(license: License) -> None:
    q = await license(session={"in_license": 1}, anonymous={"max": 1}, queue=True)
    await q.open("bob")
    assert (await q.denial("carol")).place == 1
    with pytest.raises(NoCal) as denied:
        await claim(q, visitor(1))
    assert (denied.value.code, denied.value.place, denied.value.pools) == ("none-for-anonymous", None, ())
    assert len(await q.license_admin.queue()) == 1
    await q.license_admin.end("bob", None, force=True)
    assert await visit(q, visitor(1)) == "none-for-anonymous", "the CAL is kept for the user who waits"
    assert await q.open("carol") == "session"


async def test_anonymous_browser_takes_no_cal_that_a_user_left_idle_and_loses_its_own_idle_one(
    license: License,
) -> None:
    q = await license(session={"in_license": 1, "reclaimable_after": "5m", "minimum": "1m"}, anonymous={"max": 1})
    await q.open("bob")
    await q.at(10 * MINUTE)
    assert await visit(q, visitor(1)) == "none-for-anonymous"
    await q.at(40 * MINUTE)
    assert await visit(q, visitor(1)) == "session"
    await q.at(50 * MINUTE)
    assert await q.open("bob") == "session"
    assert (await q.log())[-2]["what"] == "granted"
    assert [holder.user for holder in await q.holders()] == ["bob"]


async def test_reserved_cals_are_kept_from_anonymous_browsers(license: License) -> None:
    q = await license(session={"in_license": 2, "reserve": [{"group": "Board", "cals": 1}]}, anonymous={"max": 2})
    assert [await visit(q, visitor(number)) for number in (1, 2)] == ["session", "none-for-anonymous"]
    assert await q.open("bob", groups="Board") == "session"


async def test_anonymous_cal_comes_back_like_others_and_after_a_failover_to_its_own_browser(license: License) -> None:
    q = await license(session={"in_license": 2, "minimum": "1m"}, anonymous={"max": 1})
    lease = await claim(q, visitor(1))
    await q.allocator.settle(lease, served=True)
    lease = replace(lease, provisional=False, reference="")
    await q.store.redis.flushall()  # a replica that has nothing yet
    await q.at(MINUTE)
    assert await q.allocator.touch([Activity(lease, q.time)]) == []
    assert await visit(q, visitor(2)) == "anonymous-full", "the reasserted lease counts as an anonymous one"
    await q.at(31 * MINUTE)
    assert await visit(q, visitor(2)) == "session"


async def test_observe_mode_serves_an_anonymous_browser_beyond_the_bounds_without_a_lease(license: License) -> None:
    q = await license(session={"in_license": 1}, anonymous={"max": 1}, enforce=False)
    assert [await visit(q, visitor(number)) for number in (1, 2, 3)] == ["session", "unenforced", "unenforced"]
    assert len(await q.holders()) == 1, "strangers cannot fill the store with leases"
    assert [entry["what"] for entry in await q.log()][-1] == "would-deny"
    assert (await q.allocator.held("q", visitor(2), SALES)) is not None


async def test_lists_and_records_tell_anonymous_holders_from_users(license: License) -> None:
    q = await license(session={"in_license": 3}, anonymous={"max": 1})
    await q.open("bob")
    await q.at(1)
    await visit(q, visitor(1))
    await visit(q, visitor(2))
    assert [(holder.name, holder.client, holder.anonymous) for holder in await q.holders()] == [
        ("CORP\\bob", "pc", False),
        ("anonymous-000001", "192.0.2.1", True),
    ]
    denied = (await q.log())[-1]
    assert (denied["what"], denied["name"], denied["client"]) == ("denied", "anonymous-000002", "192.0.2.1")
    [session] = [pool for pool in json.loads(denied["pools"]) if pool["kind"] == "session"]
    assert session["note"] == "anonymous-full"
    [(holder, _)] = await q.license_admin.end("anonymous-000001", None, force=True)
    assert holder.user == "anonymous:000001"


async def test_anonymous_claims_get_nothing_when_the_setting_is_gone(license: License) -> None:
    q = await license(session={"in_license": 3})
    assert await visit(q, visitor(1)) == "anonymous-full"
    assert q.allocator.licenses["q"].anonymous == 0


async def test_denials_of_one_network_are_recorded_once_a_minute_so_that_strangers_cannot_fill_the_stream(
    license: License,
) -> None:
    q = await license(session={"in_license": 3}, anonymous={"max": 1})
    await visit(q, visitor(1))
    before = len(await q.log())
    for number in range(2, 9):
        assert await visit(q, visitor(number)) == "anonymous-full"
    assert len(await q.log()) == before + 1
    assert await visit(q, visitor(9, "192.0.2.9")) == "anonymous-full"
    await q.at(MINUTE)
    assert await visit(q, visitor(2)) == "anonymous-full"
    assert len(await q.log()) == before + 3
    await q.at(10 * MINUTE)
    await q.tend()
    assert await q.store.redis.zcard("calgate:{q}:ended") == 0


async def test_console_and_report_show_anonymous_browsers_with_the_others(license: License, tmp_path: Path) -> None:
    q = await license(session={"in_license": 3}, anonymous={"max": 1})
    await q.open("bob")
    await visit(q, visitor(1))
    services = Services(q.store, tmp_path, directory=q.people)
    shown = {screen.path: screen for screen in screens(ConsoleContext(q.config, services))}
    who = Visitor("CORP\\root", "root", "admin", "10.0.0.1")
    overview = await shown["overview"].show(who, Inputs({}))
    [session] = [bar for part in overview.parts if isinstance(part, Bars) for bar in part.bars]
    assert (session.label, session.used, session.note) == ("Session", 2, "1 anonymous")
    holders = await shown["holders"].show(who, Inputs({"search": "anonymous"}))
    [row] = [row for part in holders.parts if isinstance(part, Table) for row in part.rows]
    assert (row["client"], "anonymous-000001" in str(row["user"])) == ("192.0.2.1", True)
    window = Window(TEN - MINUTE, TEN + MINUTE)
    options = options_of(q.license_admin.license, Options())
    prepared = prepare(await recorded(q.license_admin, window, options), options, calendar())
    records = [record async for record in q.license_admin.records(window.since, window.until)]
    made = report.make("q", records, await q.holders(), prepared, window, calendar(), {"session": 3})
    assert prepared.people == 1
    assert "1 browser without sign-in: they need Session CALs in every mix" in [note.text for note in prepared.notes]
    assert [(use.kind, use.users, use.browsers, use.peak) for use in made.uses] == [("session", 1, 1, 2)]
    assert "<td>1</td><td>1</td><td>2</td>" in report_page.html(made, calendar())


async def test_claims_for_documents_that_are_not_there_write_a_bounded_number_of_records(license: License) -> None:
    q = await license(session={"in_license": 3}, anonymous={"max": 3})
    q.allocator._unserved = UnservedClaims(lambda: 1_000_000.0)
    for number in range(MOST_UNSERVED):
        lease = await claim(q, visitor(number % 3), f"missing-{number}.qvw")
        await q.allocator.settle(lease, served=False)
    for number in range(MOST_UNSERVED):
        with pytest.raises(NoCal, match=r"too many claims from 192\.0\.2\.1") as refused:
            await claim(q, visitor(number % 3), f"missing-{number}.qvw")
        assert refused.value.code == "address-full"
    assert len(await q.log()) == 2 * MOST_UNSERVED
    assert await visit(q, visitor(9, "198.51.100.7")) == "session"
    assert await q.open("bob") == "session"
    q.allocator._unserved = UnservedClaims(lambda: 1_000_060.0)
    assert await visit(q, visitor(1)) == "session"


def test_unserved_claims_are_counted_by_network_and_minute_in_a_bounded_table() -> None:
    now = 1_000_000.0
    unserved = UnservedClaims(lambda: now)
    for number in range(5000):
        for _ in range(MOST_UNSERVED if number == 1 else 1):
            unserved.note(visitor(number, f"10.0.{number // 250}.{number % 250}"))
    assert len(unserved._counts) <= 4097
    assert unserved.are_too_many(visitor(1, "10.0.0.1"))
    assert not unserved.are_too_many(visitor(2, "10.0.0.2"))
    assert unserved.are_too_many(visitor(3, "203.0.113.9")), "the networks that found no place count as one"
    assert not unserved.are_too_many(Claimant("S-1-5-21-1", "CORP\\bob", "10.0.0.1"))
    now += 60
    assert not unserved.are_too_many(visitor(1, "10.0.0.1"))
