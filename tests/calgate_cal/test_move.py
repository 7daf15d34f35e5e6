"""A license that any version of the functions wrote, moved to a server of the other kind, and served there."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from cal_model.freeze_version import FROZEN, SETTINGS
from cal_model.license import HOUR, MINUTE, Lab, a_license
from calgate.store import StoreSection, open_store
from calgate.store.move import copy
from support.redis_servers import KINDS, Server

pytestmark = pytest.mark.server
VERSIONS = sorted(file.stem for file in FROZEN.glob("*.lua"))
OTHER = {"redis": "valkey", "valkey": "redis"}


@pytest_asyncio.fixture
async def target(server: Server, tmp_path: Path) -> AsyncIterator[Server]:
    """An empty server of the other kind."""
    kind = OTHER[next(kind for kind, program in KINDS.items() if program == server.program)]
    started = Server(tmp_path / "target", KINDS[kind]).start()
    yield started
    started.stop()


@pytest.mark.parametrize("version", VERSIONS)
async def test_moved_license_has_the_same_holders_queue_records_and_serves_them(
    version: str, server: Server, target: Server, tmp_path: Path
) -> None:
    async with a_license(server.url, tmp_path, **SETTINGS) as old:
        await old.store.redis.flushall()
        for key, dump in json.loads((FROZEN / f"{version}.json").read_text()).items():
            await old.store.redis.restore(key, 0, base64.b64decode(dump))
        await old.at(2 * HOUR + MINUTE)
        before = await everything(old)
    async with Redis.from_url(server.url, protocol=2) as source, Redis.from_url(target.url, protocol=2) as new_store:
        await copy(source, new_store, "calgate")
    async with open_store(StoreSection(url=target.url), tmp_path) as store:
        new = Lab(store, SETTINGS)
        await new.at(2 * HOUR + MINUTE)
        assert await everything(new) == before
        assert await new.open("alice") == "named"
        holders = {(one.user, one.client): one.id for one in await new.holders()}
        assert (await new.claim("dora")).id == holders["dora", "pc"]


async def everything(lab: Lab) -> tuple[object, ...]:
    """What administrators see of a license."""
    records = [record async for record in lab.license_admin.records(0)]
    assert records
    holders = sorted(await lab.holders(), key=lambda holder: holder.id)
    return holders, await lab.license_admin.queue(), await lab.license_admin.state(), records
