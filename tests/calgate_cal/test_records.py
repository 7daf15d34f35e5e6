"""The records, from which the planner works out who needed which CAL, and for how long."""

from collections.abc import Awaitable, Callable
from typing import Any

from cal_model.license import DAY, HOUR, MINUTE, TEN, Lab
from calgate_cal import lua
from calgate_cal.audit import Record, replay

License = Callable[..., Awaitable[Lab]]


async def records(q: Lab, *what: str) -> list[dict[str, str]]:
    return [entry for entry in await q.log() if entry["what"] in what]


def ms(seconds: float) -> str:
    """As a record has it: seconds after ten o'clock."""
    return str(round((TEN + seconds) * 1000))


def visit(entry: dict[str, str]) -> tuple[str, ...]:
    return tuple(entry[name] for name in ("kind", "user", "client", "since", "used"))


async def test_named_cal_visit_is_recorded_at_sign_out(license: License) -> None:
    q = await license(named={"in_license": 1})
    await q.license_admin.assign("alice")
    lease = await q.hold("alice")
    await q.at(20 * MINUTE)
    await q.touch(lease, ago=60)
    await q.release("alice")
    (entry,) = await records(q, "visited")
    assert visit(entry) == ("named", "alice", "pc", ms(0), ms(19 * MINUTE))
    assert entry["lease"] == lease.id
    await q.at(21 * MINUTE)
    await q.release("alice")
    assert len(await records(q, "visited")) == 1


