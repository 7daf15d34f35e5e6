"""The record of what administrators changed apart from licenses."""

from pathlib import Path

from calgate.plugin.changes import ChangeLog
from calgate.store import StoreSection, open_store
from calgate.telemetry.metrics import Metrics
from support.redis_servers import Server


async def test_changes_are_kept_as_long_as_decisions_with_bounded_texts(server: Server, tmp_path: Path) -> None:
    section = StoreSection.model_validate({"url": server.url, "audit_keep": "400d"})
    async with open_store(section, tmp_path, Metrics()) as store:
        changes = ChangeLog(store)
        for number in range(300):  # Redis trims whole blocks of a hundred records
            await store.execute(
                *("XADD", "calgate:changes", f"1000-{number}", "what", "x", "subject", "s", "by", "b", "reason", "")
            )
        await changes.record("session-ended", "CORP\\alice from ::1", "root@gw1", "a\nb  c " + "x" * 1000)
        kept = [change async for change in changes.latest()]
        assert len(kept) <= 101
        assert (kept[0].what, kept[0].subject, kept[0].by) == ("session-ended", "CORP\\alice from ::1", "root@gw1")
        assert kept[0].reason.startswith("a b c x")
        assert len(kept[0].reason) == 500


async def test_changes_come_newest_first_over_several_pages(server: Server, tmp_path: Path) -> None:
    async with open_store(StoreSection.model_validate({"url": server.url}), tmp_path, Metrics()) as store:
        log = ChangeLog(store)
        for number in range(1001):
            await log.record("server-drained", str(number), "root@gw1", "")
        assert [change.subject async for change in log.latest()] == [str(n) for n in reversed(range(1001))]
