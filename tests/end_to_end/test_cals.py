"""CALs through a running gateway: grants, denials with their reasons, and grants that survive a crash."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from support.gateway_process import (
    DocumentServer,
    Exchange,
    Gateway,
    calgate,
    cookie_of,
    curl,
    gateway,
    has_status,
    write_settings,
)
from support.redis_servers import KINDS, Server
from support.waiting import until

DYNAMIC = (
    'named = { in_license = 2, dynamic = true, dynamic_for = ["DEMO\\\\app-users"] }\nsession = { in_license = 0 }'
)


async def pools(settings: Path) -> dict[str, int]:
    """How many CALs of each kind are out."""
    code, out, err = await calgate("cals", "list", "-c", str(settings), "--json")
    assert code == 0, err
    return {pool["kind"]: pool["occupied"] for pool in json.loads(out)["pools"]}


async def holders(settings: Path) -> list[tuple[str, str]]:
    """(kind, user) of every CAL that is out."""
    _, out, _ = await calgate("cals", "list", "-c", str(settings), "--json")
    return sorted((holder["kind"], holder["name"]) for holder in json.loads(out)["holders"])


async def test_portal_takes_no_cal_and_a_document_takes_one(gate: Gateway) -> None:
    assert (await curl(f"{gate.url}/portal", user="bob")).status == 200
    assert await holders(gate.settings) == []
    assert (await curl(f"{gate.url}/docs/sales", user="bob")).status == 200
    assert await holders(gate.settings) == [("session", "DEMO\\bob")]


async def test_one_too_many_is_told_the_true_reason_and_nobodys_name(gate: Gateway, server: DocumentServer) -> None:
    for name in ("bob", "carol"):
        assert (await curl(f"{gate.url}/docs/sales", user=name)).status == 200
    reached = len(server.seen)
    denied = await curl(f"{gate.url}/docs/sales", user="dave")
    assert (denied.status, denied.json["code"]) == (403, "no-cal")
    session = next(pool for pool in denied.json["pools"] if pool["kind"] == "session")  # type: ignore[attr-defined]
    assert (session["occupied"], session["limit"], session["note"]) == (2, 2, "full")
    assert denied.json["free_at"]
    assert denied.json["contact"] == "help@demo.example"
    assert b"bob" not in denied.body.lower()
    assert len(server.seen) == reached, "the request never reaches the document server"
    (entry,) = gate.decisions("no CAL")
    assert entry["reference"] == denied.json["reference"]


async def test_denied_user_is_signed_in(gate: Gateway, server: DocumentServer) -> None:
    """The denial carries the session's cookie: asking again needs no new handshake."""
    for name in ("bob", "carol"):
        await curl(f"{gate.url}/docs/sales", user=name)
    denied = await curl(f"{gate.url}/docs/sales", user="dave")
    cookie = denied.values("set-cookie")[0].partition(";")[0]
    again = await curl(f"{gate.url}/docs/sales", "-H", f"Cookie: {cookie}")
    assert (again.status, again.json["code"]) == (403, "no-cal")
    assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status == 200


async def test_refused_user_never_touches_a_cal(gate: Gateway) -> None:
    assert (await curl(f"{gate.url}/docs/sales", user="mallory")).json["code"] == "forbidden"
    assert await pools(gate.settings) == {"named": 0, "document": 0, "session": 0, "usage": 0}
    assert gate.decisions("CAL") == []


async def test_assigned_named_cal_serves_before_any_other(gate: Gateway) -> None:
    code, out, err = await calgate("cals", "assign", "alice", "-c", str(gate.settings))
    assert code == 0, err
    assert "DEMO\\alice" in out
    assert (await curl(f"{gate.url}/docs/sales", user="alice")).status == 200
    assert await holders(gate.settings) == [("named", "DEMO\\alice")]


async def test_unknown_user_cannot_be_assigned(gate: Gateway) -> None:
    code, _, err = await calgate("cals", "assign", "nobody", "-c", str(gate.settings))
    assert code == 1
    assert "nobody" in err
    assert "Traceback" not in err


