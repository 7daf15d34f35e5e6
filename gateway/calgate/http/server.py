"""aiohttp's server, with our connections and our responses."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import cast
from weakref import WeakSet

from aiohttp import web

from calgate.http.connection import FIELDS_LIMIT, HEADER_LIMIT, ClientConnection, RawRequest
from calgate.http.known_heads import KnownHeads
from calgate.http.response import Response
from calgate.plugin.errors import Refusal

_KEPT_ALIVE = 75.0  # seconds that a connection may be idle; also the time that a client has to send a head
_LINGER = 30.0  # seconds in which the body of a refused request is discarded: after a close Chromium shows an error
LAST_REQUEST = 2.0  # seconds that an idle connection has for one more request while the gateway stops or reloads

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]  # the type that aiohttp declares
Serve = Callable[[RawRequest], Awaitable[Response | None]]
Begin = Callable[[RawRequest], bool]
Refuse = Callable[[RawRequest, Refusal | None], Response]


class HttpServer(web.Server):
    """aiohttp's server, with our connections and our responses."""

    def __init__(
        self, serve: Serve, refuse: Refuse, begin: Begin | None = None, known_heads: KnownHeads | None = None
    ) -> None:
        """`begin` serves a request without a task if it can; it returns False for a request that `serve` must have.

        `known_heads`: where `begin` remembers the headers of requests.
        """
        super().__init__(cast(Handler, self._handle), handler_cancellation=True)
        self._serve = serve
        self._refuse = refuse
        self._begin = begin
        self.is_draining = False
        self.known_heads = known_heads if known_heads is not None else KnownHeads()
        self._arriving: WeakSet[web.RequestHandler] = WeakSet()  # accepted, in their TLS handshake

    def __call__(self) -> web.RequestHandler:
        return self.connection()

    def connection(self, client: str | None = None) -> ClientConnection:
        """Makes a new connection; `client` is its address where a PROXY header has named it."""
        connection = ClientConnection(
            self,
            client,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=_KEPT_ALIVE,
            lingering_time=_LINGER,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            max_headers=FIELDS_LIMIT,
            auto_decompress=False,
        )
        self._arriving.add(connection)
        return connection

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self._arriving.discard(handler)
        super().connection_made(handler, transport)

    def begin(self, raw: RawRequest) -> bool:
        """Begins to serve a request without a task; returns False for one that needs a task."""
        return self._begin is not None and not self.is_draining and self._begin(raw)

    async def _handle(self, raw: RawRequest) -> web.StreamResponse:
        raw.connection.begin(raw)
        try:
            response = await self._serve(raw)
        except Refusal as refusal:
            response = self._refuse(raw, refusal)
        if response is None:
            return _OVER.as_response()
        if self.is_draining and not raw.connection.has_handshake:  # a handshake ends on the connection it began on
            response.keep_alive = False
        return response.as_response()

    def refuse(self, raw: RawRequest, refusal: Refusal) -> web.StreamResponse:
        """Refuses a request that could not be parsed, and closes: where the next one begins is not known."""
        response = self._refuse(raw, refusal)
        response.keep_alive = False
        return response.as_response()

    def broken(self, raw: RawRequest) -> web.StreamResponse:
        """Responds after a bug in the gateway, and closes."""
        response = self._refuse(raw, None)
        response.keep_alive = False
        return response.as_response()

    async def drain(self, within: float) -> None:
        """Lets open requests finish, for at most `within` seconds.

        An idle connection may send one more request within a moment, whose response says `Connection: close`: an active
        client would otherwise lose a request that it has already sent. After that moment idle connections are
        closed. A TLS handshake has the same time to finish.
        """
        self.is_draining = True
        began = time.monotonic()
        while self._end_idle(began) or (self._arriving and time.monotonic() < began + LAST_REQUEST):
            if time.monotonic() > began + within:
                break
            await asyncio.sleep(0.05)  # aiohttp has no event for the end of a request
        await self.shutdown(0.1)

    def _end_idle(self, began: float) -> list[ClientConnection]:
        """Closes idle connections once their last moment is over. Returns those that are still to be waited for."""
        connections = [cast(ClientConnection, connection) for connection in self.connections]
        if time.monotonic() < began + LAST_REQUEST:
            return connections
        for connection in connections:
            if connection.is_idle:
                connection.close()
        return [connection for connection in connections if not connection.is_idle]


class _Over(Response):
    """Sends nothing: the connection was upgraded, and has ended."""

    async def prepare(self, raw: RawRequest) -> None:
        self.keep_alive = False

    async def write_eof(self) -> None:
        return


_OVER = _Over(101, [])
