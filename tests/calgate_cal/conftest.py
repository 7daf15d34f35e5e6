"""A license on an empty server for each test."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from cal_model.license import Lab, a_license
from calgate.plugin import Directory
from support.redis_servers import KINDS, Server


@pytest.fixture(scope="session", params=sorted(KINDS))
def cal_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    """Starts Redis, then Valkey; each test begins with an empty one."""
    started = Server(tmp_path_factory.mktemp("cal"), KINDS[request.param]).start()
    yield started
    started.stop()


@pytest.fixture
async def license(cal_server: Server, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Lab]]]:
    """Returns a function that makes a license from its settings, and a directory if the usual one does not do."""
    async with AsyncExitStack() as stack:

        async def make(people: Directory | None = None, **settings: Any) -> Lab:
            return await stack.enter_async_context(a_license(cal_server.url, tmp_path, people, **settings))

        await _empty(cal_server)
        yield make


async def _empty(server: Server) -> None:
    async with Redis.from_url(server.url, protocol=2) as redis:
        await redis.flushall()
