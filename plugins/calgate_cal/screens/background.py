"""Work for which a page waits only a little: the page says that it has begun, and shows the result later."""

import asyncio
from collections.abc import Coroutine
from typing import Any

PATIENCE = 1.0  # seconds that a page waits


def begin(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Starts work. Its failure is raised by `has_ended` for those who wait, and the next page begins again."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return task


async def has_ended(task: asyncio.Task[None], patience: float | None = None) -> bool:
    """Waits a little; returns whether the work has ended. Raises what the work raised."""
    await asyncio.wait([task], timeout=PATIENCE if patience is None else patience)
    if not task.done():
        return False
    await task
    return True
