"""Waits for a state instead of for a time, so that a loaded machine makes a test slower but never fail."""

import asyncio
import inspect
import time
from collections.abc import Callable


async def until(condition: Callable[[], object], within: float = 60, every: float = 0.02) -> None:
    """Waits until the condition, a function or a coroutine function, returns a true value."""
    deadline = time.monotonic() + within
    while not await _value_of(condition):
        assert time.monotonic() < deadline, f"the condition was not fulfilled within {within:g} s"
        await asyncio.sleep(every)


async def _value_of(condition: Callable[[], object]) -> object:
    value = condition()
    return await value if inspect.isawaitable(value) else value