async def test_named_cal_visit_is_recorded_at_the_first_use_after_the_idle_timeout(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    lease = await q.hold("alice")
    await q.at(29 * MINUTE)
    await q.touch(lease)
    assert await records(q, "visited") == []
    await q.at(59 * MINUTE)
    await q.touch(lease)
    assert [visit(it) for it in await records(q, "visited")] == [("named", "alice", "pc", ms(0), ms(29 * MINUTE))]
    await q.at(5 * HOUR)
    await q.open("alice")
    assert visit((await records(q, "visited"))[1]) == ("named", "alice", "pc", ms(59 * MINUTE), ms(59 * MINUTE))


async def test_two_machines_of_one_named_user_are_two_visits(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    pc = await q.hold("alice")
    await q.at(5 * MINUTE)
    laptop = await q.hold("alice", client="laptop")
    for minute in (10, 20, 30):
        await q.at(minute * MINUTE)
        await q.touch(pc)
        await q.at((minute + 1) * MINUTE)
        await q.touch(laptop)
    await q.release("alice", client="pc")
    await q.at(33 * MINUTE)
    await q.release("alice", client="laptop")
    assert [visit(it) for it in await records(q, "visited")] == [
        ("named", "alice", "pc", ms(0), ms(30 * MINUTE)),
        ("named", "alice", "laptop", ms(5 * MINUTE), ms(31 * MINUTE)),
    ]


async def test_document_cal_visit_is_recorded_at_sign_out_and_at_removal(license: License) -> None:
    q = await license(document={"in_license": 2, "dynamic": True})
    for document in ("sales.qvw", "hr.qvw"):
        await q.license_admin.allocate(document, 1)
        await q.open("alice", document)
    await q.at(MINUTE)
    await q.license_admin.remove("alice", "hr.qvw")
    await q.release("alice")
    visits = await records(q, "visited")
    assert [(it["document"], it["client"], it["used"]) for it in visits] == [
        ("hr.qvw", "pc", ms(0)),
        ("sales.qvw", "pc", ms(0)),
    ]
    assert [key for key in await q.store.redis.hkeys("calgate:{q}:leases") if b"@visits" in key] == []


async def test_open_visit_is_kept_in_the_lease(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    await q.open("alice")
    (holder,) = await q.holders()
    assert [(it.client, it.since) for it in holder.visits] == [("pc", TEN)]


async def test_grant_that_was_taken_back_is_no_visit(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True})
    lease = await q.claim("alice", "mistyped.qvw")
    await q.allocator.settle(lease, served=False)
    assert [entry["what"] for entry in await q.log()] == ["granted", "taken-back"]


async def test_every_end_has_the_last_use(license: License) -> None:
    q = await license(named={"in_license": 1, "dynamic": True, "dynamic_for": ["A"]}, session={"in_license": 3})
    await q.open("ann", groups="A")
    leases = {user: await q.hold(user) for user in ("bob", "cid", "dan")}
    await q.at(5 * MINUTE)
    await q.touch(*leases.values())
    await q.at(10 * MINUTE)
    await q.release("bob")
    await q.license_admin.end("cid", None, force=True)
    await q.license_admin.remove("ann")
    await q.at(8 * DAY)
    await q.store.call(f"{lua.VERSION}_tend", lua.keys(q.store.prefix, "q"), (100,))
    ends = [(it["what"], it["user"], it["used"]) for it in await q.log() if "ended" in it]
    assert sorted(ends) == [
        ("ended", "cid", ms(5 * MINUTE)),
        ("expired", "ann", ms(0)),
        ("expired", "dan", ms(5 * MINUTE)),
        ("released", "bob", ms(5 * MINUTE)),
    ]
    assert [it["used"] for it in await records(q, "signed-out", "removed")] == [ms(5 * MINUTE), ms(0)]


async def test_spent_usage_cal_keeps_its_last_use(license: License) -> None:
    q = await license(usage={"in_license": 2})
    lease = await q.hold("alice")
    await q.at(50 * MINUTE)
    await q.touch(lease)
    await q.at(HOUR)
    await q.open("alice")
    assert [(it.state, it.last_used) for it in await q.holders()] == [
        ("spent", TEN + 50 * MINUTE),
        ("held", TEN + HOUR),
    ]


# ---------------------------------------------------------------- the queue


async def test_waiting_page_polls_write_no_further_denial(license: License) -> None:
    q = await license(session={"in_license": 1, "idle_timeout": "9h", "reclaimable_after": "off"}, queue=True)
    await q.open("alice")
    for second in range(0, 1200, 20):
        await q.at(second)
        assert (await q.denial("bob")).place == 1
    await q.release("alice")
    assert await q.stands("bob") == (1, "session")
    await q.at(1200)
    assert await q.open("bob") == "session"
    told = [entry for entry in await q.log() if entry.get("user") == "bob"]
    assert [entry["what"] for entry in told] == ["denied", "waits", "offered", "granted", "kept"]
    assert [entry.get("waited") for entry in told] == [None, None, "1180000", "1200000", None]


async def test_two_waiting_pages_of_one_browser_are_denied_once_each(license: License) -> None:
    q = await license(session={"in_license": 1, "idle_timeout": "9h", "reclaimable_after": "off"}, queue=True)
    await q.open("alice")
    for second in range(0, 200, 10):
        await q.at(second)
        await q.denial("bob", "sales.qvw")
        await q.denial("bob", "hr.qvw")
    assert [it["document"] for it in await records(q, "denied")] == ["sales.qvw", "hr.qvw"]
    assert len(await records(q, "waits")) == 1


async def test_user_who_stops_polling_gave_up_and_one_who_misses_the_offer_kept_away(license: License) -> None:
    q = await license(session={"in_license": 1}, queue=True)
    await q.open("alice")
    await q.denial("bob")
    await q.at(20)
    await q.denial("carol")
    await q.at(31)
    assert await q.stands("bob") is None
    await q.at(45)
    await q.denial("carol")
    await q.license_admin.end("alice", None, force=True)
    assert await q.stands("carol") == (1, "session")
    await q.at(105)
    assert await q.stands("carol") is None
    ends = await records(q, "gave-up", "kept-away")
    assert [(it["what"], it["user"], it["waited"]) for it in ends] == [
        ("gave-up", "bob", "31000"),
        ("kept-away", "carol", "85000"),
    ]


async def test_wait_that_ends_with_an_assigned_cal_is_recorded_with_its_time(license: License) -> None:
    q = await license(named={"in_license": 1}, session={"in_license": 1}, queue=True)
    await q.open("alice")
    await q.denial("bob")
    await q.license_admin.assign("bob")
    await q.at(10)
    assert await q.open("bob") == "named"
    (entry,) = await records(q, "let-in")
    assert (entry["user"], entry["kind"], entry["waited"]) == ("bob", "named", "10000")


async def test_queue_that_is_switched_off_ends_every_wait(license: License) -> None:
    settings: dict[str, Any] = {"session": {"in_license": 1}}
    q = await license(**settings, queue=True)
    await q.open("alice")
    await q.denial("bob")
    off = Lab(q.store, settings)
    await off.allocator.configure()
    assert [it["user"] for it in await records(q, "gave-up")] == ["bob"]
    assert await off.license_admin.queue() == []


# ---------------------------------------------------------------- observe mode


async def test_observe_mode_grants_beyond_the_limit_and_records_the_denial_once(license: License) -> None:
    q = await license(session={"in_license": 1, "reclaimable_after": "off"}, enforce=False)
    assert await q.open("bob") == "session"
    lease = await q.claim("carol")
    assert lease.kind == "unenforced"
    await q.allocator.settle(lease, served=True)
    for minute in (11, 22, 33):
        await q.at(minute * MINUTE)
        assert await q.touch(lease) == []
        assert await q.open("carol", f"{minute}.qvw") == "unenforced"
    told = [(entry["what"], entry.get("beyond")) for entry in await q.log() if entry["user"] == "carol"]
    assert told == [("would-deny", None), ("granted", "1"), ("kept", None)]
    assert [(holder.user, holder.beyond) for holder in await q.holders()] == [("carol", True)]
    await q.at(63 * MINUTE)
    await q.store.call(f"{lua.VERSION}_tend", lua.keys(q.store.prefix, "q"), (100,))
    (end,) = [entry for entry in await q.log() if entry["what"] == "expired" and entry["user"] == "carol"]
    assert (end["used"], end["ended"]) == (ms(33 * MINUTE), ms(63 * MINUTE))


async def test_observe_mode_decides_as_if_nothing_were_beyond_the_limit(license: License) -> None:
    q = await license(session={"in_license": 1, "max": [{"group": "Temps", "cals": 1}]}, enforce=False)
    assert [await q.open(user, groups="Temps") for user in ("ann", "bob", "cid")] == [
        "session",
        "unenforced",
        "unenforced",
    ]
    pool = (await q.license_admin.state()).pools[2]
    assert (pool.occupied, pool.beyond, pool.free) == (1, 2, 0)
    await q.license_admin.end("ann", None, force=True)
    assert await q.open("dan", groups="Temps") == "session"


async def test_observe_mode_shows_the_need_of_a_license_without_session_cals(license: License) -> None:
    q = await license(named={"in_license": 1}, enforce=False)
    assert [await q.open("ann"), await q.open("ann", "hr.qvw")] == ["unenforced", "unenforced"]
    assert [(it["user"], it["kind"]) for it in await records(q, "granted")] == [("ann", "session")]


async def test_enforcement_switched_on_leaves_the_cals_of_observe_mode_to_their_holders(license: License) -> None:
    settings: dict[str, Any] = {"session": {"in_license": 1}}
    q = await license(**settings, enforce=False)
    assert [await q.open(user) for user in ("ann", "bob")] == ["session", "unenforced"]
    enforced = Lab(q.store, settings)
    await enforced.allocator.configure()
    assert await enforced.occupied() == {"session": 2}
    assert [await enforced.open(user) for user in ("bob", "cid")] == ["session", "no-cal"]


# ---------------------------------------------------------------- groups, names


async def test_record_has_the_groups_that_the_decision_depended_on(license: License) -> None:
    q = await license(session={"in_license": 1, "reserve": [{"group": "Chiefs", "cals": 1}]})
    await q.open("carol", groups="Chiefs Others")
    await q.denial("dave")
    assert [it.get("groups") for it in await records(q, "granted", "denied")] == ["Chiefs", None]


def test_record_with_a_time_of_its_own_counts_at_that_time() -> None:
    late = Record("7200000-0", 60.0, "granted", {"user": "ann", "kind": "session", "at": "60000"})
    assert [span.since for span in replay([late]).out.values()] == [60.0]
