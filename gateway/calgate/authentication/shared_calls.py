"""One call for all requests that need the same result at the same time."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class SharedCalls(Generic[Result]):
    """Unfinished calls, by the key of their result.

    A browser sends a burst of requests when it comes back to a page; without this each of them would ask the store.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[Result]] = {}

    async def result(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Returns the result of the unfinished call for this key, or of a new one; raises what the call raises.

        The call goes on without a caller that is cancelled.
        """
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.get_running_loop().create_task(call())
            running.add_done_callback(lambda task: self._forget(key, task))
        return await asyncio.shield(running)

    def _forget(self, key: Hashable, task: "asyncio.Task[Result]") -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # the callers may all be cancelled: asyncio would report that nobody retrieved it
