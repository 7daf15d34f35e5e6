"""The store's connection, on real servers."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from calgate.plugin.errors import Unavailable
from calgate.plugin.services import Event
from calgate.store import StoreSection, open_store
from support.redis_servers import Server
from support.waiting import until

LIBRARY = """#!lua name=probe
redis.register_function('probe_count', function(keys)
  redis.call('INCR', keys[1])
  return redis.call('GET', keys[1])
end)
redis.register_function{function_name='probe_read', callback=function(keys) return redis.call('GET', keys[1]) end,
  flags={'no-writes'}}
redis.register_function('probe_fault', function() return redis.error_reply('PROBE no') end)
"""


async def test_function_is_loaded_at_first_use_and_again_after_a_flush(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        store.library("probe", LIBRARY)
        assert await store.call("probe_count", ["k"]) == b"1"
        await store.redis.function_flush()
        assert await store.call("probe_count", ["k"]) == b"2"
        await store.redis.function_flush()
        assert await store.call("probe_read", ["k"], read_only=True) == b"2"


async def test_library_replaces_an_older_text_of_the_same_name(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        store.library("probe", LIBRARY.replace("PROBE no", "PROBE old"))
        with pytest.raises(Exception, match="PROBE old"):
            await store.call("probe_fault", [])
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        store.library("probe", LIBRARY)
        with pytest.raises(Exception, match="PROBE no"):
            await store.call("probe_fault", [])


async def test_call_completes_after_its_caller_is_cancelled(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        store.library("probe", LIBRARY)
        await store.call("probe_count", ["k"])
        await store.redis.client_pause(200)
        caller = asyncio.create_task(store.call("probe_count", ["k"]))
        await asyncio.sleep(0.05)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        assert await store.redis.get("k") == b"2"


async def test_unreachable_store_is_unavailable_until_it_returns(server: Server, tmp_path: Path) -> None:
    server.stop()
    received: list[Event] = []
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        store.library("probe", LIBRARY)
        store.listen(received.append)
        assert not store.ready
        with pytest.raises(Unavailable, match="does not respond"):
            await store.call("probe_count", ["k"])
        server.start()
        await until(lambda: store.ready)
        assert await store.call("probe_count", ["k"]) == b"1"
        assert {event.topic for event in received} == {"store-back"}


async def test_frozen_store_is_unavailable_within_seconds(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        server.send(signal.SIGSTOP)
        began = time.monotonic()
        results = await asyncio.gather(*(store.call("absent", []) for _ in range(100)), return_exceptions=True)
        assert time.monotonic() - began < 5
        assert all(isinstance(result, Unavailable) for result in results)
        server.send(signal.SIGCONT)
        await store.ping()


async def test_store_that_loses_its_functions_at_once_is_unavailable(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        store.library("probe", LIBRARY)
        with pytest.raises(Unavailable, match="loses the functions"):
            await store.call("probe_that_is_never_there", ["k"])


async def test_store_that_refuses_writes_is_unavailable(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        store.library("probe", LIBRARY)
        await store.call("probe_count", ["k"])
        await store.redis.replicaof("127.0.0.1", "1")
        with pytest.raises(Unavailable, match="read only"):
            await store.call("probe_count", ["k"])


async def test_every_key_is_scanned_and_many_commands_take_one_round_trip(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        names = [f"calgate:n:{number}" for number in range(1200)]
        await store.execute_all([("SET", name, number) for number, name in enumerate(names)])
        await store.execute("SET", "other", "1")
        assert {name async for name in store.scan("calgate:n:*")} == set(names)
        assert await store.execute_all([("GET", name) for name in (names[7], "absent", names[1100])]) == [
            b"7",
            None,
            b"1100",
        ]
        assert await store.execute_all([]) == []
        server.stop()
        with pytest.raises(Unavailable):
            [name async for name in store.scan("calgate:n:*")]
        with pytest.raises(Unavailable):
            await store.execute_all([("GET", names[0])])


async def test_event_reaches_every_process_despite_a_listener_that_raises(server: Server, tmp_path: Path) -> None:
    section = StoreSection(url=server.url)
    async with open_store(section, tmp_path) as here, open_store(section, tmp_path) as there:
        received: list[Event] = []
        there.listen(lambda _: 1 / 0)  # type: ignore[arg-type]
        there.listen(received.append)
        here.listen(received.append)
        await here.redis.publish("calgate:news", b"\xff not an event")
        event = Event("lease-lost", "id-1", "ended by an administrator")
        await here.publish(event)
        await until(lambda: len(received) == 2)
        assert received == [event, event]


async def test_event_channel_reconnects_and_reports_it(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection(url=server.url), tmp_path) as store:
        received: list[Event] = []
        store.listen(received.append)
        await store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: received)
        assert received == [Event("store-back", "")]
        assert store.ready


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"url": "http://store"}, "begins with redis://"),
        ({"url": "redis://:pa#ss@store:6379"}, "%23"),
        ({"url": "redis://:pa/ss@store:6379/0"}, "%2F"),
        ({"url": "redis://store:65536"}, "cannot be read"),
        ({"url": "redis://store?db=one"}, "cannot be read"),
        ({"url": "redis://store?timeouts=1"}, "cannot be read"),
        ({"url": "rediss://store?ssl_cert_reqs=maybe"}, "cannot be read"),
        ({"url": "redis://[::1"}, "cannot be read"),
        ({"prefix": "a b"}, "pattern"),
        ({"replicas": 1}, "private server has none"),
        ({"urll": "redis://x"}, "Extra inputs"),
        ({"sentinel": ["s1:26379"]}, "sentinel and service belong together"),
        ({"cluster": ["c1"]}, "an address is written host:port"),
        ({"url": "redis://x", "cluster": ["c1:7000"]}, "only one of url, sentinel and cluster"),
        ({"url": "redis://x", "password": "hush"}, "a url carries its own"),
    ],
)
def test_store_section_with_a_contradiction_is_refused(settings: dict[str, object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        StoreSection.model_validate(settings)


def test_store_address_is_not_part_of_the_repr() -> None:
    assert "hunter" not in repr(StoreSection(url="redis://:hunter@store"))
