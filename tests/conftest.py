"""Fixtures that several folders share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.redis_servers import KINDS, Server


@pytest.fixture(params=sorted(KINDS))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server with an append-only file: the test runs on Redis, then on Valkey."""
    started = Server(tmp_path / request.param, KINDS[request.param], appendonly="yes", appendfsync="always").start()
    yield started
    started.stop()