async def test_twenty_first_requests_at_once_take_one_cal(gate: Gateway) -> None:
    replies = await asyncio.gather(*(curl(f"{gate.url}/docs/sales", user="bob") for _ in range(20)))
    assert [reply.status for reply in replies] == [200] * 20
    assert await holders(gate.settings) == [("session", "DEMO\\bob")]


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_fifty_processes_racing_for_six_cals_never_hold_seven(
    server: DocumentServer, tmp_path: Path, kind: str
) -> None:
    users = [f"user{number}" for number in range(50)]
    store = Server(tmp_path / "store", KINDS[kind], appendonly="yes").start()
    pools_of_six = "session = { in_license = 6 }"
    options = {"users": users, "license": pools_of_six, "store": f'url = "{store.url}"'}
    (tmp_path / "other").mkdir()
    one = write_settings(tmp_path, server.port, **options)  # type: ignore[arg-type]
    two = write_settings(tmp_path / "other", server.port, **options)  # type: ignore[arg-type]
    try:
        async with gateway(one) as first, gateway(two) as second:
            asked = (
                curl(f"{(first, second)[number % 2].url}/docs/sales", user=name) for number, name in enumerate(users)
            )
            replies = await asyncio.gather(*asked)
            assert sorted(reply.status for reply in replies) == [200] * 6 + [403] * 44
            assert (await pools(one))["session"] == 6
    finally:
        store.stop()


async def test_mistyped_document_burns_no_permanent_cal(server: DocumentServer, tmp_path: Path) -> None:
    async def not_found(exchange: Exchange) -> None:
        await exchange.answer(b"no such document", status="404 Not Found")

    async with gateway(write_settings(tmp_path, server.port, license=DYNAMIC)) as gate:
        server.behaviour = not_found
        assert (await curl(f"{gate.url}/docs/slaes", user="alice")).status == 404
        for _ in range(50):
            if (await pools(gate.settings))["named"] == 0:
                break
        assert await holders(gate.settings) == []
        server.behaviour = Exchange.answer
        assert (await curl(f"{gate.url}/docs/sales", user="alice")).status == 200
        assert await holders(gate.settings) == [("named", "DEMO\\alice")]


