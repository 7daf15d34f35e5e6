"""The screen of the document servers and the faults in the overview, from the reports of the workers."""

from pathlib import Path

from calgate.config import read
from calgate.console.servers import alive, servers_down, servers_screen, silent_gateways, unwell_dependencies
from calgate.plugin.screens import Inputs, Table, Visitor
from calgate.store import open_store
from calgate.telemetry.metrics import Metrics
from calgate.telemetry.worker_states import ServerState, WorkerState, WorkerStates
from support.gateway_process import write_settings
from support.redis_servers import Server

UP = ServerState("https://qvs1", is_up=True, is_drained=False)
DOWN = ServerState("https://qvs1", is_up=False, is_drained=False, failed_at=100.0, failure="connection refused")


def test_server_is_down_for_so_many_workers_with_its_latest_failure() -> None:
    later = ServerState("https://qvs1", is_up=False, is_drained=False, failed_at=200.0, failure="status 503")
    reports = [WorkerState("gw1", 1, (), [DOWN]), WorkerState("gw1", 2, (), [UP]), WorkerState("gw2", 3, (), [later])]
    assert servers_down(reports) == ["https://qvs1 is down for 2 of 3 workers: status 503."]
    assert servers_down(reports[1:2]) == []


def test_dependency_is_named_once_for_each_gateway() -> None:
    reports = [WorkerState("gw1", 1, ["directory"]), WorkerState("gw1", 2, ["directory"]), WorkerState("gw2", 3)]
    assert unwell_dependencies(reports) == ["The directory does not respond to gateway gw1; Health says what to do."]


def test_gateway_is_silent_only_when_none_of_its_workers_reports() -> None:
    killed, replaced = WorkerState("gw1", 1, age=120), WorkerState("gw1", 2, age=1)
    gone = WorkerState("gw2", 3, age=95)
    assert silent_gateways([killed, replaced]) == []
    [sentence] = silent_gateways([killed, replaced, gone])
    assert sentence.startswith("Gateway gw2 has not reported for 95 s")
    assert alive([killed, replaced, gone]) == [replaced]


async def test_screen_adds_up_the_connections_of_all_workers(server: Server, tmp_path: Path) -> None:
    settings = read(write_settings(tmp_path, 1, store=f'url = "{server.url}"'))
    async with open_store(settings.core.store, tmp_path, Metrics()) as store:
        for worker in (1, 2):
            seen = ServerState("http://127.0.0.1:1", is_up=True, is_drained=False, in_use=worker, idle=5, waiting=1)
            await WorkerStates(store).report(WorkerState("gw1", worker, (), [seen]))
        reader = Visitor("CORP\\rita", "rita", "reader", "10.0.0.1")
        all_workers, each = (await servers_screen(settings, store).show(reader, Inputs({}))).parts
    assert isinstance(all_workers, Table)
    assert isinstance(each, Table)
    assert [(row["in_use"], row["waiting"]) for row in all_workers.rows] == [(3, 2)]
    assert [(row["in_use"], row["idle"], row["waiting"]) for row in each.rows] == [(1, 5, 1), (2, 5, 1)]
