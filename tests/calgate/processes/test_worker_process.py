"""A worker as its parent sees it: whether it still reports."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from calgate.processes import worker_process
from calgate.processes.worker_process import WorkerProcess
from support.waiting import until

REPORTS = """
echo '{"started": 0}'; read go; echo '{"ready": 0}'
while :; do echo '{"health": {"status": "ready"}}'; sleep 0.05; done
"""


@asynccontextmanager
async def started(script: str) -> AsyncIterator[tuple[WorkerProcess, asyncio.subprocess.Process]]:
    """Runs a worker that is a shell script, until it has ended and its channel is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", script, stdin=theirs.fileno(), stdout=theirs.fileno()
        )
    worker = WorkerProcess(process, ours, lambda: None)
    try:
        await worker.wait_until_started()
        await worker.wait_until_ready()
        yield worker, process
    finally:
        await worker.finish(20)
        await until(lambda: ours.fileno() < 0)


async def test_worker_that_is_stopped_or_hangs_is_killed_so_that_it_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_process, "_TICK", 0.02)
    async with started(REPORTS.replace("sleep 0.05", "kill -STOP $$")) as (worker, process), asyncio.timeout(20):
        await process.wait()
    assert worker.how_it_ended == "signal SIGKILL"
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        f"worker {worker.pid}: no report for 0.6 s; killing it"
    ]


async def test_worker_that_finishes_its_requests_is_left_alone_though_it_no_longer_reports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with started("trap 'sleep 2; exit 0' TERM; " + REPORTS) as (_worker, process):
        monkeypatch.setattr(worker_process, "_REPORTS_WITHIN", 1)
    assert process.returncode == 0
