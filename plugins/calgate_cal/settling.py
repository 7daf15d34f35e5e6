"""Sends the outcomes of provisional leases to the store: those of 50 ms together.

Each call wakes the store and this process, which takes as long as the call's own work; a sign-in makes one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from calgate.plugin import Unavailable, start_task

_MOST_TOGETHER = 500


@dataclass(slots=True, eq=False)
class Outcome:
    """How a request with a provisional lease ended."""

    license: str
    args: Sequence[str | int]  # as the function `settle` takes them
    is_lasting: bool  # whether it must survive a failover
    sent: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


Send = Callable[[str, Sequence[Outcome]], Awaitable[None]]


class Settling:
    """The outcomes that have not been sent yet. The first is sent at once, those that follow after a pause."""

    def __init__(self, send: Send, pause: float = 0.05) -> None:
        """`send` sends outcomes of one license; `pause`: seconds between two batches."""
        self.pause = pause
        self._send = send
        self._waiting: dict[str, list[Outcome]] = {}
        self._sending: asyncio.Task[None] | None = None

    async def settle(self, outcome: Outcome) -> None:
        """Waits until the store has the outcome. Raises what the sending raises."""
        self._waiting.setdefault(outcome.license, []).append(outcome)
        if self._sending is None:
            self._sending = start_task(self._send_all(), "CALs: settling")
        await outcome.sent

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, {}
                for license, outcomes in waiting.items():
                    for start in range(0, len(outcomes), _MOST_TOGETHER):
                        await self._send_some(license, outcomes[start : start + _MOST_TOGETHER])
                await asyncio.sleep(self.pause)
        finally:
            self._sending = None

    async def _send_some(self, license: str, outcomes: Sequence[Outcome]) -> None:
        error: BaseException | None = None
        try:
            await self._send(license, outcomes)
        except Unavailable as refusal:
            error = refusal
        except BaseException as bug:
            error = bug
            raise
        finally:
            for outcome in outcomes:
                if outcome.sent.done():  # its caller was cancelled
                    continue
                outcome.sent.set_result(None) if error is None else outcome.sent.set_exception(error)
