"""CALs survive when Redis servers are killed, freeze, or lose data."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cal_model.license import who
from calgate.plugin.errors import Unavailable
from calgate.plugin.licensing import Activity, Lease, NoCal
from calgate.store import RedisStore, StoreSection, open_store
from calgate_cal import Config
from calgate_cal.admin import LicenseAdmin
from calgate_cal.allocator import CalAllocator
from calgate_cal.replies import Holder
from support.directory import People
from support.ports import free_port
from support.redis_servers import REDIS, Cluster, Sentinels, Server, until_linked
from support.waiting import until

pytestmark = pytest.mark.server
MANY = {"named": {"in_license": 100_000, "dynamic": True}}


class Gateway:
    """The allocator of one process, which tends the license every half second."""

    def __init__(self, store: RedisStore, license: dict[str, Any]) -> None:
        config = Config.model_validate({"q": license})
        self.store = store
        self.allocator = CalAllocator(config, store, "tester")
        self.allocator._settling.pause = 0.0  # clients here settle one after the other
        self.license_admin = LicenseAdmin("q", config.licenses["q"], store, People(), "admin")

    async def hold(self, user: str, document: str = "d") -> Lease:
        """Claims a CAL until the store replies, and settles it as served."""
        while True:
            try:
                lease = await self.allocator.claim("q", who(user), document, reference=f"r-{user}")
                await self.allocator.settle(lease, served=True)
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                return lease

    async def holders(self) -> list[Holder]:
        """Returns the holders in the order of their grants."""
        found = [holder async for holder in self.license_admin.holders()]
        return sorted(
            found, key=lambda holder: [int(part) for part in holder.id.split("-")]
        )  # several are granted within a millisecond


@contextlib.asynccontextmanager
async def gateway(section: StoreSection, folder: Path, **license: Any) -> AsyncIterator[Gateway]:
    async with open_store(section, folder) as store:
        opened = Gateway(store, license)
        tending = asyncio.create_task(opened.allocator.tend(0.5))
        yield opened
        tending.cancel()


async def under_load(gateway: Gateway, harm: Callable[[], Awaitable[None]], tasks: int = 8) -> tuple[set[str], float]:
    """Lets new users claim Named CALs continuously while `harm` runs.

    Returns the users who got one, and the longest time without a grant.
    """
    told: dict[str, float] = {}
    stopped = asyncio.Event()

    async def come(task: int) -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            user = f"u{task}.{number}"
            await gateway.hold(user)
            told[user] = time.monotonic()

    comers = [asyncio.create_task(come(task)) for task in range(tasks)]
    await asyncio.sleep(0.5)
    await harm()
    harmed = time.monotonic()
    while max(told.values()) < harmed + 0.5:
        await asyncio.sleep(0.05)
    stopped.set()
    await asyncio.gather(*comers)
    times = sorted(told.values())
    return set(told), max(later - earlier for earlier, later in pairwise(times))


def lost(told: set[str], holders: Sequence[Holder]) -> set[str]:
    kept = {holder.user for holder in holders if holder.kind == "named" and holder.state == "held"}
    return told - kept


# ---------------------------------------------------------------- one server


async def test_granted_cals_survive_a_kill_and_restart_of_the_store(server: Server, tmp_path: Path) -> None:
    license = {"named": {"in_license": 9, "dynamic": True, "dynamic_for": ["A"]}, "session": {"in_license": 1}}
    async with gateway(StoreSection(url=server.url), tmp_path, **license, usage={"in_license": 1}) as gate:
        await gate.license_admin.assign("alice")
        await gate.license_admin.limit("named", 5)
        for user in ("bob", "carol"):
            await gate.hold(user)
        before = await gate.holders()
        assert [holder.kind for holder in before] == ["named", "session", "usage"]
        server.send(signal.SIGKILL)
        server.start()
        await gate.hold("bob")
        after = await gate.holders()
        assert [(it.id, it.user) for it in after] == [(it.id, it.user) for it in before]
        assert (await gate.license_admin.state()).pools[0].limit == 5


async def test_flushed_functions_are_loaded_again_under_load(server: Server, tmp_path: Path) -> None:
    async with gateway(StoreSection(url=server.url), tmp_path, **MANY) as gate:

        async def flush() -> None:
            for _ in range(20):
                await gate.store.redis.function_flush()
                await asyncio.sleep(0.05)

        told, pause = await under_load(gate, flush)
        assert lost(told, await gate.holders()) == set()
        assert pause < 3  # generous for a loaded machine; the test is that each call got a reply


async def test_store_frozen_for_20_seconds_denies_nobody_and_forgets_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = Server(tmp_path / "server").start()
    request.addfinalizer(server.stop)
    async with gateway(StoreSection(url=server.url), tmp_path, session={"in_license": 2}) as gate:
        lease = await gate.hold("alice")
        server.send(signal.SIGSTOP)
        frozen = time.monotonic()
        asked = 0
        while time.monotonic() < frozen + 20:
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await gate.allocator.claim("q", who("bob"), "d", reference="r")
            with pytest.raises(Unavailable):
                await gate.allocator.touch([Activity(lease, time.time())])
            assert time.monotonic() - began < 9
            asked += 1
        server.send(signal.SIGCONT)
        assert (await gate.hold("alice")).id == lease.id
        assert await gate.allocator.touch([Activity(lease, time.time())]) == []
        await gate.hold("bob")
        assert asked >= 2
        denied = [record.what async for record in gate.license_admin.records(0) if record.what == "denied"]
        assert denied == []


# ---------------------------------------------------------------- replicas


async def test_grant_without_a_replicas_acknowledgement_is_503_and_its_retry_waits_again(tmp_path: Path) -> None:
    primary = Server(tmp_path / "primary", port=free_port()).start()
    replica = Server(tmp_path / "replica", port=free_port(), replicaof=f"127.0.0.1 {primary.settings['port']}").start()
    license = {"named": {"in_license": 9, "dynamic": True, "dynamic_for": ["A"]}, "session": {"in_license": 1}}
    try:
        async with gateway(StoreSection(url=primary.url, replicas=1), tmp_path, **license) as gate:
            analyst = who("alice", groups="A")
            await gate.hold("bob")
            until_linked(replica)
            replica.send(signal.SIGSTOP)
            for _ in range(2):
                with pytest.raises(Unavailable, match="0 of 1 replicas have acknowledged"):
                    await gate.allocator.claim("q", analyst, "d", reference="r1")
            assert (await gate.hold("bob")).kind == "session"  # the holder's gateway can reassert it, so nothing waits
            replica.send(signal.SIGCONT)
            lease = await gate.allocator.claim("q", analyst, "d", reference="r1")
            await gate.allocator.settle(lease, served=True)
            assert [holder.kind for holder in await gate.holders()] == ["session", "named"]
    finally:
        replica.stop()
        primary.stop()


async def test_reports_are_read_from_a_replica_which_grants_nothing(tmp_path: Path) -> None:
    primary = Server(tmp_path / "primary", port=free_port()).start()
    replica = Server(tmp_path / "replica", port=free_port(), replicaof=f"127.0.0.1 {primary.settings['port']}").start()
    license = {"session": {"in_license": 1}, "queue": True}
    try:
        async with (
            gateway(StoreSection(url=primary.url), tmp_path, **license) as gate,
            open_store(StoreSection(url=replica.url), tmp_path) as store,
        ):
            until_linked(replica)
            await gate.hold("alice")
            assert await _kind(gate, "bob") == "no-cal"
            await gate.store.redis.wait(1, 1000)
            reader = Gateway(store, license)
            assert [it.user for it in await reader.holders()] == ["alice"]
            assert [it.user for it in await reader.license_admin.queue()] == ["bob"]
            assert (await reader.license_admin.state()).pools[2].occupied == 1
            assert await reader.license_admin.export() == await gate.license_admin.export()
            assert await reader.allocator.held("q", who("alice"), "d") is not None
            with pytest.raises(Unavailable, match="read only"):
                await reader.allocator.claim("q", who("carol"), "d", reference="r")
    finally:
        replica.stop()
        primary.stop()


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    made = Sentinels(tmp_path / "sentinels")
    try:
        yield made.start()
    finally:
        made.stop()


async def test_primary_killed_under_sentinel_and_load_loses_no_named_cal(
    sentinels: Sentinels, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    section = StoreSection(sentinel=tuple(sentinels.addresses), service="q", replicas=1)
    async with gateway(section, tmp_path, **MANY) as gate:

        async def kill() -> None:
            sentinels.servers[0].send(signal.SIGKILL)

        told, pause = await under_load(gate, kill)
        record_property("seconds without a grant", round(pause, 2))
        record_property("grants", len(told))
        assert lost(told, await gate.holders()) == set()
        assert pause < 15


async def test_session_cals_forgotten_by_a_failover_return_to_their_holders(
    sentinels: Sentinels, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    section = StoreSection(sentinel=tuple(sentinels.addresses), service="q")
    async with gateway(section, tmp_path, session={"in_license": 4}) as gate:
        for user in ("ann", "bob"):
            await gate.hold(user)
        await gate.store.redis.wait(2, 1000)
        for replica in sentinels.servers[1:]:
            replica.send(signal.SIGSTOP)
        known = {user: await gate.hold(user) for user in ("cid", "dan")}  # a CAL that no replica has
        sentinels.servers[0].send(signal.SIGKILL)
        for replica in sentinels.servers[1:]:
            replica.send(signal.SIGCONT)
        await _first_answer(gate.store)
        thieves = [await _kind(gate, f"thief{number}") for number in range(4)]
        for user, lease in known.items():
            assert (await gate.hold(user)).id == lease.id
        out = [holder.user for holder in await gate.holders()]
        record_property("over-grant", len(out) - 4)
        assert len(out) <= 4 + len(known)
        assert thieves.count("session") == len(out) - 4
        assert await _kind(gate, "late") == "no-cal"


async def test_session_cals_forgotten_by_a_failover_are_reasserted_for_inactive_holders(
    sentinels: Sentinels, tmp_path: Path
) -> None:
    section = StoreSection(sentinel=tuple(sentinels.addresses), service="q")
    async with gateway(section, tmp_path, session={"in_license": 4}) as gate:
        await gate.hold("ann")
        await gate.store.redis.wait(2, 1000)
        for replica in sentinels.servers[1:]:
            replica.send(signal.SIGSTOP)
        await gate.hold("bob")
        sentinels.servers[0].send(signal.SIGKILL)
        for replica in sentinels.servers[1:]:
            replica.send(signal.SIGCONT)
        await _first_answer(gate.store)

        async def is_reasserted() -> bool:
            return {holder.user for holder in await gate.holders()} == {"ann", "bob"}

        await until(is_reasserted, within=20)


async def test_cluster_that_loses_a_primary_loses_no_named_cal(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start()
        section = StoreSection(cluster=tuple(cluster.addresses), replicas=1)
        async with gateway(section, tmp_path, **MANY) as gate:

            async def kill() -> None:
                cluster.primary_of("calgate:{q}:state").send(signal.SIGKILL)

            # with its only replica promoted, no replica can acknowledge: from then on 503, and nothing is lost
            told: set[str] = set()

            async def come() -> None:
                for number in range(10_000):
                    lease = await gate.allocator.claim("q", who(f"u{number}"), "d", reference="r")
                    await gate.allocator.settle(lease, served=True)
                    told.add(f"u{number}")

            comer = asyncio.create_task(come())
            await asyncio.sleep(0.5)
            await kill()
            with pytest.raises(Unavailable):
                await comer
            await _first_answer(gate.store, "calgate:{q}:state")
            assert len(told) > 10
            record_property("grants", len(told))
            assert lost(told, await _patiently(gate.holders)) == set()
    finally:
        cluster.stop()


async def test_cluster_serves_every_license_and_events_reach_every_gateway(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start()
        section = StoreSection(cluster=tuple(cluster.addresses))
        licenses = {name: {"session": {"in_license": 1}} for name in ("a", "b", "c", "d")}
        assert len({cluster.primary_of(f"calgate:{{{name}}}:state").folder for name in licenses}) > 1
        async with open_store(section, tmp_path) as store, open_store(section, tmp_path) as other:
            allocator = CalAllocator(Config.model_validate(licenses), store, "tester")
            heard: list[str] = []
            other.listen(lambda event: heard.append(event.reason))
            for name in licenses:
                lease = await allocator.claim(name, who("alice"), "d", reference="r")
                await allocator.settle(lease, served=True)
                license_admin = LicenseAdmin(name, Config.model_validate(licenses).licenses[name], store, None, "admin")
                await license_admin.end("alice", None, force=True)
            await until(lambda: len(heard) == 4)
            assert heard == ["ended"] * 4
            names = [f"calgate:n:{number}" for number in range(50)]  # on every server
            assert await store.execute_all([("SET", name, name) for name in names])
            assert await store.execute_all([("GET", name) for name in names]) == [name.encode() for name in names]
            assert {name async for name in store.scan("calgate:n:*")} == set(names)
    finally:
        cluster.stop()


async def _kind(gate: Gateway, user: str) -> str:
    try:
        return (await gate.hold(user)).kind
    except NoCal as no:
        return no.code


async def _first_answer(store: RedisStore, key: str = "calgate:{q}:state") -> None:
    """Waits until the store takes writes again."""
    deadline = time.monotonic() + 20
    while True:
        try:
            await store.execute("HSET", f"{key}-probe", "k", "v")
        except Unavailable:
            assert time.monotonic() < deadline, "the store did not fail over"
            await asyncio.sleep(0.05)
        else:
            return


async def _patiently(ask: Callable[[], Awaitable[list[Holder]]]) -> list[Holder]:
    while True:
        with contextlib.suppress(Unavailable):
            return await ask()
        await asyncio.sleep(0.05)


async def test_terms_of_a_settings_file_loaded_while_the_store_is_away_reach_the_store_when_it_is_back(
    tmp_path: Path,
) -> None:
    """The store still has terms, so no call finds it unconfigured."""
    server = Server(tmp_path / "redis", REDIS, appendonly="yes", appendfsync="always").start()
    section = StoreSection.model_validate({"url": server.url})
    try:
        async with gateway(section, tmp_path, session={"in_license": 2}) as before:
            await before.allocator.activate()
        async with gateway(section, tmp_path, session={"in_license": 7}) as after:
            server.send(signal.SIGKILL)
            await after.allocator.activate()
            server.start()

            async def limit() -> int:
                with contextlib.suppress(Unavailable):
                    return next(pool.limit for pool in await after.allocator.pools("q") if pool.kind == "session")
                return 0

            async with asyncio.timeout(20):
                while await limit() != 7:
                    await asyncio.sleep(0.05)
    finally:
        server.stop()
