"""Sites of an earlier version, served by today's program: settings, sessions, CALs and records."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from end_to_end.freeze_site import FROZEN, unpacked, write
from support.gateway_process import DocumentServer, Gateway, calgate, curl, gateway
from support.ports import free_port
from support.redis_servers import Server

SITES = sorted(file.stem for file in FROZEN.glob("*.json"))


def read(name: str) -> dict[str, Any]:
    site: dict[str, Any] = json.loads((FROZEN / f"{name}.json").read_text(encoding="utf-8"))
    return site


@pytest_asyncio.fixture(params=SITES)
async def site(
    request: pytest.FixtureRequest, server: DocumentServer, tmp_path: Path
) -> AsyncIterator[tuple[dict[str, Any], Gateway]]:
    """The frozen site, with today's gateway on its settings file, its state folder and its store."""
    frozen = read(request.param)
    store = Server(tmp_path / "redis").start()
    try:
        async with Redis.from_url(store.url) as client:
            for key, dump in frozen["keys"].items():
                await client.restore(key, 0, base64.b64decode(dump))
        for name, content in frozen["state"].items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(unpacked(content))
        url = "" if request.param.endswith("-private") else f'url = "{store.url}"'
        values = {"port": free_port(), "upstream": server.port, "store": url}
        async with gateway(write(tmp_path, frozen["settings"], frozen["users"], **values)) as gate:
            yield frozen, gate
    finally:
        store.stop()


async def test_users_stay_signed_in_and_keep_their_cals(site: tuple[dict[str, Any], Gateway]) -> None:
    frozen, gate = site
    before = json.loads((await calgate("cals", "list", "--json", "-c", str(gate.settings)))[1])
    kinds = {holder["name"]: holder["kind"] for holder in before["holders"]}
    assert kinds == {"DEMO\\alice": "named", "DEMO\\bob": "document", "DEMO\\carol": "session"}
    for user, path, status in (
        *(("alice", "/docs/sales", 200), ("bob", "/docs/sales", 200), ("carol", "/docs/plan", 200)),
        ("dave", "/docs/plan", 403),
    ):
        reply = await curl(gate.url + path, "-b", frozen["cookies"][user])
        assert reply.status == status, (user, reply)
        assert not reply.values("set-cookie"), f"{user} has the session of before"
    after = json.loads((await calgate("cals", "list", "--json", "-c", str(gate.settings)))[1])
    assert {one["id"] for one in after["holders"]} == {one["id"] for one in before["holders"]}
    named = next(pool for pool in after["pools"] if pool["kind"] == "named")
    assert named["limit"] == 1, "what administrators set at run time"


async def test_records_of_before_are_read_and_continued(site: tuple[dict[str, Any], Gateway]) -> None:
    _, gate = site
    code, out, errors = await calgate("cals", "log", "--json", "--since", "36500d", "-c", str(gate.settings))
    assert code == 0, errors
    what = [record["what"] for record in json.loads(out)]
    assert {"configured", "assigned", "allocated", "limited", "granted", "denied"} <= set(what)
    code, out, errors = await calgate("cals", "explain", "DEMO\\dave", "-c", str(gate.settings))
    assert (code, "session" in out) == (0, True), errors
