"""Accepting connections."""

import asyncio
import errno
import socket
from contextlib import ExitStack
from ipaddress import ip_network

import pytest

from calgate.http import descriptors, listener
from calgate.http.listener import Listener
from calgate.http.response import Response
from calgate.http.server import HttpServer

REQUEST = b"GET / HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"


def http_server() -> HttpServer:
    async def serve(_: object) -> Response:
        return Response(200, [], b"ok")

    return HttpServer(serve, lambda request, refusal: Response(500, []))


async def get(port: int, before: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(before + REQUEST)
    answer = await reader.read()
    writer.close()
    return answer


async def test_queued_connections_are_accepted_in_one_turn_of_the_loop() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=300) as sock, ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(sock.getsockname()))
        listening = Listener(http_server(), sock, None)
        await listening.start()
        listening._accept_queued()
        assert len(listening._tasks) == 200
        await asyncio.wait(set(listening._tasks))
        await listening.close()


async def test_backlog_of_the_parents_socket_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=700) as sock:
        listening = Listener(http_server(), sock, None)
        await listening.start()
        # for a listening socket the kernel reports the backlog in place of the unsent bytes (tcp_diag)
        assert b"ok" in await get(sock.getsockname()[1])
        backlog = int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[28:32], "little")
        assert backlog == 700
        await listening.close()


async def test_lack_of_descriptors_is_logged_and_accepting_goes_on_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Exhausted(socket.socket):
        failures = 3

        def accept(self) -> tuple[socket.socket, object]:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr(descriptors, "_last", -1e9)
    monkeypatch.setattr(listener, "_PAUSE", 0.01)
    sock = Exhausted()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    listening = Listener(http_server(), sock, None)
    port = sock.getsockname()[1]
    await listening.start()
    assert b"ok" in await asyncio.wait_for(get(port), 5)
    assert [record.getMessage() for record in caplog.records] == [
        "cannot accept connections: no file descriptors left; raise LimitNOFILE of the service (ulimit -n)"
    ]
    await listening.close()


async def test_proxy_header_is_read_before_the_request_and_required() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    listening = Listener(http_server(), sock, None, [ip_network("127.0.0.0/8")])
    await listening.start()
    assert b"ok" in await get(port, b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n")
    with pytest.raises(ConnectionResetError):  # the request is never read
        await get(port)
    await listening.close()


async def test_close_waits_for_a_proxy_header_under_way() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    listening = Listener(http_server(), sock, None, [ip_network("127.0.0.0/8")])
    await listening.start()
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    while not listening._unknown:
        await asyncio.sleep(0)
    closing = asyncio.create_task(listening.close())
    writer.write(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n" + REQUEST)
    await closing
    assert b"ok" in await reader.read()
    writer.close()
