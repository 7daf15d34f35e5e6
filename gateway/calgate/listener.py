"""The near side: sockets, and aiohttp's server on them, one Caller a connection. Turns a Refusal into an answer."""

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

from aiohttp import web

from calgate.answer import Answer
from calgate.caller import FIELDS_LIMIT, HEADER_LIMIT, Caller
from calgate.config import Address, ConfigError
from calgate.refusal import Refusal
from calgate.tls import Certificate

log = logging.getLogger(__name__)

_KEPT_ALIVE = 75.0  # seconds without a request; also what a client has for a request's head
_LINGER = 30.0  # seconds in which a refused body is read and thrown away: after a plain close Chromium shows an error
_BACKLOG = 1024

Serve = Callable[[web.BaseRequest], Awaitable[Answer | None]]
Refuse = Callable[[web.BaseRequest, Refusal | None], Answer]


class Door(web.Server):
    """aiohttp's server, with our connections and our answers."""

    def __init__(self, serve: Serve, refuse: Refuse) -> None:
        super().__init__(self._handle, handler_cancellation=True)
        self._serve = serve
        self._refuse = refuse
        self.is_draining = False

    def __call__(self) -> web.RequestHandler:
        return Caller(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=_KEPT_ALIVE,
            lingering_time=_LINGER,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            max_headers=FIELDS_LIMIT,
            auto_decompress=False,
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        cast(Caller, request.protocol).has_answered = False
        try:
            answer = await self._serve(request)
        except Refusal as refusal:
            answer = self._refuse(request, refusal)
        if answer is None:
            return _OVER.as_response()
        if self.is_draining:
            answer.keep_alive = False
        return answer.as_response()

    def refuse(self, request: web.BaseRequest, refusal: Refusal) -> web.StreamResponse:
        """For a request that never became one. The connection ends: where the next would begin is not known."""
        answer = self._refuse(request, refusal)
        answer.keep_alive = False
        return answer.as_response()

    def broken(self, request: web.BaseRequest) -> web.StreamResponse:
        """For a bug of ours."""
        answer = self._refuse(request, None)
        answer.keep_alive = False
        return answer.as_response()

    async def drain(self, within: float) -> None:
        """Lets open requests finish, for so many seconds at most; idle connections end at once."""
        self.is_draining = True
        callers = [cast(Caller, connection) for connection in self.connections]
        for caller in callers:
            if caller.is_idle:
                caller.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while any(not cast(Caller, c).is_idle for c in self.connections):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        await self.shutdown(0.1)


class _Over(Answer):
    """The connection was taken over and has ended: nothing is sent."""

    async def prepare(self, request: web.BaseRequest) -> None:
        self.keep_alive = False

    async def write_eof(self) -> None:
        return


_OVER = _Over(101, [])


def bind(address: Address, setting: str) -> socket.socket:
    """A listening socket. Raises ConfigError (exit 1) naming the setting where the address cannot be had."""
    try:
        if address.path:
            return _bind_unix(address.path)
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address.host, address.port))
        listening.listen(_BACKLOG)
    except OSError as error:
        reason = "another program listens there already" if error.errno == 98 else error.strerror
        raise ConfigError([f"{setting}: cannot listen on {address}: {reason}"], code=1) from error
    listening.setblocking(False)
    return listening


def _bind_unix(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(path) == 111:  # refused: a socket file that nobody listens on any more
            with suppress(FileNotFoundError):
                Path(path).unlink()
    listening.bind(path)
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening


async def listen(door: Door, sockets: list[socket.socket], certificate: Certificate | None) -> list[asyncio.Server]:
    """Answers on the sockets, with TLS where there is a certificate."""
    loop = asyncio.get_running_loop()
    context = certificate.context if certificate is not None else None
    return [
        await loop.create_server(door, sock=sock, ssl=context, ssl_handshake_timeout=15 if context else None)
        for sock in sockets
    ]


def redirect_to_https(public_port: int) -> Door:
    """Answers every request with its https address."""

    async def redirect(request: web.BaseRequest) -> Answer:
        host = re.sub(r":\d+$", "", request.host)
        port = "" if public_port == 443 else f":{public_port}"
        path = request.raw_path if request.raw_path.startswith("/") else "/"
        location = f"https://{host}{port}{path}".encode("latin-1", "replace")
        return Answer(308, [(b"Location", location), (b"Cache-Control", b"no-store")], keep_alive=False)

    return Door(redirect, lambda request, refusal: Answer(400, [(b"Cache-Control", b"no-store")], keep_alive=False))
