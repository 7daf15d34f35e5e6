"""The connection that all function calls share, on a real server."""

import asyncio
import gc
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis import exceptions as fault
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.sentinel import SentinelConnectionPool

from calgate.plugin.errors import Unavailable
from calgate.store import RedisStore, StoreSection, open_store, shared_connection
from calgate.store.shared_connection import SharedConnection
from calgate.telemetry.metrics import Metrics
from support.certificates import Authority
from support.ports import free_port
from support.redis_servers import Server

LIBRARY = """#!lua name=shared
redis.register_function('shared_echo', function(keys, args)
  if args[1] == 'bad' then return redis.error_reply('SHARED bad') end
  return args
end)
redis.register_function('shared_add', function(keys) return redis.call('INCR', keys[1]) end)
"""
COUNT = ("FCALL", "shared_add", 1, "k")


@pytest.fixture
async def store(server: Server, tmp_path: Path) -> AsyncIterator[RedisStore]:
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        store.library("shared", LIBRARY)
        await store.call("shared_echo", [], ["first"])
        yield store


class Failover:
    """An old primary with k = 0 and a new one with k = 100, and what Sentinels say of them."""

    def __init__(self, old: Server, new: Server) -> None:
        self.old = old
        self._new = new
        self._primary = old
        self.pool = SentinelConnectionPool("q", self, protocol=2, socket_timeout=3, socket_connect_timeout=3)
        self.shared = SharedConnection(self.pool, reply_within=3)

    async def discover_master(self, _service: str) -> tuple[str, int]:
        return "127.0.0.1", self._primary.port

    async def happen(self) -> None:
        """Makes the other server the primary; a connection for something else is the first to notice."""
        self._primary = self._new
        await self.pool.release(await self.pool.get_connection())


@pytest.fixture
async def failover(tmp_path: Path) -> AsyncIterator[Failover]:
    servers = [Server(tmp_path / name, port=free_port()).start() for name in ("old", "new")]
    for server, count in zip(servers, (0, 100), strict=True):
        async with Redis.from_url(server.url) as redis:
            await redis.function_load(LIBRARY)
            await redis.set("k", count)
    made = Failover(*servers)
    yield made
    await made.shared.aclose()
    await made.pool.aclose()
    for server in servers:
        server.stop()


@pytest.fixture
async def pool(store: RedisStore, server: Server) -> AsyncIterator[BlockingConnectionPool]:
    pool = BlockingConnectionPool.from_url(server.url, protocol=2)
    yield pool
    await pool.aclose()


async def kill_the_shared(store: RedisStore) -> None:
    """Ends the connections that call functions, and no other."""
    for client in await store.redis.client_list():
        if client["cmd"] == "fcall":
            await store.redis.client_kill_filter(_id=client["id"])


async def test_each_of_a_thousand_calls_gets_its_own_reply(store: RedisStore) -> None:
    async def echoed(number: int) -> Any:
        return await store.call("shared_echo", [], [number if number % 7 else "bad"])

    replies = await asyncio.gather(*map(echoed, range(1000)), return_exceptions=True)
    for number, reply in enumerate(replies):
        if number % 7:
            assert reply == [b"%d" % number]
        else:
            assert isinstance(reply, fault.ResponseError)
            assert "SHARED bad" in str(reply)


async def test_arguments_of_every_type_arrive_as_through_the_pool(store: RedisStore) -> None:
    args: list[str | int | float | bytes] = ["", "größer", b"\x00\xff\r\n", 7, -3, 0.1, 1e16, 1e-7]
    direct = await store.redis.execute_command("FCALL", "shared_echo", 0, *args)
    assert await store.call("shared_echo", [], args) == direct


async def test_call_on_a_connection_that_is_lost_is_sent_again(store: RedisStore) -> None:
    await store.redis.client_pause(60_000, all=False)
    calls = [asyncio.create_task(store.call("shared_add", ["k"])) for _ in range(20)]
    await asyncio.sleep(0.05)
    await kill_the_shared(store)
    await store.redis.client_unpause()
    assert sorted(await asyncio.gather(*calls)) == list(range(1, 21))


async def test_call_is_sent_again_after_its_caller_was_cancelled(store: RedisStore) -> None:
    await store.redis.client_pause(60_000, all=False)
    call = asyncio.create_task(store.call("shared_add", ["k"]))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await kill_the_shared(store)
    await store.redis.client_unpause()
    await store.finish()
    assert await store.redis.get("k") == b"1"