async def test_client_that_goes_away_before_the_answer_burns_none(server: DocumentServer, tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def never(exchange: Exchange) -> None:
        asked.set()
        await exchange.reader.read()

    async with gateway(write_settings(tmp_path, server.port, license=DYNAMIC)) as gate:
        cookie = await cookie_of(gate, "alice")
        server.behaviour = never
        _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(f"GET /docs/sales HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\n\r\n".encode())
        await asked.wait()
        writer.close()
        for _ in range(50):
            if (await pools(gate.settings))["named"] == 0:
                break
        assert await holders(gate.settings) == []


@pytest.mark.parametrize("path", ["/docs/a", "/docs/a/poll"])
async def test_client_that_disconnects_keeps_the_cal_that_serves_another_request(
    server: DocumentServer, tmp_path: Path, path: str
) -> None:
    came, go_on = asyncio.Queue[None](), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        came.put_nowait(None)
        await go_on.wait()
        await exchange.answer()

    settings = write_settings(tmp_path, server.port, license="usage = { in_license = 1 }", listen="workers = 1")
    async with gateway(settings) as gate:
        cookie = await cookie_of(gate, "alice")
        server.behaviour = slow
        opening = asyncio.create_task(curl(f"{gate.url}/docs/a", "-b", cookie))
        await asyncio.wait_for(came.get(), 5)
        _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\n\r\n".encode())
        await asyncio.wait_for(came.get(), 5)
        writer.transport.abort()
        await asyncio.sleep(0.3)  # longer than a CAL takes to be given back
        go_on.set()
        assert (await opening).status == 200
        assert await holders(settings) == [("usage", "DEMO\\alice")]


@pytest.mark.parametrize("killed", ["gateway", "store"])
async def test_kill_9_loses_no_named_assignment(server: DocumentServer, tmp_path: Path, killed: str) -> None:
    settings = write_settings(tmp_path, server.port, license=DYNAMIC)
    async with gateway(settings) as gate:
        assert (await calgate("cals", "assign", "bob", "-c", str(settings)))[0] == 0
        assert (await curl(f"{gate.url}/docs/sales", user="alice")).status == 200
        if killed == "gateway":
            await gate.stop(signal.SIGKILL)
        else:
            os.kill(int((tmp_path / "state" / "store" / "server.pid").read_text()), signal.SIGKILL)
            # each worker finds the new server in its own time
            await until(lambda: has_status(curl(f"{gate.url}/docs/sales", user="alice"), 200))
            assert (await curl(f"{gate.url}/docs/sales", user="alice")).status == 200
    async with gateway(settings):
        assert await holders(settings) == [("named", "DEMO\\alice"), ("named", "DEMO\\bob")]


async def test_dynamic_named_cals_are_for_the_groups_that_they_are_for(server: DocumentServer, tmp_path: Path) -> None:
    license = DYNAMIC.replace("app-users", "analysts").replace("in_license = 0", "in_license = 1")
    settings = write_settings(tmp_path, server.port, license=license)
    users = tmp_path / "users.toml"
    users.write_text(users.read_text().replace('groups = ["app-users"]', 'groups = ["app-users", "analysts"]', 1))
    async with gateway(settings) as gate:
        assert (await curl(f"{gate.url}/docs/sales", user="alice")).status == 200
        assert (await curl(f"{gate.url}/docs/sales", user="bob")).status == 200
        assert await holders(settings) == [("named", "DEMO\\alice"), ("session", "DEMO\\bob")]


async def test_head_and_prefetch_and_polls_take_none(gate: Gateway) -> None:
    await curl(f"{gate.url}/docs/sales", "-I", user="bob")
    prefetch = await curl(f"{gate.url}/docs/sales", "-H", "Sec-Purpose: prefetch", user="bob")
    assert (prefetch.status, prefetch.json["code"]) == (403, "no-cal-held")
    polled = await curl(f"{gate.url}/docs/sales/poll", user="bob")
    assert (polled.status, polled.json["code"]) == (403, "no-cal-held")
    assert await holders(gate.settings) == []
    assert (await curl(f"{gate.url}/docs/sales", user="bob")).status == 200
    assert (await curl(f"{gate.url}/docs/sales/poll", user="bob")).status == 200


async def test_click_keeps_a_session_cal_and_a_poll_does_not(server: DocumentServer, tmp_path: Path) -> None:
    license = 'session = { in_license = 1, minimum = "1s", idle_timeout = "5s" }'
    settings = write_settings(tmp_path, server.port, license=license)
    async with gateway(settings) as gate:
        cookie = ("-H", f"Cookie: {await cookie_of(gate, 'bob')}")
        assert (await curl(f"{gate.url}/docs/sales", *cookie)).status == 200
        for _ in range(7):
            await asyncio.sleep(1)
            assert (await curl(f"{gate.url}/docs/sales/click", *cookie)).status == 200
        assert await holders(settings) == [("session", "DEMO\\bob")]
        denied = 0
        for _ in range(12):
            await asyncio.sleep(1)
            denied += (await curl(f"{gate.url}/docs/sales/poll", *cookie)).status == 403
        assert denied
        assert await holders(settings) == []


async def test_sign_out_gives_a_session_cal_back_when_its_minimum_is_over(
    server: DocumentServer, tmp_path: Path
) -> None:
    license = 'session = { in_license = 1, minimum = "3s", idle_timeout = "60s" }'
    settings = write_settings(tmp_path, server.port, license=license)
    async with gateway(settings) as gate:
        cookie = await cookie_of(gate, "bob")
        assert (await curl(f"{gate.url}/docs/sales", "-H", f"Cookie: {cookie}")).status == 200
        left = await curl(
            f"{gate.url}/_calgate/sign-out", "-H", f"Cookie: {cookie}", "-H", f"Origin: {gate.url}", "-d", ""
        )
        assert left.status == 303
        assert (await curl(f"{gate.url}/docs/sales", user="carol")).status == 403
        await until(lambda: has_status(curl(f"{gate.url}/docs/sales", user="carol"), 200), every=0.2)
        assert await holders(settings) == [("session", "DEMO\\carol")]


async def test_cal_is_kept_while_another_session_of_the_user_and_machine_lives(
    server: DocumentServer, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, server.port, license='session = { in_license = 1, minimum = "1s" }')
    async with gateway(settings) as gate:
        one, two = await cookie_of(gate, "bob"), await cookie_of(gate, "bob")
        for cookie in (one, two):
            assert (await curl(f"{gate.url}/docs/sales", "-H", f"Cookie: {cookie}")).status == 200
        await asyncio.sleep(1.1)
        for cookie, still_held in ((one, 1), (two, 0)):
            origin = ("-H", f"Origin: {gate.url}", "-d", "")
            await curl(f"{gate.url}/_calgate/sign-out", "-H", f"Cookie: {cookie}", *origin)
            assert len(await holders(settings)) == still_held


async def test_with_enforce_off_everything_is_decided_and_nobody_is_denied(
    server: DocumentServer, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, server.port, license="enforce = false\nsession = { in_license = 1 }")
    async with gateway(settings) as gate:
        assert (await curl(f"{gate.url}/docs/sales", user="bob")).status == 200
        assert (await curl(f"{gate.url}/docs/sales", user="carol")).status == 200
        _, out, _ = await calgate("cals", "list", "-c", str(settings), "--json")
        listed = json.loads(out)
        held = sorted((holder["name"], holder["beyond"]) for holder in listed["holders"])
        assert held == [("DEMO\\bob", False), ("DEMO\\carol", True)]
        pool = next(pool for pool in listed["pools"] if pool["kind"] == "session")
        assert (pool["occupied"], pool["beyond"]) == (1, 1)
        assert [entry["cal"] for entry in gate.decisions("CAL")] == ["session", "unenforced"]


async def test_exempt_users_and_paths_take_none(server: DocumentServer, tmp_path: Path) -> None:
    license = 'session = { in_license = 1 }\nexempt = { users = ["DEMO\\\\bob"], paths = ["/docs/health"] }'
    settings = write_settings(tmp_path, server.port, license=license)
    async with gateway(settings) as gate:
        assert (await curl(f"{gate.url}/docs/sales", user="bob")).status == 200
        assert (await curl(f"{gate.url}/docs/health", user="carol")).status == 200
        assert await holders(settings) == []


async def test_removed_cal_is_gone_from_the_running_gateway_at_once(gate: Gateway) -> None:
    assert (await calgate("cals", "assign", "alice", "-c", str(gate.settings)))[0] == 0
    cookie = ("-H", f"Cookie: {await cookie_of(gate, 'alice')}")
    for name in ("bob", "carol"):
        assert (await curl(f"{gate.url}/docs/sales", user=name)).status == 200
    assert (await curl(f"{gate.url}/docs/sales", *cookie)).status == 200
    assert (await calgate("cals", "remove", "alice", "-c", str(gate.settings)))[0] == 0

    async def is_denied() -> bool:
        reply = await curl(f"{gate.url}/docs/sales", *cookie)
        return reply.status == 403 and reply.json["code"] == "no-cal"

    await until(is_denied, within=5)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_head_and_options_need_a_lease_and_take_none(gate: Gateway, server: DocumentServer, method: str) -> None:
    """OPTIONS brings the body of the response back, and a command in the request is carried out."""
    method_option = ("-I",) if method == "HEAD" else ("-X", "OPTIONS")
    cookie = ("-H", f"Cookie: {await cookie_of(gate, 'bob')}")
    server.seen.clear()
    assert (await curl(f"{gate.url}/docs/sales", *cookie, *method_option)).status == 403
    assert server.seen == []
    assert await holders(gate.settings) == []
    assert (await curl(f"{gate.url}/docs/sales", *cookie)).status == 200
    assert (await curl(f"{gate.url}/docs/sales", *cookie, *method_option)).status == 200
