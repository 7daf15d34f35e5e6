"""Background tasks whose failure is logged: an exception in a task that nothing awaits would go unnoticed."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)


def start_task(
    work: Coroutine[Any, Any, None], name: str, on_failure: Callable[[], None] = lambda: None
) -> asyncio.Task[None]:
    """Starts a task; if it raises, logs the exception and calls `on_failure`. The caller keeps the reference."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: ended by a bug; restart the gateway", name, exc_info=error)
            on_failure()

    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(ended)
    return task
