"""Whether a dependency responds, as far as this process knows."""

import asyncio
from contextlib import suppress


class DependencyState:
    """Set by the calls to a dependency; read by health and metrics."""

    def __init__(self) -> None:
        self.is_up = True
        self._doubt = asyncio.Event()

    def responded(self) -> None:
        self.is_up = True

    def failed(self) -> None:
        self.is_up = False

    def doubted(self) -> None:
        """Notes that one call failed, perhaps for its own reason: the dependency should be probed now."""
        self._doubt.set()

    async def wait_for_doubt(self, seconds: float) -> None:
        """Returns at the next doubt, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._doubt.wait()
        self._doubt.clear()
