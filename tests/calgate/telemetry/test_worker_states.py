"""The reports of workers in the store, as the console reads them."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from calgate.store import StoreSection, open_store
from calgate.telemetry.metrics import Metrics
from calgate.telemetry.worker_states import ServerState, WorkerState, WorkerStates
from support.redis_servers import Server

DOWN = ServerState("https://qvs1", is_up=False, is_drained=True, failed_at=1_768_039_200.5, failure="refused ✗")
STATE = WorkerState("gw1", 4711, ["directory"], [DOWN, ServerState("https://qvs2", is_up=True, is_drained=False)])


async def test_worker_replaces_its_report_and_withdraws_it_at_its_end(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection.model_validate({"url": server.url}), tmp_path, Metrics()) as store:
        states = WorkerStates(store)
        assert await states.read() == []
        other = replace(STATE, gateway="gw0", servers=[])
        for state in (STATE, other, replace(STATE, degraded=[])):
            await states.report(state)
        assert [replace(one, age=0) for one in await states.read()] == [other, replace(STATE, degraded=[])]
        assert 0 < await store.execute("TTL", "calgate:workers") <= 600
        await states.withdraw(other)
        assert [one.gateway for one in await states.read()] == ["gw1"]


async def test_report_of_a_worker_that_was_killed_is_dropped_after_ten_minutes(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection.model_validate({"url": server.url}), tmp_path, Metrics()) as store:
        states = WorkerStates(store)
        await states.report(replace(STATE, worker=1))
        stored = cast(dict[Any, Any], await store.execute("HGETALL", "calgate:workers"))
        text = next(iter(stored.values())).decode()
        at, _, report = text.partition(" ")
        await store.execute("HSET", "calgate:workers", "gw1/1", f"{int(at) - 601} {report}", "gw1/2", "no report")
        [old] = await states.read()
        assert 601 <= old.age < 700
        await states.report(STATE)
        assert [one.worker for one in await states.read()] == [4711]


async def test_connections_are_reported_but_are_no_change_of_the_state(server: Server, tmp_path: Path) -> None:
    busy = replace(DOWN, in_use=3, idle=2, waiting=1)
    assert busy == DOWN  # else every worker would write to the store every second
    async with open_store(StoreSection.model_validate({"url": server.url}), tmp_path, Metrics()) as store:
        states = WorkerStates(store)
        await states.report(replace(STATE, servers=[busy]))
        [read] = await states.read()
        assert (read.servers[0].in_use, read.servers[0].idle, read.servers[0].waiting) == (3, 2, 1)


async def test_text_of_a_failure_is_bounded(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection.model_validate({"url": server.url}), tmp_path, Metrics()) as store:
        states = WorkerStates(store)
        await states.report(replace(STATE, servers=[replace(DOWN, failure="x" * 10_000)]))
        [read] = await states.read()
        assert len(read.servers[0].failure) == 200
