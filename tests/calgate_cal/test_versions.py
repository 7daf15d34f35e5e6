"""A gateway of another version can use the same store: frozen functions and their data alongside the present ones."""

import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cal_model.freeze_version import FROZEN, SETTINGS
from cal_model.license import CLOCK, HOUR, MINUTE, Lab, who
from calgate_cal import lua
from calgate_cal.allocator import CalAllocator

License = Callable[..., Awaitable[Lab]]
VERSIONS = sorted(file.stem for file in FROZEN.glob("*.lua"))


@pytest.fixture(params=VERSIONS)
async def old(request: pytest.FixtureRequest, license: License) -> tuple[Lab, str]:
    """Loads the data of a frozen version; returns the name under which its functions run alongside the present ones."""
    q = await license(**SETTINGS)
    await q.store.redis.flushall()
    await q.at(2 * HOUR + MINUTE)
    for key, dump in json.loads((FROZEN / f"{request.param}.json").read_text()).items():
        await q.store.redis.restore(key, 0, base64.b64decode(dump))
    beside = f"{request.param}_frozen"
    functions = (FROZEN / f"{request.param}.lua").read_text()
    await q.store.redis.function_load(functions.replace(request.param, beside), replace=True)
    return q, beside


async def test_data_of_an_older_version_is_read(old: tuple[Lab, str]) -> None:
    q, _ = old
    assert sorted((it.name, it.kind, it.state) for it in await q.holders()) == [
        ("CORP\\alice", "named", "held"),
        ("CORP\\ann", "named", "held"),
        ("CORP\\ben", "named", "quarantined"),
        ("CORP\\carl", "document", "held"),
        ("CORP\\dora", "session", "held"),
        ("CORP\\dora", "session", "provisional"),
        ("CORP\\emil", "usage", "held"),
    ]
    assert [it.user for it in await q.license_admin.queue()] == ["fred", "gwen"]
    assert (await q.license_admin.state()).allocations == {"hr.qvw": 1}
    records = [record.what async for record in q.license_admin.records(0)]
    assert records[:4] == ["configured", "allocated", "limited", "assigned"]


async def test_older_and_present_functions_serve_the_same_users_with_the_same_leases(
    old: tuple[Lab, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    q, beside = old
    before = {(it.user, it.client): it.id for it in await q.holders()}
    with monkeypatch.context() as other:
        other.setattr(lua, "VERSION", beside)
        other.setattr(lua, "source", lambda: (FROZEN / f"{beside.removesuffix('_frozen')}.lua").read_text())
        frozen = CalAllocator(q.config, q.store, "other", clock=lambda: q.time)
        lease = await frozen.claim("q", who("dora"), "sales.qvw", reference="theirs")
        assert lease.id == before["dora", "pc"]
        assert (await frozen.claim("q", who("alice"), "sales.qvw", reference="theirs")).kind == "named"
        await frozen.release("q", who("dora", "laptop"))
    q.store.library(lua.VERSION, lua.source(clock=CLOCK))
    assert (await q.claim("dora")).id == before["dora", "pc"]
    assert (await q.stands("fred")) is not None
    assert next(it.state for it in await q.holders() if it.client == "laptop") == "signed-out"


def test_released_functions_are_not_changed() -> None:
    frozen = (FROZEN / f"{lua.VERSION}.lua").read_text()
    assert frozen == lua.source(clock=CLOCK), (
        "this needs a new VERSION; before a release: cd tests && python -m cal_model.freeze_version"
    )


def test_every_frozen_version_has_its_data() -> None:
    assert all(Path(FROZEN / f"{version}.json").exists() for version in VERSIONS)
