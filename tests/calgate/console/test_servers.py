"""The faults in the overview, from the reports of the workers."""

from calgate.console.servers import alive, servers_down, silent_gateways, unwell_dependencies
from calgate.telemetry.worker_states import ServerState, WorkerState

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
