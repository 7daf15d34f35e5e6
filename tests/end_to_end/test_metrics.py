"""The Prometheus metrics of a running gateway with two workers."""

import asyncio
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from support.gateway_process import DocumentServer, curl, gateway, workers_of, write_settings
from support.ports import free_port


class Metrics:
    """The metrics at one moment, summed over the workers where each worker has its own."""

    def __init__(self, text: str) -> None:
        self.samples: list[Sample] = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def of(self, name: str, **labels: str) -> float:
        """Returns the sum of a metric's samples that have these labels."""
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())


async def metrics_once(admin: int, condition: Callable[[Metrics], bool]) -> Metrics:
    """Returns the metrics as soon as they fulfil the condition; each worker reports once a second."""
    for _ in range(200):
        metrics = Metrics((await curl(f"http://127.0.0.1:{admin}/metrics")).body.decode())
        if condition(metrics):
            return metrics
        await asyncio.sleep(0.1)
    pytest.fail(f"the condition was never fulfilled; there is {sorted(map(str, metrics.samples))}")


def has_reported_all(metrics: Metrics) -> bool:
    """Whether both workers have reported everything that the four requests caused: each reports once a second."""
    return (
        metrics.of("calgate_refusals_total", code="no-cal") == 1
        and metrics.of("calgate_refusals_total", code="forbidden") == 1
        and metrics.of("calgate_store_calls_total", operation="calgate_cal_settle") == 2
        and metrics.of("calgate_store_calls_total", operation="calgate_session_begin", outcome="ok") == 4
        and metrics.of("calgate_claims_total") == 2
        and metrics.of("calgate_denials_total") == 1
        and metrics.of("calgate_stage_seconds_count", stage="whole") >= 6
        and metrics.of("calgate_loop_lag_seconds_count") >= 2
        and any(sample.name == "calgate_queue_waiting" for sample in metrics.samples)
    )


async def test_metrics_count_requests_calls_and_cals(server: DocumentServer, tmp_path: Path) -> None:
    admin = free_port()
    settings = write_settings(tmp_path, server.port, listen=f'workers = 2\nadmin = "127.0.0.1:{admin}"')
    async with gateway(settings) as gate:
        for user, status in (("alice", 200), ("bob", 200), ("carol", 403), ("mallory", 403)):
            assert (await curl(f"{gate.url}/docs/sales", user=user)).status == status
        metrics = await metrics_once(admin, has_reported_all)
        assert metrics.of("calgate_requests_total", status="200") == 2
        assert metrics.of("calgate_claims_total", kind="session") == 2
        assert metrics.of("calgate_sign_ins_total", mechanism="ntlm") == 4
        for stage, least in (("sign-in", 4), ("claim", 2), ("upstream", 2), ("whole", 6)):
            assert metrics.of("calgate_stage_seconds_count", stage=stage) >= least
        for operation, calls in (("calgate_cal_claim", 3), ("calgate_session_begin", 4)):
            assert metrics.of("calgate_store_calls_total", operation=operation, outcome="ok") == calls
            assert metrics.of("calgate_store_call_seconds_count", operation=operation) == calls
        assert metrics.of("calgate_directory_calls_total", operation="look_up", outcome="found") >= 4
        assert metrics.of("calgate_directory_call_seconds_count", operation="resolve") >= 2
        assert metrics.of("calgate_loop_lag_seconds_count") >= 2
        assert metrics.of("calgate_denials_total", license="demo", reason="full") == 1
        assert metrics.of("calgate_denials_total") == 1
        assert [s.value for s in metrics.samples if s.name == "calgate_upstream_up"] == [1, 1]
        assert metrics.of("calgate_upstream_connections", state="idle") >= 1  # of the requests before
        assert metrics.of("calgate_upstream_connections", state="in-use") == 0
        assert [s.value for s in metrics.samples if s.name == "calgate_upstream_waiting"] == [0, 0]
        assert [s.value for s in metrics.samples if s.name == "calgate_queue_waiting"] == [0]


async def test_cal_metrics_appear_once_with_several_workers(server: DocumentServer, tmp_path: Path) -> None:
    admin = free_port()
    settings = write_settings(tmp_path, server.port, listen=f'workers = 2\nadmin = "127.0.0.1:{admin}"')
    async with gateway(settings) as gate:
        assert (await curl(f"{gate.url}/docs/sales", user="alice")).status == 200
        old = workers_of(gate)
        gate.process.send_signal(signal.SIGHUP)  # new workers query the store at once, not after ten seconds
        metrics = await metrics_once(
            admin, lambda f: not set(old) & set(workers_of(gate)) and f.of("calgate_cals_in_use", kind="session") > 0
        )
        rows = [sample for sample in metrics.samples if sample.name.startswith("calgate_cals_")]
        assert {(s.name, s.labels["license"], s.labels["kind"], s.value) for s in rows} >= {
            ("calgate_cals_in_use", "demo", "session", 1),
            ("calgate_cals_in_use", "demo", "named", 0),
            ("calgate_cals_limit", "demo", "session", 2),
        }
        assert len(rows) == 12, "three metrics for each of the four kinds"
        assert not any("worker" in sample.labels for sample in rows)


async def test_metric_names_and_texts_follow_prometheus_conventions(server: DocumentServer, tmp_path: Path) -> None:
    admin = free_port()
    async with gateway(write_settings(tmp_path, server.port, listen=f'admin = "127.0.0.1:{admin}"')):
        reply = await curl(f"http://127.0.0.1:{admin}/metrics")
    assert reply.values("content-type") == ["text/plain; version=0.0.4; charset=utf-8"]
    for family in text_string_to_metric_families(reply.body.decode()):
        assert re.fullmatch(r"calgate_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        assert family.type != "histogram" or family.name.endswith("_seconds"), "durations are in seconds, the base unit"
