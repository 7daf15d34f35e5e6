"""Listening sockets, and aiohttp's server with our connections and our responses."""

import asyncio
import logging
import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import cast
from weakref import WeakSet

from aiohttp import web

from calgate.http.connection import FIELDS_LIMIT, HEADER_LIMIT, ClientConnection, RawRequest
from calgate.http.proxy_protocol import NotProxied, read_client
from calgate.http.response import Response
from calgate.http.tls import Certificates
from calgate.plugin.errors import Refusal
from calgate.plugin.settings import Network
from calgate.plugin.tasks import start_task

logger = logging.getLogger(__name__)

_KEPT_ALIVE = 75.0  # seconds that a connection may be idle; also the time that a client has to send a head
_LINGER = 30.0  # seconds in which the body of a refused request is discarded: after a close Chromium shows an error
_TLS_PATIENCE = 15.0
_LAST_REQUEST = 2.0  # seconds that an idle connection has for one more request while the gateway stops or reloads

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]  # the type that aiohttp declares
Serve = Callable[[RawRequest], Awaitable[Response | None]]
Refuse = Callable[[RawRequest, Refusal | None], Response]


class HttpServer(web.Server):
    """aiohttp's server, with our connections and our responses."""

    def __init__(self, serve: Serve, refuse: Refuse) -> None:
        super().__init__(cast(Handler, self._handle), handler_cancellation=True)
        self._serve = serve
        self._refuse = refuse
        self.is_draining = False
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
        """Responds after a bug of ours, and closes."""
        response = self._refuse(raw, None)
        response.keep_alive = False
        return response.as_response()

    async def drain(self, within: float) -> None:
        """Lets open requests finish, for at most `within` seconds.

        An idle connection may send one more request within a moment, whose response says `Connection: close`: a client
        at work would otherwise lose a request that is already on its way. After that moment idle connections are
        closed. A TLS handshake has the same time to finish.
        """
        self.is_draining = True
        began = time.monotonic()
        while self._end_idle(began) or (self._arriving and time.monotonic() < began + _LAST_REQUEST):
            if time.monotonic() > began + within:
                break
            await asyncio.sleep(0.05)  # aiohttp has no event for the end of a request
        await self.shutdown(0.1)

    def _end_idle(self, began: float) -> list[ClientConnection]:
        """Closes idle connections once their last moment is over. Returns those that are still to be waited for."""
        connections = [cast(ClientConnection, connection) for connection in self.connections]
        if time.monotonic() < began + _LAST_REQUEST:
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


class Listener:
    """One listening socket in use: with TLS where there is a certificate, after a PROXY header where one is due."""

    def __init__(
        self,
        server: HttpServer,
        sock: socket.socket,
        certificate: Certificates | None,
        proxies: Sequence[Network] | None = None,
    ) -> None:
        """`proxies`: None, or those whose connections begin with a PROXY header; no others are taken then."""
        self._door = server
        self._sock = sock
        self._context = certificate.context if certificate is not None else None
        self._proxies = proxies
        self._server: asyncio.Server | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._arriving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Answers from now on."""
        loop = asyncio.get_running_loop()
        if self._proxies is not None:
            self._accepting = start_task(self._accept(), "listener: accepting")
            return
        patience = _TLS_PATIENCE if self._context else None
        self._server = await loop.create_server(
            self._door, sock=self._sock, ssl=self._context, ssl_handshake_timeout=patience
        )

    async def close(self) -> None:
        """Takes no more connections; those that there are go on. The parent's copy of the socket keeps its queue."""
        if self._server is not None:
            self._server.close()
        if self._accepting is not None:
            self._accepting.cancel()
            with suppress(asyncio.CancelledError):
                await self._accepting
            self._sock.close()
        if self._arriving:  # a PROXY header that is on its way, before the door knows of the connection
            await asyncio.wait(self._arriving, timeout=_LAST_REQUEST)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._sock)
            except OSError as error:
                logger.error("a connection cannot be accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            task = start_task(self._welcome(connection), "listener: PROXY header")
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _welcome(self, connection: socket.socket) -> None:
        assert self._proxies is not None
        connection.setblocking(False)
        try:
            client = await read_client(connection, self._proxies)
            patience = _TLS_PATIENCE if self._context else None
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._door.connection(client), connection, ssl=self._context, ssl_handshake_timeout=patience
            )
        except (NotProxied, OSError, TimeoutError) as error:
            logger.warning("a connection was not taken: %s", error or "no PROXY header came")
            connection.close()


def redirect_to_https(public_port: int) -> HttpServer:
    """Answers every request with its https address."""

    async def redirect(raw: RawRequest) -> Response:
        fields = [value for name, value in raw.raw_headers if name.lower() == b"host"]
        host = re.sub(r":\d+$", "", fields[0].decode("latin-1") if fields else "")
        port = "" if public_port == 443 else f":{public_port}"
        path = raw.raw_path if raw.raw_path.startswith("/") else "/"
        location = f"https://{host}{port}{path}".encode("latin-1", "replace")
        return Response(308, [(b"Location", location), (b"Cache-Control", b"no-store")], keep_alive=False)

    return HttpServer(redirect, lambda raw, refusal: Response(400, [(b"Cache-Control", b"no-store")], keep_alive=False))
