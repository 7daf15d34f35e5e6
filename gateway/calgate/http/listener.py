"""Listening sockets: accepts connections, reads their PROXY header, and starts TLS."""

import asyncio
import logging
import socket
from collections.abc import Sequence

from calgate.http.descriptors import OUT_OF_DESCRIPTORS, report_lack_of_descriptors
from calgate.http.proxy_protocol import NotProxied, read_client
from calgate.http.server import LAST_REQUEST, HttpServer
from calgate.http.tls import Certificates
from calgate.plugin.settings import Network
from calgate.plugin.tasks import start_task

logger = logging.getLogger(__name__)

_TLS_PATIENCE = 15.0
_AT_ONCE = 512  # connections accepted in one turn of the loop
_PAUSE = 0.1  # seconds without accepting, after it failed


class Listener:
    """One listening socket in use.

    Accepts all queued connections in one turn of the loop: uvloop's server accepts one a turn, and each turn serves
    every connection accepted before, so the last of a thousand waited for seconds. It also shortens the parent's
    backlog to 100; this leaves it alone.
    """

    def __init__(
        self,
        server: HttpServer,
        sock: socket.socket,
        certificate: Certificates | None,
        proxies: Sequence[Network] | None = None,
    ) -> None:
        """`proxies`: if given, connections must come from these networks and begin with a PROXY header."""
        self._server = server
        self._sock = sock
        self._context = certificate.context if certificate is not None else None
        self._proxies = proxies
        self._tasks: set[asyncio.Task[None]] = set()
        self._unknown: set[asyncio.Future[None]] = set()  # of connections that the server does not know of yet
        self._is_closed = False

    async def start(self) -> None:
        """Accepts connections from now on."""
        self._sock.setblocking(False)
        asyncio.get_running_loop().add_reader(self._sock, self._accept_queued)

    async def close(self) -> None:
        """Accepts no more connections; open ones continue. The queue lives on in the parent's copy of the socket."""
        if not self._is_closed:
            self._is_closed = True
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
        if self._unknown:
            await asyncio.wait(self._unknown, timeout=LAST_REQUEST)  # a PROXY header may still be arriving

    def _accept_queued(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            connection.setblocking(False)
            known = loop.create_future()
            self._unknown.add(known)
            known.add_done_callback(self._unknown.discard)
            task = start_task(self._begin(connection, known), "listener: connection")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _pause(self, error: OSError) -> None:
        """Stops accepting for a moment: the queue stays readable, so the loop would call again at once."""
        if error.errno in OUT_OF_DESCRIPTORS:
            report_lack_of_descriptors("accept connections")
        else:
            logger.error("cannot accept connections: %s", error)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock)
        loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        if not self._is_closed:
            asyncio.get_running_loop().add_reader(self._sock, self._accept_queued)

    async def _begin(self, sock: socket.socket, known: "asyncio.Future[None]") -> None:
        """Gives an accepted connection to the server, after its PROXY header and TLS handshake."""
        try:
            client = await read_client(sock, self._proxies) if self._proxies is not None else None

            def protocol() -> asyncio.Protocol:
                known.set_result(None)
                return self._server.connection(client)

            await asyncio.get_running_loop().connect_accepted_socket(
                protocol, sock, ssl=self._context, ssl_handshake_timeout=_TLS_PATIENCE if self._context else None
            )
        except NotProxied as error:
            logger.warning("listen.proxy_protocol: connection closed: %s", error)
            sock.close()
        except TimeoutError:
            logger.warning("listen.proxy_protocol: connection closed: no PROXY header came in time")
            sock.close()
        except OSError as error:  # a failed TLS handshake too: any stranger can cause one
            logger.debug("connection closed: %s", error)
            sock.close()
        finally:
            known.cancel()
