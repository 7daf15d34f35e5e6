"""The far side: a document server, its kept connections, and one request and reply at a time on each."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, Self

from calgate.refusal import BadGateway, GatewayTimeout, Unavailable
from calgate.wire import Header, Stale, Wire

_SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "OPTIONS"})
_IDLE_KEPT = 256  # connections that wait for the next request
_IDLE_LIFE = 30.0  # seconds; shorter than the 60 s and more that document servers keep theirs


@dataclass(slots=True, eq=False)
class Outgoing:
    """A request as it goes to the document server."""

    method: str
    message: bytes  # request line and headers, ready to send
    body: AsyncIterator[bytes] | None = None
    chunked: bool = False  # how the body is framed: by chunks, or by the Content-Length in `message`


class Unreachable(BadGateway):
    """No connection could be made, so nothing of the request was sent: another server may be asked."""


class Reply(Protocol):
    """The document server's answer: its head, and its body as it comes."""

    status: int
    reason: bytes
    headers: list[Header]
    length: int | None

    async def read(self) -> bytes: ...
    def take_whole(self) -> bytes | None: ...
    def close(self) -> None: ...


class Upstream:
    """One document server."""

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
        """`connections`: at most so many at once, WebSockets not counted; who finds none free waits for `connect`."""
        self.host = host
        self.port = port
        self._tls = tls
        self._connect = connect
        self._patience = patience
        self._idle: deque[Wire] = deque()
        self._wires: set[Wire] = set()
        self._connections = connections
        self._opening = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def authority(self) -> str:
        """For the Host header: the default port is left out."""
        default = 443 if self._tls else 80
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def name(self) -> str:
        """As the settings file writes it."""
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
        for wire in list(self._wires):
            wire.close()

    async def send(self, outgoing: Outgoing) -> Wire:
        """Sends a request and waits for the reply's head. Raises BadGateway, GatewayTimeout, Unavailable."""
        repeatable = outgoing.body is None and outgoing.method in _SAFE_TO_REPEAT
        while (wire := self._take()) is not None:
            try:
                return await self._exchange(wire, outgoing)
            except Stale:
                if not repeatable:
                    raise BadGateway(f"{self.host} closed a kept connection as a {outgoing.method} was sent") from None
        if len(self._wires) + self._opening >= self._connections:
            await self._wait_for_room()
            return await self.send(outgoing)
        try:
            return await self._exchange(await self._open(), outgoing)
        except Stale:
            raise BadGateway(f"{self.host} closed the connection without an answer") from None

    async def _exchange(self, wire: Wire, outgoing: Outgoing) -> Wire:
        try:
            wire.begin(outgoing.message, without_body=outgoing.method == "HEAD")
            if outgoing.body is not None:
                wire.send(outgoing.body, chunked=outgoing.chunked)
            await wire.head()
        except BaseException:
            wire.close()
            raise
        return wire

    def _take(self) -> Wire | None:
        while self._idle:
            wire = self._idle.pop()  # the one used last is the likeliest to live
            if wire.reusable:
                return wire
        return None

    async def _open(self) -> Wire:
        loop = asyncio.get_running_loop()
        self._opening += 1
        try:
            async with asyncio.timeout(self._connect):
                _, wire = await loop.create_connection(
                    lambda: Wire(self._patience, self._rest, self._forget),
                    self.host,
                    self.port,
                    ssl=self._tls,
                    server_hostname=self.host if self._tls else None,
                )
        except TimeoutError as error:
            raise Unreachable(f"{self.host}:{self.port} does not answer a connection") from error
        except (OSError, ssl.SSLError) as error:
            raise Unreachable(f"{self.host}:{self.port} cannot be reached: {error}") from error
        finally:
            self._opening -= 1
        self._wires.add(wire)
        return wire

    def _rest(self, wire: Wire) -> None:
        if len(self._idle) < _IDLE_KEPT:
            self._idle.append(wire)
            self._tell_next()
        else:
            wire.close()

    def _forget(self, wire: Wire) -> None:
        self._wires.discard(wire)
        self._tell_next()

    # ------------------------------------------------------------ when all of them are in use

    async def _wait_for_room(self) -> None:
        """Until a connection may be free, in the order of coming. Raises Unavailable after `connect` seconds."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._connect):
                await turn
        except TimeoutError:
            words = (
                f"all {self._connections} connections to {self.host}:{self.port} were in use for {self._connect:g} s"
            )
            raise Unavailable(words, code="no-upstream") from None

    def _tell_next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def _sweep(self) -> None:
        """Once a second: deadlines of those at work, and those idle for too long."""
        while True:
            await asyncio.sleep(1)
            now = asyncio.get_running_loop().time()
            for wire in [w for w in self._wires if w.deadline and w.deadline < now]:
                wire.expire(GatewayTimeout(f"{self.host}:{self.port} is silent for {self._patience:g} s"))
            while self._idle and self._idle[0].idle_since + _IDLE_LIFE < now:
                self._idle.popleft().close()