async def test_cancelled_caller_leaves_the_replies_of_the_others_alone(
    store: RedisStore, pool: BlockingConnectionPool
) -> None:
    shared = SharedConnection(pool, reply_within=3)
    connection = await shared.call(("CLIENT", "ID"))
    await store.redis.client_pause(300, all=False)
    calls = [asyncio.create_task(shared.call(("FCALL", "shared_echo", 0, number))) for number in range(3)]
    await asyncio.sleep(0.05)
    calls[1].cancel()
    assert await calls[0] == [b"0"]
    assert await calls[2] == [b"2"]
    assert await shared.call(("CLIENT", "ID")) == connection
    await shared.aclose()


async def test_calls_beyond_the_bound_are_refused_and_the_others_are_served(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_connection, "_MOST_DUE", 3)
    await store.redis.client_pause(300, all=False)
    replies = await asyncio.gather(
        *(store.call("shared_echo", [], [number]) for number in range(5)), return_exceptions=True
    )
    assert replies[:3] == [[b"0"], [b"1"], [b"2"]]
    assert all(isinstance(reply, Unavailable) and "wait for a reply" in str(reply) for reply in replies[3:])


async def test_server_that_does_not_reply_fails_all_that_is_due_and_is_connected_again(
    store: RedisStore, pool: BlockingConnectionPool
) -> None:
    shared = SharedConnection(pool, reply_within=0.3)
    await shared.call(COUNT)
    await store.redis.client_pause(60_000, all=False)
    first = asyncio.create_task(shared.call(COUNT))
    await asyncio.sleep(0.2)
    second = asyncio.create_task(shared.call(COUNT))
    for call in (first, second):
        with pytest.raises(fault.TimeoutError, match=r"no reply within 0\.3 s"):
            await call
    assert shared.begin(COUNT) is None
    await store.redis.client_unpause()
    assert isinstance(await shared.call(COUNT), int)
    await shared.aclose()


async def test_many_callers_share_one_attempt_to_connect(store: RedisStore, pool: BlockingConnectionPool) -> None:
    shared = SharedConnection(pool, reply_within=3)
    before = (await store.redis.info("stats"))["total_connections_received"]
    await asyncio.gather(*(shared.call(COUNT) for _ in range(20)))
    assert (await store.redis.info("stats"))["total_connections_received"] - before == 1
    await shared.aclose()


async def test_connection_moves_to_the_primary_that_the_sentinels_named_last(failover: Failover) -> None:
    assert await failover.shared.call(COUNT) == 1
    await failover.happen()
    assert failover.shared.begin(COUNT) is None
    assert await failover.shared.call(COUNT) == 101
    assert failover.shared.begin(COUNT) is not None
    async with Redis.from_url(failover.old.url) as old:
        assert "fcall" not in [client["cmd"] for client in await old.client_list()]


async def test_connection_that_was_being_opened_at_a_failover_leads_to_the_new_primary(failover: Failover) -> None:
    failover.old.send(signal.SIGSTOP)
    first = asyncio.create_task(failover.shared.call(COUNT))
    await asyncio.sleep(0.1)
    await failover.happen()
    failover.old.send(signal.SIGCONT)
    assert await first == 101


async def test_call_does_not_wait_for_a_server_that_is_no_longer_the_primary(failover: Failover) -> None:
    failover.old.send(signal.SIGSTOP)
    first = asyncio.create_task(failover.shared.call(COUNT))
    await asyncio.sleep(0.1)
    await failover.happen()
    assert sorted(await asyncio.wait_for(asyncio.gather(first, failover.shared.call(COUNT)), 2.5)) == [101, 102]


