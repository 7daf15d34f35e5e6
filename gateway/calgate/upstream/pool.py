"""A document server, and its connection pool: one exchange at a time on each connection."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from calgate.plugin.errors import BadGateway, GatewayTimeout, Unavailable
from calgate.upstream.connection import Stale, UpstreamConnection

_SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "OPTIONS"})
_IDLE_LIFE = 30.0  # seconds; document servers keep idle connections for 60 s and more


@dataclass(slots=True, eq=False)
class UpstreamRequest:
    """A request as it is sent to a document server."""

    method: str
    message: bytes  # request line and headers, ready to send
    body: AsyncIterator[bytes] | None = None
    chunked: bool = False  # how the body is framed: in chunks, or by the Content-Length in `message`


class Unreachable(BadGateway):
    """No connection could be opened, so nothing was sent: the request can go to another server."""


class Upstream:
    """The connection pool of one document server."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        connect: float = 5,
        patience: float = 120,
        connections: int = 1000,
    ) -> None:
        """`connections`: the most at once, WebSockets not counted; a request waits up to `connect` seconds for one."""
        self.host = host
        self.port = port
        self._tls = tls
        self._connect = connect
        self._patience = patience
        self._idle: deque[UpstreamConnection] = deque()
        self._connections: set[UpstreamConnection] = set()
        self._limit = connections
        self._opening = 0
        self._waiters: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def authority(self) -> str:
        """The value of a Host header: without the default port."""
        default = 443 if self._tls else 80
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def authorities(self) -> frozenset[str]:
        """How a URL can name the server: with its port, and without if that is the default one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset({self.authority.lower(), f"{host}:{self.port}".lower()})

    @property
    def name(self) -> str:
        """The server's URL, as in the settings file."""
        return f"{self.scheme}://{self.authority}"

    @property
    def scheme(self) -> str:
        return "https" if self._tls else "http"

    async def __aenter__(self) -> Self:
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        for connection in list(self._connections):
            connection.close()

    async def send(self, request: UpstreamRequest) -> UpstreamConnection:
        """Sends a request and waits for the head of its response. Raises BadGateway, GatewayTimeout, Unavailable."""
        repeatable = request.body is None and request.method in _SAFE_TO_REPEAT
        while (connection := self._take() or await self._wait_for_turn()) is not None:
            if not connection.reusable:
                continue
            try:
                return await self._exchange(connection, request)
            except Stale:
                if not repeatable:
                    raise BadGateway(
                        f"{self.host} closed an idle connection while a {request.method} was being sent"
                    ) from None
        try:
            return await self._exchange(await self._open(), request)
        except Stale:
            raise BadGateway(f"{self.host} closed the connection without a response") from None

    async def _exchange(self, connection: UpstreamConnection, request: UpstreamRequest) -> UpstreamConnection:
        try:
            connection.begin(request.message, without_body=request.method == "HEAD")
            if request.body is not None:
                connection.send(request.body, chunked=request.chunked)
            await connection.head()
        except BaseException:
            connection.close()
            raise
        return connection

    def _take(self) -> UpstreamConnection | None:
        return (
            self._idle.pop() if self._idle and not self._waiters else None
        )  # the last used is the most likely to be open still

    async def _open(self) -> UpstreamConnection:
        """Opens a connection in the room that was reserved for it."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self._patience, self._release, self._discard),
                    self.host,
                    self.port,
                    ssl=self._tls,
                    server_hostname=self.host if self._tls else None,
                )
            if not connection.alive:
                raise ConnectionResetError("closed at once")
            self._connections.add(connection)
        except TimeoutError as error:
            raise Unreachable(f"{self.host}:{self.port} does not accept a connection in {self._connect:g} s") from error
        except (OSError, ssl.SSLError) as error:
            raise Unreachable(f"{self.host}:{self.port} cannot be reached: {error}") from error
        finally:
            self._opening -= 1
            self._wake_next_waiter()
        return connection

    def _release(self, connection: UpstreamConnection) -> None:
        turn = self._next_waiter()
        if turn is not None:
            turn.set_result(connection)
        else:
            self._idle.append(connection)

    def _discard(self, connection: UpstreamConnection) -> None:
        self._connections.discard(connection)
        self._wake_next_waiter()

    # ------------------------------------------------------------ when all connections are in use

    async def _wait_for_turn(self) -> UpstreamConnection | None:
        """Returns a connection that another request has released; None: room for a new one is reserved.

        First come, first served: a new request never overtakes a waiting one. Raises Unavailable after `connect`
        seconds.
        """
        if not self._waiters and self._has_room:
            self._opening += 1
            return None
        turn: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            async with asyncio.timeout(self._connect):
                return await turn
        except TimeoutError:
            self._pass_turn_on(turn)
            detail = f"all {self._limit} connections to {self.host}:{self.port} were in use for {self._connect:g} s"
            raise Unavailable(detail, code="no-upstream") from None
        except asyncio.CancelledError:
            self._pass_turn_on(turn)
            raise

    @property
    def _has_room(self) -> bool:
        return len(self._connections) + self._opening < self._limit

    def _pass_turn_on(self, turn: "asyncio.Future[UpstreamConnection | None]") -> None:
        """The waiter was cancelled or timed out, perhaps just after its turn was granted: passes the turn on."""
        if turn.cancelled():
            with suppress(ValueError):
                self._waiters.remove(turn)
        elif (connection := turn.result()) is None:
            self._opening -= 1
            self._wake_next_waiter()
        elif connection.reusable:
            self._release(connection)

    def _next_waiter(self) -> "asyncio.Future[UpstreamConnection | None] | None":
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                return turn
        return None

    def _wake_next_waiter(self) -> None:
        """Where there is room for another connection, reserves it for the request that has waited longest."""
        turn = self._next_waiter() if self._has_room else None
        if turn is not None:
            self._opening += 1
            turn.set_result(None)

    async def _sweep(self) -> None:
        """Ends exchanges whose deadline has passed and closes connections that were idle for too long."""
        while True:
            await asyncio.sleep(1)
            now = asyncio.get_running_loop().time()
            for connection in [c for c in self._connections if c.deadline and c.deadline < now]:
                connection.expire(GatewayTimeout(f"{self.host}:{self.port} sent nothing for {self._patience:g} s"))
            while self._idle and self._idle[0].idle_since + _IDLE_LIFE < now:
                self._idle.popleft().close()
