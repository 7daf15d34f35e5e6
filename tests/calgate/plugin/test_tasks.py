"""Background tasks whose failure is logged."""

import ast
import asyncio
from pathlib import Path

import pytest

from calgate.plugin.tasks import start_task

ROOT = Path(__file__).parents[3]
AWAITED = {  # files that await the tasks which they create, and so see their exceptions
    "gateway/calgate/app.py",
    "gateway/calgate/authentication/completion.py",
    "gateway/calgate/authentication/shared_calls.py",
    "gateway/calgate/commands/demo.py",
    "gateway/calgate/demo/server.py",
    "gateway/calgate/licensing/leases.py",
    "gateway/calgate/pipeline.py",
    "gateway/calgate/plugin/tasks.py",
    "gateway/calgate/processes/parent.py",
    "gateway/calgate/store/connection.py",
    "gateway/calgate/store/embedded.py",
    "gateway/calgate/store/shared_connection.py",
    "gateway/calgate/upstream/balancer.py",
    "gateway/calgate/upstream/connection.py",
    "gateway/calgate/demo/busy.py",
    "plugins/calgate_cal/__init__.py",
    "plugins/calgate_ldap/cache.py",
    "plugins/calgate_cal/screens/background.py",
    "plugins/calgate_negotiate/guard.py",
}


async def test_exception_of_a_task_is_logged_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    failed = asyncio.Event()

    async def work() -> None:
        raise RuntimeError("a bug")

    start_task(work(), "keeping house", failed.set)
    await asyncio.wait_for(failed.wait(), 5)
    (record,) = caplog.records
    assert record.getMessage() == "keeping house: ended by a bug; restart the gateway"
    assert record.exc_info is not None


async def test_end_of_a_task_is_not_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    endless = start_task(asyncio.sleep(60), "sleeping", lambda: pytest.fail("it was cancelled"))
    endless.cancel()
    done = start_task(asyncio.sleep(0), "napping", lambda: pytest.fail("it returned"))
    await asyncio.wait({endless, done})
    assert caplog.records == []


def test_task_is_created_bare_only_where_it_is_awaited() -> None:
    found = set()
    for folder in ("gateway", "plugins"):
        for file in (ROOT / folder).rglob("*.py"):
            calls = [node.func for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)]
            if any(isinstance(one, ast.Attribute) and one.attr in ("create_task", "ensure_future") for one in calls):
                found.add(str(file.relative_to(ROOT)))
    assert found <= AWAITED, "a task that nothing awaits is started by start_task"
