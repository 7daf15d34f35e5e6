"""A document server, and its connection pool: one exchange at a time on each connection."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from calgate.http.descriptors import OUT_OF_DESCRIPTORS, report_lack_of_descriptors
from calgate.plugin.errors import BadGateway, GatewayTimeout, Refusal, Unavailable
from calgate.plugin.tasks import start_task
from calgate.upstream.connection import Stale, UpstreamConnection
from calgate.upstream.turns import Turn, Turns

_SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "OPTIONS"})
_IDLE_LIFE = 30.0  # seconds; document servers keep idle connections for 60 s and more


@dataclass(slots=True, eq=False)
class UpstreamRequest:
    """A request as it is sent to a document server."""

    method: str
    message: bytes  # request line and headers, ready to send
    body: AsyncIterator[bytes] | None = None
    user: str = ""  # whose request it is, for the limit per user
    chunked: bool = False  # how the body is framed: in chunks, or by the Content-Length in `message`
    owner: str = ""  # the only one who may use the connection, now and afterwards; "": anybody
    renew: Callable[[], Awaitable[bytes]] | None = None  # makes `message` again, where it must not be sent twice


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
        per_user: int | None = None,
    ) -> None:
        """`connections`: the most at once, WebSockets not counted; a request waits up to `connect` seconds for one.

        `per_user`: the most that the requests of one user have at once; by default half of the connections.
        """
        self.host = host
        self.port = port
        self._tls = tls
        self._connect = connect
        self._patience = patience
        self._turns = Turns(connections, per_user or max(1, connections // 2))
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
        self._sweeper = start_task(self._sweep(), f"upstream {self.name}: sweeping")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        for connection in list(self._turns.connections):
            connection.close()

    def counts(self) -> tuple[int, int, int]:
        """Returns how many connections are in use and idle, and how many requests wait for one."""
        return self._turns.counts()

    @property
    def has_idle(self) -> bool:
        """Whether a connection waits for a request; it may have ended since."""
        return bool(self._turns.idle)

    def send_at_once(self, request: UpstreamRequest) -> UpstreamConnection | None:
        """Sends a request on an idle connection; None if there is none that the user may have now."""
        while (connection := self._turns.take_idle(request.user, request.owner)) is not None:
            if self._assign(connection, request):
                connection.begin(request.message, without_body=request.method == "HEAD")
                return connection
        return None

    def _assign(self, connection: UpstreamConnection, request: UpstreamRequest) -> bool:
        """Gives a connection to a request; returns False if it has ended."""
        if not connection.reusable:
            self._turns.end_use(request.user)
            return False
        assert connection.owner == request.owner, "a connection that belongs to another person"
        connection.user = request.user
        return True

    async def send(self, request: UpstreamRequest, begun: UpstreamConnection | None = None) -> UpstreamConnection:
        """Sends a request and waits for the head of its response. Raises BadGateway, GatewayTimeout, Unavailable.

        `begun`: the connection on which `send_at_once` has sent the request already.
        """
        repeatable = request.body is None and request.method in _SAFE_TO_REPEAT
        while (connection := begun or self._take_idle(request) or await self._wait_for_turn(request)) is not None:
            if begun is None and not self._assign(connection, request):
                continue
            try:
                return await self._exchange(connection, request, has_begun=begun is not None)
            except Stale:
                begun = None
                if not repeatable:
                    raise BadGateway(
                        f"{self.host} closed an idle connection while a {request.method} was being sent"
                    ) from None
                if request.renew is not None:
                    request.message = await request.renew()
        try:
            return await self._exchange(await self._open(request), request)
        except Stale:
            raise BadGateway(f"{self.host} closed the connection without a response") from None

    def _take_idle(self, request: UpstreamRequest) -> UpstreamConnection | None:
        return self._turns.take_idle(request.user, request.owner)

    async def _exchange(
        self, connection: UpstreamConnection, request: UpstreamRequest, *, has_begun: bool = False
    ) -> UpstreamConnection:
        try:
            if not has_begun:
                connection.begin(request.message, without_body=request.method == "HEAD")
            if request.body is not None:
                connection.send(request.body, chunked=request.chunked)
            await connection.head()
        except BaseException:
            connection.close()
            raise
        return connection

    async def _open(self, request: UpstreamRequest) -> UpstreamConnection:
        """Opens a connection in the room that was reserved for it."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self._patience, self._turns.release, self._turns.discard),
                    self.host,
                    self.port,
                    ssl=self._tls,
                    server_hostname=self.host if self._tls else None,
                )
            if not connection.alive:
                raise ConnectionResetError("closed at once")
        except OSError as error:
            self._turns.not_opened(request.user)
            raise self._refusal_for(error) from error
        except BaseException:
            self._turns.not_opened(request.user)
            raise
        self._turns.opened(connection, request.user, request.owner)
        return connection

    def _refusal_for(self, error: OSError) -> Refusal:
        """Returns the refusal for a connection that could not be opened."""
        if isinstance(error, TimeoutError):
            return Unreachable(f"{self.host}:{self.port} does not accept a connection in {self._connect:g} s")
        if error.errno in OUT_OF_DESCRIPTORS:  # not a failure of the document server
            report_lack_of_descriptors(f"connect to {self.host}:{self.port}")
            return Unavailable(f"no file descriptor for a connection to {self.host}:{self.port}", code="no-upstream")
        return Unreachable(f"{self.host}:{self.port} cannot be reached: {error}")

    async def _wait_for_turn(self, request: UpstreamRequest) -> UpstreamConnection | None:
        """Returns a connection that another request has released; None: room for a new one is reserved.

        Raises Unavailable after `connect` seconds.
        """
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_: Turn) -> None:
            if not granted.done():
                granted.set_result(None)

        turn = self._turns.take(request.user, wake, request.owner)
        if turn.is_granted:
            return turn.connection
        try:
            async with asyncio.timeout(self._connect):
                await granted
        except BaseException as error:
            is_over_share = turn.is_over_share
            self._turns.give_up(turn)
            if not isinstance(error, TimeoutError):
                raise
            raise Unavailable(self._why_none_is_free(is_over_share=is_over_share), code="no-upstream") from None
        return turn.connection

    def _why_none_is_free(self, *, is_over_share: bool) -> str:
        server = f"{self.host}:{self.port}"
        if is_over_share and self._turns.per_user < self._turns.limit:
            return f"{self._turns.per_user} requests of this user were using {server} for {self._connect:g} s"
        return f"all {self._turns.limit} connections to {server} were in use for {self._connect:g} s"

    async def _sweep(self) -> None:
        """Ends exchanges whose deadline has passed and closes connections that were idle for too long."""
        while True:
            await asyncio.sleep(1)
            now = asyncio.get_running_loop().time()
            for connection in [c for c in self._turns.connections if c.deadline and c.deadline < now]:
                connection.expire(GatewayTimeout(f"{self.host}:{self.port} sent nothing for {self._patience:g} s"))
            idle = self._turns.idle
            while idle and idle[0].idle_since + _IDLE_LIFE < now:
                idle.popleft().close()
