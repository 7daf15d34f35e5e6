"""`calgate store move` from the private store to a server: sessions, CALs and records go on where they were."""

import json
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from support.gateway_process import DocumentServer, calgate, cookie_of, curl, gateway, write_settings
from support.redis_servers import Server


async def administered(settings: Path, *words: str) -> Any:
    code, out, errors = await calgate(*words, "-c", str(settings), "--json")
    assert code == 0, errors
    return json.loads(out)


async def test_private_store_moves_to_a_server_with_sessions_cals_and_records(
    server: DocumentServer, tmp_path: Path
) -> None:
    old = write_settings(tmp_path, server.port)
    target = Server(tmp_path / "redis", appendonly="yes").start()
    new = tmp_path / "new.toml"
    new.write_text(old.read_text().replace("[store]\n", f'[store]\nurl = "{target.url}"\n'))
    move = ("store", "move", "-c", str(old), "--to", str(new))
    try:
        async with gateway(old) as gate:
            cookie = await cookie_of(gate, "bob")
            assert (await curl(f"{gate.url}/docs/sales", "-b", cookie)).status == 200
            code, _, errors = await calgate(*move, "--apply")
            assert (code, "stop all gateways first" in errors) == (1, True), errors
        cals = await administered(old, "cals", "list")
        records = await administered(old, "cals", "log")
        code, out, _ = await calgate(*move)
        assert (code, "Nothing was copied" in out) == (0, True), out
        async with Redis.from_url(target.url) as client:
            assert await client.dbsize() == 0
        code, out, errors = await calgate(*move, "--apply")
        assert (code, errors) == (0, ""), out
        assert "{demo}:leases" in out
        assert "session" in out
        async with gateway(new) as gate:
            assert (await curl(f"{gate.url}/docs/sales", "-b", cookie)).status == 200, "bob is still signed in"
            assert holders(await administered(new, "cals", "list")) == holders(cals)
            assert (await administered(new, "cals", "log"))[: len(records)] == records
    finally:
        target.stop()


def holders(listed: Any) -> list[tuple[str, str]]:
    found = sorted((holder["name"], holder["id"]) for holder in listed["holders"])
    assert found
    return found
