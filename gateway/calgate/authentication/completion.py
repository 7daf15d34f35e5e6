"""Steps that belong together: once begun they are all carried out, even if the client disconnects in between."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()  # asyncio itself keeps only a weak reference to a task


async def complete(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` to its end, even if the caller is cancelled, and returns its result."""
    return await asyncio.shield(start(work))


def start(work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    """Starts `work`, which nobody needs to wait for."""
    task = asyncio.get_running_loop().create_task(work)
    _running.add(task)
    task.add_done_callback(_forget)
    return task


def _forget(task: "asyncio.Task[Any]") -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # its caller may have been cancelled: asyncio would report an exception that nobody retrieved


async def finish_all(within: float) -> None:
    """Waits for work whose callers were cancelled, before the process ends."""
    if _running:
        await asyncio.wait(set(_running), timeout=within)