async def test_call_goes_over_tls_as_the_addresses_user_and_to_its_database(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    signed = authority.sign("127.0.0.1")
    port = free_port()
    server = Server(
        tmp_path / "server",
        tls_port=port,
        tls_cert_file=str(signed.certificate),
        tls_key_file=str(signed.key),
        tls_auth_clients="no",
    ).start()
    try:
        async with Redis.from_url(server.url) as admin:
            await admin.acl_setuser("worker", enabled=True, passwords=["+hush"], keys=["*"], categories=["+@all"])
        url = f"rediss://worker:hush@127.0.0.1:{port}/3?ssl_ca_certs={authority.file}"
        async with open_store(StoreSection(url=url), tmp_path) as store:
            store.library("shared", LIBRARY)
            assert await store.call("shared_add", ["k"]) == 1
            (caller,) = [one for one in await store.redis.client_list() if one["cmd"] == "fcall"]
            assert (caller["user"], caller["db"]) == ("worker", "3")
            await kill_the_shared(store)
            assert await store.call("shared_add", ["k"]) == 2
    finally:
        server.stop()


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_store_that_ends_waits_for_a_call_and_leaves_no_connection(
    server: Server, tmp_path: Path, *, is_cancelled: bool
) -> None:
    async with open_store(StoreSection(url=server.url), tmp_path) as watching:
        async with open_store(StoreSection(url=server.url), tmp_path) as store:
            store.library("shared", LIBRARY)
            await store.call("shared_add", ["k"])
            await watching.redis.client_pause(200, all=False)
            call = asyncio.create_task(store.call("shared_add", ["k"]))
            await asyncio.sleep(0)
            if is_cancelled:
                call.cancel()
        assert await watching.redis.get("k") == b"2"
        assert "fcall" not in [client["cmd"] for client in await watching.redis.client_list()]
        assert (await asyncio.gather(call, return_exceptions=True))[0] == 2 or is_cancelled


async def test_call_is_refused_once_the_connection_was_closed(store: RedisStore, pool: BlockingConnectionPool) -> None:
    shared = SharedConnection(pool, reply_within=3)
    opening = asyncio.create_task(shared.call(COUNT))
    await asyncio.sleep(0)
    await shared.aclose()
    for call in (opening, shared.call(COUNT)):
        with pytest.raises(fault.ConnectionError, match="is closed"):
            await call


async def test_closed_connection_fails_what_is_due(store: RedisStore, pool: BlockingConnectionPool) -> None:
    shared = SharedConnection(pool, reply_within=3)
    await shared.call(COUNT)
    await store.redis.client_pause(300, all=False)
    due = shared.begin(COUNT)
    assert due is not None
    await shared.aclose()
    with pytest.raises(fault.ConnectionError):
        await due
    assert shared.begin(COUNT) is None


async def test_call_that_is_sent_again_has_no_more_time_than_another(server: Server, tmp_path: Path) -> None:
    metrics = Metrics()
    async with open_store(StoreSection(url=server.url), tmp_path, metrics) as store:
        store.library("shared", LIBRARY)
        await store.call("shared_add", ["k"])
        await store.redis.client_pause(60_000, all=False)
        began = time.monotonic()
        call = asyncio.create_task(store.call("shared_echo", [], ["late"]))
        await asyncio.sleep(2.4)  # three seconds after the second attempt would be too late
        await kill_the_shared(store)
        with pytest.raises(Unavailable):
            await call
        assert 3.9 < time.monotonic() - began < 5.2
        await store.redis.client_unpause()
    times: Any = metrics.snapshot()["times"]
    (seconds,) = [one[-1] for one in times if "shared_echo" in one]
    assert 3.9 < seconds < 5.2


async def test_nothing_is_reported_of_a_cancelled_call_that_fails(
    store: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    await store.redis.client_pause(100, all=False)
    call = asyncio.create_task(store.call("shared_echo", [], ["bad"]))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await store.finish()
    gc.collect()
    assert caplog.records == []


def test_connection_that_ends_with_its_handshake_is_opened_again() -> None:
    """On the loop of production, which may see the end before the connection is taken over and reports it once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_end_every_other, args=(listener, 2 * 40))
        serving.start()
        pool = BlockingConnectionPool.from_url(f"redis://127.0.0.1:{listener.getsockname()[1]}", protocol=2)

        async def call_once() -> None:
            shared = SharedConnection(pool, reply_within=1)
            assert await shared.call(COUNT) == 1
            await shared.aclose()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for _ in range(40):
                runner.run(call_once())
        serving.join(timeout=10)
        assert not serving.is_alive()


def _end_every_other(listener: socket.socket, connections: int) -> None:
    """Serves connections, of which every other one ends with the last reply of redis-py's handshake."""
    for number in range(connections):
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as requests:
            while requests.readline() != b"LIB-VER\r\n":
                pass
            requests.readline(), requests.readline()
            connection.sendall(b"+OK\r\n+OK\r\n")
            if number % 2:
                while requests.readline() != b"FCALL\r\n":
                    pass
                connection.sendall(b":1\r\n")
