"""Moving a site's data between servers of different kinds: everything arrives, or nothing does."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from calgate.plugin.errors import Unavailable
from calgate.store import StoreSection, open_store
from calgate.store.move import MoveError, copy, take_inventory
from support.redis_servers import KINDS, Server

pytestmark = pytest.mark.server
PAIRS = [("redis", "valkey"), ("valkey", "redis")]


@pytest.fixture(params=PAIRS, ids="-to-".join)
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """A server of one kind and one of the other."""
    old, new = (Server(tmp_path / kind, KINDS[kind]).start() for kind in request.param)
    yield old, new
    old.stop()
    new.stop()


@pytest_asyncio.fixture
async def stores(servers: tuple[Server, Server]) -> AsyncIterator[tuple[Redis, Redis]]:
    """Their clients."""
    old, new = (Redis.from_url(server.url, protocol=2) for server in servers)
    yield old, new
    await old.aclose()
    await new.aclose()


async def fill(redis: Redis) -> None:
    """Writes a key of every type, with more members than one command takes, and keys of another site."""
    soon = int(time.time()) + 3600
    run: Any = redis.execute_command
    await run("SET", "calgate:text", b"\x00\xff\r\n")
    await run("SET", "calgate:lapses", "1", "EXAT", soon)
    await run("HSET", "calgate:{q}:leases", *(word for n in range(1200) for word in (f"f{n}", bytes([n % 256]) * 3)))
    await run("SADD", "calgate:licenses", *(f"l{n}" for n in range(700)))
    scores = ("9999999999999", "-inf", "+inf", "1768039200.123456789", "0.1")
    await run("ZADD", "calgate:{q}:named", *(word for n, score in enumerate(scores) for word in (score, f"m{n}")))
    await run("ZADD", "calgate:{q}:shares", *(word for n in range(1100) for word in (0, f"s\0{n}")))
    for number in range(1300):
        await run("XADD", "calgate:{q}:audit", f"{1000 + number}-0", "what", "granted", "n", number)
    await run("XADD", "calgate:{q}:audit", "9000-5", "what", "gone")
    await run("XDEL", "calgate:{q}:audit", "9000-5")
    await run("XADD", "calgate:{r}:audit", "7-1", "what", "gone")
    await run("XDEL", "calgate:{r}:audit", "7-1")
    await run("SET", "other:text", "theirs")


async def test_every_type_arrives_with_all_members_scores_ids_and_times(stores: tuple[Redis, Redis]) -> None:
    old, new = stores
    await fill(old)
    found = await copy(old, new, "calgate")
    assert len(found.keys) == 8
    assert await new.execute_command("GET", "calgate:text") == b"\x00\xff\r\n"
    assert await new.execute_command("PEXPIRETIME", "calgate:lapses") == await old.execute_command(
        "PEXPIRETIME", "calgate:lapses"
    )
    for command in (
        ("HGETALL", "calgate:{q}:leases"),
        ("XRANGE", "calgate:{q}:audit", "-", "+"),
    ):
        assert await new.execute_command(*command) == await old.execute_command(*command), command
    for key in ("calgate:{q}:named", "calgate:{q}:shares"):
        assert await new.zrange(key, 0, -1, withscores=True) == await old.zrange(key, 0, -1, withscores=True)
    assert await new.smembers("calgate:licenses") == await old.smembers("calgate:licenses")
    for stream, last in (("calgate:{q}:audit", b"9000-5"), ("calgate:{r}:audit", b"7-1")):
        assert (await new.xinfo_stream(stream))["last-generated-id"] == last, "no record can be written before it"
    assert await new.exists("other:text", "calgate:moving") == 0
    assert dict(found.by_family("calgate"))["{q}:leases"] == (1, 1200)


async def test_store_that_has_keys_of_the_site_is_not_touched(stores: tuple[Redis, Redis]) -> None:
    old, new = stores
    await fill(old)
    await new.set("calgate:session:x", "mine")
    with pytest.raises(MoveError, match="not overwritten"):
        await copy(old, new, "calgate")
    assert await new.keys("*") == [b"calgate:session:x"]


async def test_no_gateway_works_on_what_an_interrupted_move_left_until_it_is_repeated(
    stores: tuple[Redis, Redis], servers: tuple[Server, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = stores
    await fill(old)
    written: Any = new.execute_command

    async def write(*words: Any, **options: Any) -> Any:
        if words[0] in ("ZADD", "DEL"):
            raise RedisConnectionError("the power is gone")
        return await written(*words, **options)

    with monkeypatch.context() as cut:
        cut.setattr(new, "execute_command", write)
        with pytest.raises(RedisConnectionError):
            await copy(old, new, "calgate")
    assert await new.dbsize() > 1
    async with open_store(StoreSection(url=servers[1].url), tmp_path) as store:
        store.library("probe", "#!lua name=probe\nredis.register_function('probe', function() return 1 end)")
        with pytest.raises(Unavailable, match="interrupted"):
            await store.call("probe", ["k"])
        with pytest.raises(MoveError, match="stop all gateways first"):
            await copy(old, new, "calgate", restart=True)
    with pytest.raises(MoveError, match="add --restart"):
        await copy(old, new, "calgate")
    await new.set("calgate:left", "1")
    await copy(old, new, "calgate", restart=True)
    assert (await take_inventory(new, "calgate")).keys == (await take_inventory(old, "calgate")).keys
    async with open_store(StoreSection(url=servers[1].url), tmp_path) as store:
        store.library("probe", "#!lua name=probe\nredis.register_function('probe', function() return 1 end)")
        assert await store.call("probe", ["k"]) == 1


async def test_restart_does_not_delete_a_store_that_no_move_was_interrupted_on(stores: tuple[Redis, Redis]) -> None:
    old, new = stores
    await fill(old)
    await new.set("calgate:session:x", "mine")
    with pytest.raises(MoveError, match="not overwritten"):
        await copy(old, new, "calgate", restart=True)
    assert await new.keys("*") == [b"calgate:session:x"]


@pytest.mark.parametrize("side", [0, 1], ids=["this-store", "target"])
async def test_running_gateway_on_either_side_is_refused(stores: tuple[Redis, Redis], side: int) -> None:
    old, new = stores
    await fill(old)
    events = stores[side].pubsub()
    await events.subscribe("calgate:news")
    await events.get_message(timeout=20)
    with pytest.raises(MoveError, match="stop all gateways first"):
        await copy(old, new, "calgate")
    await events.aclose()
    assert await new.dbsize() == 0


async def test_target_without_room_is_left_empty(stores: tuple[Redis, Redis]) -> None:
    old, new = stores
    await fill(old)
    used = (await new.info("memory"))["used_memory"]
    await new.config_set("maxmemory", used + 100_000)
    with pytest.raises(ResponseError, match="maxmemory"):
        await copy(old, new, "calgate")
    assert await new.dbsize() == 0


async def test_change_during_the_copy_is_noticed_and_undone(
    stores: tuple[Redis, Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = stores
    await fill(old)
    written: Any = new.execute_command

    async def write(*words: Any, **options: Any) -> Any:
        if words[0] == "ZADD":  # the leases have been read
            await old.execute_command("HSET", "calgate:{q}:leases", "f1", "another")
        return await written(*words, **options)

    monkeypatch.setattr(new, "execute_command", write)
    with pytest.raises(MoveError, match="differs after the copy"):
        await copy(old, new, "calgate")
    assert await new.dbsize() == 0


async def test_member_that_is_lost_on_the_way_is_noticed(
    stores: tuple[Redis, Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = stores
    await fill(old)
    written: Any = new.execute_command

    async def write(*words: Any, **options: Any) -> Any:
        return await written(*(words[:-2] if words[0] == "ZADD" else words), **options)

    monkeypatch.setattr(new, "execute_command", write)
    with pytest.raises(MoveError, match="differs after the copy"):
        await copy(old, new, "calgate")
    assert await new.dbsize() == 0


async def test_prefix_is_no_pattern(stores: tuple[Redis, Redis]) -> None:
    old, _ = stores
    await old.set("a.b:x", "1")
    await old.set("aXb:x", "1")
    assert list((await take_inventory(old, "a.b")).keys) == [b"a.b:x"]
