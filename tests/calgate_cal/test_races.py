"""Sixty-four processes race for six CALs; the records that the functions wrote show what happened."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cal_model import race
from calgate.store import StoreSection, open_store
from calgate_cal import Config
from calgate_cal.admin import LicenseAdmin
from calgate_cal.audit import BEGINS, Record
from support.directory import People
from support.redis_servers import Server

pytestmark = pytest.mark.server

PROCESSES, SECONDS = 64, 10


@pytest.fixture
def racing_server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path / "server", maxclients=1000).start()
    yield started
    started.stop()


async def _race(server: Server, folder: Path, *, queue: bool) -> list[Record]:
    words = [sys.executable, "-m", race.__name__, server.url, str(PROCESSES), str(SECONDS), str(int(queue))]
    subprocess.run(words, check=True, timeout=60, cwd=Path(race.__file__).parents[1])
    config = Config.model_validate({"q": race.license(queue=queue)})
    async with open_store(StoreSection(url=server.url), folder) as store:
        license_admin = LicenseAdmin("q", config.licenses["q"], store, People(), "admin")
        assert (await license_admin.state()).pools[2].occupied == 0, "a CAL was lost"
        return [record async for record in license_admin.records(0)]


def _most_out(records: Sequence[Record]) -> int:
    out, most = set[str](), 0
    for record in records:
        if record.what in BEGINS:
            out.add(record.id)
        elif record["ended"]:
            out.remove(record["lease"])
        most = max(most, len(out))
    assert out == set(), "the records do not close"
    return most


async def test_race_grants_no_seventh_cal_and_loses_none(racing_server: Server, tmp_path: Path) -> None:
    records = await _race(racing_server, tmp_path, queue=False)
    assert _most_out(records) == race.CALS
    assert sum(record.what == "granted" for record in records) > 10 * race.CALS, "they hardly changed hands"


async def test_race_for_the_queue_is_served_first_come_first_served(racing_server: Server, tmp_path: Path) -> None:
    records = await _race(racing_server, tmp_path, queue=True)
    assert _most_out(records) == race.CALS
    waiting: list[str] = []
    offered: set[str] = set()
    for record in records:
        holder = f"{record['user']}|{record['client']}"
        if record.what == "waits":
            waiting.append(holder)
        elif record.what == "offered":
            assert holder == waiting[0], f"{holder} was served before {waiting[0]}"
            waiting.remove(holder)
            offered.add(holder)
        elif record.what in ("gave-up", "kept-away"):
            waiting = [other for other in waiting if other != holder]
            offered.discard(holder)
        elif record.what == "granted":
            assert holder in offered or not waiting, f"{holder} overtook {waiting}"
            offered.discard(holder)
    assert sum(record.what == "offered" for record in records) > 50
