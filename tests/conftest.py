"""Fixtures for several folders, and the distribution of tests to processes."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support import parallel
from support.redis_servers import KINDS, Server

# The time that an example takes shows how busy the machine is. Its function's fixtures serve all examples, on purpose.
settings.register_profile(
    "calgate", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("calgate")

STARTING = {"server", "cal_server", "serve", "domain"}  # fixtures that start a server


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Starts one process more than there are cores, because most tests wait for something."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if not STARTING.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)
    if parallel.is_worker(config):
        parallel.arrange(items)


# outermost, so that pytest-timeout does not count the time until the test has the machine
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if not parallel.is_worker(item.config):
        return (yield)
    with parallel.MACHINE.held(alone=item.get_closest_marker(parallel.ALONE) is not None):
        return (yield)


@pytest.fixture(params=sorted(KINDS))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Starts a server with an append-only file: the test runs once with Redis and once with Valkey."""
    started = Server(tmp_path / request.param, KINDS[request.param], appendonly="yes", appendfsync="always").start()
    yield started
    started.stop()
