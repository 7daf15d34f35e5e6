"""Requests and responses that can outlast the session or the CAL that admitted them, and how each is ended.

A long poll, an upload and an event stream can stay open for hours. The session knows every open exchange of its own
and ends it as soon as the session, or the CAL behind the exchange, is gone.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Protocol

from calgate.http.response import ResponseBody
from calgate.plugin.errors import Refusal
from calgate.plugin.licensing import Lease
from calgate.plugin.tasks import start_task

JUDGED_AFTER = 1.0  # seconds until a task judges an open stream: most end sooner, and a timer costs less than a task


class OpenExchange(Protocol):
    """An exchange that its session can end."""

    lease: Lease | None  # the CAL that the exchange needs all the time it is open
    outlives_expiry: bool  # a form or an upload that was sent in time is not lost

    def end(self, refusal: Refusal, reason: str) -> None:
        """Ends the exchange: with `refusal` where no response has begun, with `reason` in a WebSocket's Close frame."""


class OpenWebSocket(OpenExchange, Protocol):
    """A WebSocket, which can be closed with a status code as well."""

    def close(self, code: int, reason: str) -> None: ...


class ExchangeOwner(Protocol):
    """Keeps the open exchanges of one session."""

    def open(self, exchange: OpenExchange) -> None: ...
    def closed(self, exchange: OpenExchange) -> None: ...
    def demand_not_ended(self, *, outlives_expiry: bool) -> None: ...


class Forwarding:
    """A request that waits for the response of its document server.

    Use as a context manager in the task that serves the request. `end` cancels that task, and the cancellation leaves
    the block as the refusal, as with `asyncio.timeout`; no further task is needed, which an upload or a poll would pay.
    """

    __slots__ = ("_owner", "_refusal", "_task", "lease", "outlives_expiry")

    def __init__(self, owner: ExchangeOwner, lease: Lease | None, *, polls: bool) -> None:
        """`polls`: the request waits for something to happen; any other was licensed as it was forwarded."""
        self.lease = lease if polls else None
        self.outlives_expiry = not polls
        self._owner = owner
        self._task: asyncio.Task[object] | None = None
        self._refusal: Refusal | None = None

    def __enter__(self) -> "Forwarding":
        self._task = asyncio.current_task()
        self._owner.open(self)
        return self

    def end(self, refusal: Refusal, reason: str) -> None:
        if self._refusal is None and self._task is not None:
            self._refusal = refusal
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self._owner.closed(self)
        task, self._task = self._task, None
        if self._refusal is None or task is None:
            return
        others = task.uncancel()  # more than 0: the client has disconnected as well
        if kind is not None and issubclass(kind, asyncio.CancelledError) and not others:
            raise self._refusal from None


class StreamedBody:
    """A response body that is cut off with its session or CAL, and is judged again while it streams.

    A body that is here in one piece by the time the response begins is never registered.
    """

    __slots__ = ("_abort", "_body", "_judge", "_judging", "_owner", "lease", "length")

    outlives_expiry = False

    def __init__(
        self,
        body: ResponseBody,
        owner: ExchangeOwner,
        lease: Lease | None,
        abort: Callable[[], None],
        judge: Callable[[Callable[[Refusal], None]], Coroutine[None, None, None]],
    ) -> None:
        """`abort` resets the client's connection; `judge` runs until it calls its argument with a refusal."""
        self.lease = lease
        self.length = body.length
        self._body = body
        self._owner = owner
        self._abort = abort
        self._judge = judge
        self._judging: asyncio.TimerHandle | asyncio.Task[None] | None = None

    def take_whole(self) -> bytes | None:
        return self._body.take_whole()

    async def read(self) -> bytes:
        if self._judging is None:
            self._begin()
        piece = await self._body.read()
        if not piece:
            self._finish()
        return piece

    def _begin(self) -> None:
        self._owner.open(self)
        self._judging = asyncio.get_running_loop().call_later(JUDGED_AFTER, self._start_judging)
        try:
            self._owner.demand_not_ended(outlives_expiry=self.outlives_expiry)
        except Refusal as refusal:  # the session ended while the response began
            self.end(refusal, "")

    def _start_judging(self) -> None:
        self._judging = start_task(self._judge(self._refuse), "open response: access check")

    def _refuse(self, refusal: Refusal) -> None:
        self.end(refusal, "")

    def end(self, refusal: Refusal, reason: str) -> None:
        """Resets the connection: the client must not take what it has for the whole response."""
        self.close()
        self._abort()

    def close(self) -> None:
        self._finish()
        self._body.close()

    def _finish(self) -> None:
        if self._judging is not None:
            self._judging.cancel()
            self._owner.closed(self)
