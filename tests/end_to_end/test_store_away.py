"""The store goes away under a running gateway: known sessions and CALs serve on, and no user is denied for it."""

import asyncio
import json
import signal
from pathlib import Path

from support.gateway_process import (
    DocumentServer,
    Exchange,
    calgate,
    cookie_of,
    curl,
    gateway,
    has_status,
    write_settings,
)
from support.redis_servers import REDIS, Server
from support.waiting import until


async def test_leases_that_are_known_serve_on_and_a_new_claim_is_a_503_and_no_denial(
    server: DocumentServer, tmp_path: Path
) -> None:
    store = Server(tmp_path / "redis", REDIS, appendonly="yes", appendfsync="always").start()
    settings = write_settings(
        *(tmp_path, server.port),
        store=f'url = "{store.url}"',
        listen="workers = 1",
        license="session = { in_license = 1 }",
    )
    try:
        async with gateway(settings) as gate:
            alice, bob = [("-H", f"Cookie: {await cookie_of(gate, user)}") for user in ("alice", "bob")]
            sales = f"{gate.url}/docs/sales"
            assert (await curl(sales, *alice)).status == 200
            assert (await curl(f"{gate.url}/portal", *bob)).status == 200
            store.send(signal.SIGKILL)
            assert [(await curl(sales, *alice)).status for _ in range(3)] == [200] * 3
            told = await curl(sales, *bob)
            assert (told.status, told.json["code"]) == (503, "store-unavailable")
            assert int(told.values("retry-after")[0]) > 0
            page = await curl(sales, *bob, "-H", "Accept: text/html")
            assert (page.status, page.body.count(b"Licenses cannot be checked right now") > 0) == (503, True)
            store.start()
            for _ in range(100):
                if (
                    (await curl(sales, *alice)).status
                    == (await curl(f"{gate.url}/_calgate/health?strict")).status
                    == 200
                ):
                    break
                await asyncio.sleep(0.1)
            assert (await curl(sales, *bob)).json["code"] == "no-cal"
            _, out, _ = await calgate("cals", "log", "-c", str(settings), "--json")
            assert [it["what"] for it in json.loads(out)].count("denied") == 1
            assert len(gate.decisions("no CAL")) == 1
    finally:
        store.stop()


async def test_cookie_that_the_document_server_sets_meanwhile_costs_no_answer_and_is_known_later(
    server: DocumentServer, tmp_path: Path
) -> None:
    """The document server has carried the request out: an error would be a lie, and make people send it again."""

    async def set_cookie(exchange: Exchange) -> None:
        await exchange.answer(fields=["Set-Cookie: doc-session=alices; Path=/"])

    store = Server(tmp_path / "redis", REDIS, appendonly="yes", appendfsync="always").start()
    settings = write_settings(tmp_path, server.port, store=f'url = "{store.url}"', listen="workers = 1")
    try:
        async with gateway(settings) as gate:
            cookie = ("-H", f"Cookie: {await cookie_of(gate, 'alice')}")
            assert (await curl(f"{gate.url}/portal", *cookie)).status == 200
            store.send(signal.SIGKILL)
            server.behaviour = set_cookie
            reply = await curl(f"{gate.url}/form", *cookie, "-d", "a=1")
            assert (reply.status, reply.values("set-cookie")) == (200, ["doc-session=alices; Path=/"])
            store.start()
            await until(lambda: has_status(curl(f"{gate.url}/_calgate/health?strict"), 200))
            assert (await curl(f"{gate.url}/portal", *cookie)).status == 200
            gone = await curl(f"{gate.url}/_calgate/sign-out", *cookie, "-X", "POST")
            assert any(one.startswith("doc-session=; Max-Age=0") for one in gone.values("set-cookie"))
    finally:
        store.stop()
