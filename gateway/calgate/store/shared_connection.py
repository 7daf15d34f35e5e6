"""One connection for function calls: each is written at once, and the replies come in the order of the calls.

A pool lends every call a connection of its own; borrowing it, reading from its stream and giving it back cost several
times as much as packing a call and reading its reply.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import hiredis
from redis import exceptions as fault
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

Command = Sequence[str | int | float | bytes]

_INCOMPLETE = object()
_MOST_DUE = 10_000  # calls without a reply
_CLOSED = "the connection to the store is closed"


class SharedConnection:
    """Connects when a call needs it, and again after a loss or when another server has become the primary."""

    def __init__(self, pool: ConnectionPool, reply_within: float) -> None:
        """`reply_within`: seconds, after which a server that has not replied counts as lost."""
        self._pool = pool
        self._reply_within = reply_within
        self._current: _OpenConnection | None = None
        self._opening: _Opening | None = None
        self._is_closed = False

    def begin(self, command: Command) -> "asyncio.Future[Any] | None":
        """Sends a call and returns its reply to come; None if there is no connection, or too much is due on it.

        Cancelling the future discards the reply, not the call.
        """
        current = self._current
        if current is None or not current.can_send or not self._is_to_primary(current.connection):
            return None
        return current.send(_pack(command))

    async def call(self, command: Command, *, retries: int = 1) -> Any:
        """Sends a call, again if the connection is lost, and returns its reply. Raises redis-py's exceptions."""
        packed = _pack(command)
        for _ in range(retries):
            with contextlib.suppress(fault.ConnectionError, fault.ReadOnlyError):
                return await (await self._connected()).send(packed)
        return await (await self._connected()).send(packed)

    async def aclose(self) -> None:
        """Closes the connection for good; calls that are due fail, and so do all further ones."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.task.cancel()
            await asyncio.wait({self._opening.task})
        if self._current is not None:
            self._current.close(fault.ConnectionError(_CLOSED))

    async def _connected(self) -> "_OpenConnection":
        """Returns the open connection; all who need one wait for the same."""
        while True:
            current = self._current
            if self._is_closed:
                raise fault.ConnectionError(_CLOSED)
            if current is not None and current.is_open and self._is_to_primary(current.connection):
                if not current.can_send:
                    raise fault.ConnectionError(f"{_MOST_DUE} calls wait for a reply already")
                return current
            if current is not None:
                current.close(fault.ConnectionError("another server is the primary now"))
            opening = self._opening
            if opening is None or opening.task.done():
                opening = self._opening = self._open()
            elif opening.connection.is_connected and not self._is_to_primary(opening.connection):
                opening.task.cancel()  # its server may have stopped in the middle
            await asyncio.wait({opening.task})
            if not opening.task.cancelled():
                opening.task.result()  # raises what the attempt ended with
                if self._current is None or not self._current.is_open:
                    raise fault.ConnectionError("the connection was lost as soon as it was open")

    def _open(self) -> "_Opening":
        connection = self._pool.make_connection()
        return _Opening(connection, asyncio.create_task(self._connect(connection)))

    async def _connect(self, connection: AbstractConnection) -> None:
        try:
            await self._pool.ensure_connection(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._current = _OpenConnection(connection, self._reply_within)

    def _is_to_primary(self, connection: Any) -> bool:
        """Whether a connection leads to the primary that the Sentinels named last; always, for a single server."""
        primary = getattr(self._pool, "master_address", None)
        return primary is None or (connection.host, connection.port) == primary


class _Opening(NamedTuple):
    """A connection that is being opened."""

    connection: AbstractConnection
    task: "asyncio.Task[None]"


class _OpenConnection(asyncio.Protocol):
    """A connection that redis-py has opened (address, TLS, password, database) and that is read here from then on."""

    def __init__(self, connection: AbstractConnection, reply_within: float) -> None:
        # redis-py opens connections and has no way to hand one over: hence its private members, here and in `close`
        opened: Any = connection
        self.connection = opened
        self.is_open = True
        self._within = reply_within
        self._loop = asyncio.get_running_loop()
        self._due: deque[tuple[asyncio.Future[Any], float]] = deque()  # and when each was sent
        self._timer: asyncio.TimerHandle | None = None
        self._replies = hiredis.Reader(
            protocolError=fault.InvalidResponse,
            replyError=opened._parser.parse_error,  # noqa: SLF001
            notEnoughData=_INCOMPLETE,
        )
        self._transport: asyncio.Transport = opened._writer.transport  # noqa: SLF001
        self._transport.set_protocol(self)

    @property
    def can_send(self) -> bool:
        return self.is_open and len(self._due) < _MOST_DUE

    def send(self, packed: bytes) -> "asyncio.Future[Any]":
        """Sends a packed command and returns its reply to come."""
        reply = self._loop.create_future()
        now = self._loop.time()
        self._due.append((reply, now))
        if self._timer is None:
            self._timer = self._loop.call_later(self._within, self._expire)
        self._transport.write(packed)
        return reply

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        try:
            while (reply := self._replies.gets()) is not _INCOMPLETE:
                future = self._due.popleft()[0]
                if future.done():
                    continue  # its caller was cancelled
                if not isinstance(reply, Exception):
                    future.set_result(reply)
                    continue
                future.set_exception(reply)
                if isinstance(reply, fault.ReadOnlyError | fault.ConnectionError):
                    self.close(reply)  # a replica by now, or a server that still loads
                    return
        except (fault.InvalidResponse, IndexError) as error:
            self.close(fault.ConnectionError(f"not a reply: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.close(fault.ConnectionError(str(error or "the server closed the connection")))

    def close(self, error: Exception) -> None:
        """Closes the connection; calls that are due fail with `error`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.is_open:
            self.is_open = False
            self._transport.abort()
            self.connection._close()  # noqa: SLF001
        while self._due:
            future = self._due.popleft()[0]
            if not future.done():
                future.set_exception(error)

    def _expire(self) -> None:
        """Closes the connection if the oldest call is without a reply for too long."""
        self._timer = None
        if not self._due:
            return
        left = self._due[0][1] + self._within - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._expire)
        else:
            self.close(fault.TimeoutError(f"no reply within {self._within:g} s"))


def _pack(command: Command) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]  # it declares a tuple of one
    return packed
