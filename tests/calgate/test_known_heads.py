"""Requests whose headers were read before go past the parser, and are judged like any other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from calgate.plugin.access import Grant
from support.gateway_process import Exchange, document_server, write_settings
from support.qlikview import CALL, update, write_qlikview
from support.warm_gateway import Warm, warm_gateway

pytestmark = pytest.mark.server


@pytest_asyncio.fixture
async def warm(tmp_path: Path) -> AsyncIterator[Warm]:
    """Starts a gateway with a signed-in client whose headers are known."""
    async with (
        document_server() as server,
        warm_gateway(write_settings(tmp_path, server.port), server) as running,
    ):
        await learn(running)
        yield running


async def learn(warm: Warm, fields: str = "") -> None:
    for _ in range(3):
        await warm.get(fields=fields)
    assert len(warm.gateway.server.known_heads) == 1
    assert parsed(warm) < len(warm.server.seen) + 2
    warm.server.seen.clear()


def parsed(warm: Warm) -> int:
    """Returns how many requests aiohttp's parser has made on the client's connection."""
    (connection,) = warm.gateway.server.connections
    return connection._request_count


async def test_known_headers_are_not_parsed_and_forwarded_alike(warm: Warm) -> None:
    before = parsed(warm)
    heads = []
    for path in ("/page", "/page?a=1"):
        await warm.get(path)
        heads.append(warm.server.seen[-1].head.partition(b"\r\n")[2])
    await warm.get("/page", fields="X-Other: 1\r\n")
    assert parsed(warm) == before + 1
    assert heads[0] == heads[1] == warm.server.seen[-1].head.partition(b"\r\n")[2].replace(b"X-Other: 1\r\n", b"")


async def test_known_headers_with_another_referer_are_forwarded_with_it(warm: Warm) -> None:
    for number in range(3):
        await warm.get(fields=f"Referer: http://g/{number}\r\nDNT: 1\r\n")
    before = parsed(warm)
    for number in range(3, 6):
        await warm.get(fields=f"Referer: http://g/{number}\r\nDNT: 1\r\n")
        assert warm.server.seen[-1].values("Referer") == [f"http://g/{number}"]
    assert parsed(warm) == before
    await warm.get(fields="DNT: 1\r\nReferer: http://g/5\r\n")  # in another order
    assert parsed(warm) == before + 1


async def post(warm: Warm, body: bytes, path: str = "/page", fields: str = "") -> Exchange:
    warm.send(path, method="POST", fields=f"Content-Length: {len(body)}\r\n{fields}", body=body)
    assert (await warm.receive())[0].startswith(b"HTTP/1.1 200")
    return warm.server.seen[-1]


async def test_known_headers_with_another_body_are_forwarded_with_it(warm: Warm) -> None:
    for number in range(3):
        await post(warm, b"x" * (9 + number))
    before = parsed(warm)
    for body in (b"one", b"another", b"GET / HTTP/1.1\r\nHost: g\r\n\r\n", b"", b"\r\n\r\n"):
        exchange = await post(warm, body)
        assert (exchange.head.partition(b" ")[0].decode(), exchange.body) == ("POST", body)
        assert exchange.values("Content-Length") == [str(len(body))]
    assert parsed(warm) == before


async def test_body_that_comes_later_than_its_known_head_is_one_request(warm: Warm) -> None:
    for _ in range(3):
        await post(warm, b"hello")
    warm.send("/page", method="POST", fields="Content-Length: 5\r\n", body=b"he")
    await asyncio.sleep(0.1)
    warm.writer.write(b"llo")
    await warm.receive()
    assert warm.server.seen[-1].body == b"hello"
    assert (await post(warm, b"next")).body == b"next"


async def test_request_behind_a_known_one_with_a_body_is_never_part_of_it(warm: Warm) -> None:
    for _ in range(3):
        await post(warm, b"hello")
    count = len(warm.server.seen)
    warm.send("/page", method="POST", fields="Content-Length: 5\r\n", body=b"helloGET /a HTTP/1.1\r\nHost: g\r\n\r\n")
    await warm.receive()
    await warm.receive()
    assert warm.server.seen[count].head.startswith(b"POST ")
    assert warm.server.seen[count].body == b"hello"


async def test_known_headers_with_a_body_and_another_method_are_two_requests(warm: Warm) -> None:
    for _ in range(3):
        await post(warm, b"hello")
    before = parsed(warm)
    warm.send("/page", fields="Content-Length: 5\r\n", body=b"hello")
    await warm.receive()
    assert (warm.server.seen[-1].head.partition(b" ")[0].decode(), parsed(warm)) == ("GET", before + 1)


async def test_known_headers_with_a_body_go_to_a_task_whole(warm: Warm) -> None:
    """Memory does not know this path, so the four questions are asked; the body is not in the connection then."""
    for _ in range(3):
        await post(warm, b"hello")
    before = parsed(warm)
    exchange = await post(warm, b"another", "/docs/new")
    assert (exchange.path, exchange.body) == ("/docs/new", b"another")
    assert len(warm.tasks) == 1
    assert parsed(warm) == before


async def test_document_that_a_body_names_is_judged_though_the_headers_are_known(tmp_path: Path) -> None:
    """The commands have the same target, headers and length; only one of them names a document that alice may open."""
    path = f"{CALL}?mark=0123456789abcdef"
    opened, closed = update("AB/Sales.qvw").encode(), update("HR/Sales.qvw").encode()
    assert len(opened) == len(closed)
    async with document_server() as server, warm_gateway(write_qlikview(tmp_path, server.port), server) as warm:
        for _ in range(4):
            await post(warm, opened, path)
        before = parsed(warm)
        count = len(server.seen)
        warm.send(path, method="POST", fields=f"Content-Length: {len(closed)}\r\n", body=closed)
        await warm.receive()
        assert len(server.seen) == count
        assert parsed(warm) == before
        assert (await post(warm, opened, path)).body == opened


async def test_line_in_a_referer_is_never_a_header(warm: Warm) -> None:
    for number in range(3):
        await warm.get(fields=f"Referer: http://g/{number}\r\n")
    count = len(warm.server.seen)
    reply = await warm.get(fields="Referer: http://g/\nX-Evil: 1\r\n")
    assert reply[0].startswith(b"HTTP/1.1 400")
    assert len(warm.server.seen) == count


@pytest.mark.parametrize("path", ["/%00", "//a", "/.."])
async def test_ambiguous_path_is_refused_with_known_headers_too(warm: Warm, path: str) -> None:
    assert (await warm.get(path))[0].startswith(b"HTTP/1.1 400")
    assert warm.server.seen == []


@pytest.mark.parametrize("path", ["/other", "/docs/a", "/_calgate/"])
async def test_known_headers_grant_nothing(warm: Warm, path: str) -> None:
    """A request that memory cannot decide goes to a task, with its known headers; the response is the usual one."""
    before = parsed(warm)
    reply = await warm.get(path)
    assert parsed(warm) == before
    assert len(warm.tasks) == 1
    warm.gateway.server.known_heads.forget_session(warm.gateway.sessions.known()[0].key)
    again = await warm.get(path)
    assert parsed(warm) == before + 1
    assert reply[0].partition(b"\r\n")[0] == again[0].partition(b"\r\n")[0]


async def test_path_of_the_gateway_is_never_served_from_the_table(warm: Warm) -> None:
    (session,) = warm.gateway.sessions.known()
    session.remember_grant((0, "/_calgate/health", "", "127.0.0.1"), warm.gateway.rules.current, Grant("app users"))
    for _ in range(3):
        await warm.get("/_calgate/health")
    assert len(warm.tasks) == 3
    assert warm.server.seen == []


async def test_exchange_with_known_headers_is_handed_over(warm: Warm) -> None:
    async def in_two_pieces(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfir")
        await asyncio.sleep(0.05)
        exchange.writer.write(b"st!")

    warm.server.behaviour = in_two_pieces
    before = parsed(warm)
    assert (await warm.get())[1] == b"first!"
    assert len(warm.tasks) == 1
    assert parsed(warm) == before
    warm.server.behaviour = Exchange.answer
    assert (await warm.get())[0].startswith(b"HTTP/1.1 200")


async def test_body_that_looks_like_a_known_request_stays_a_body(warm: Warm) -> None:
    """The parser holds the head of an upload: what comes next belongs to it, whatever it looks like."""
    known = f"GET /page HTTP/1.1\r\nHost: 127.0.0.1:{warm.port}\r\nCookie: {warm.cookie}\r\n\r\n".encode()
    warm.send("/page", method="POST", fields=f"Content-Length: {len(known)}\r\n")
    await asyncio.sleep(0.1)
    warm.writer.write(known)
    await warm.receive()
    (exchange,) = warm.server.seen
    assert exchange.body == known


async def test_head_in_two_pieces_stays_one_request(warm: Warm) -> None:
    """Its second piece looks like a known request."""
    known = f"GET /page HTTP/1.1\r\nHost: 127.0.0.1:{warm.port}\r\nCookie: {warm.cookie}\r\n\r\n".encode()
    warm.writer.write(b"GET /first HTTP/1.1\r\nX: ")
    await asyncio.sleep(0.1)
    warm.writer.write(known)
    assert (await warm.receive())[0].startswith(b"HTTP/1.1 200")
    (exchange,) = warm.server.seen
    assert exchange.path == "/first"
    assert exchange.values("X") == ["GET /page HTTP/1.1"]


async def test_head_that_begins_while_another_request_is_served_stays_one_request(warm: Warm) -> None:
    """Its second piece comes when the connection is idle again, and looks like a known request."""
    held = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await held.wait()
        await exchange.answer()

    warm.server.behaviour = slow
    warm.send("/page")
    await warm.arrived(1)
    warm.writer.write(b"GET /first HTTP/1.1\r\nX: ")
    await asyncio.sleep(0.1)
    held.set()
    await warm.receive()
    warm.send("/page")
    assert (await warm.receive())[0].startswith(b"HTTP/1.1 200")
    assert [exchange.path for exchange in warm.server.seen] == ["/page", "/first"]


async def test_pipelined_request_after_a_known_one_is_served_next(warm: Warm) -> None:
    held = asyncio.Event()

    async def slow_first(exchange: Exchange) -> None:
        if len(warm.server.seen) == 1:
            await held.wait()
        await exchange.answer(exchange.path.encode())

    warm.server.behaviour = slow_first
    warm.send("/page?1")
    await warm.arrived(1)
    for number in "23":
        warm.send(f"/page?{number}")
    await asyncio.sleep(0.05)
    assert len(warm.server.seen) == 1
    held.set()
    assert [(await warm.receive())[1] for _ in range(3)] == [b"/page?1", b"/page?2", b"/page?3"]


async def test_session_that_ended_is_forgotten_and_asked_to_sign_in(warm: Warm) -> None:
    (session,) = warm.gateway.sessions.known()
    await warm.gateway.sessions.end(session.key, "test")
    assert len(warm.gateway.server.known_heads) == 0
    assert (await warm.get())[0].startswith(b"HTTP/1.1 401")


async def test_headers_with_credentials_are_never_known(warm: Warm) -> None:
    for _ in range(4):
        await warm.get(fields="Authorization: Basic YWxpY2U6eA==\r\n")
    assert len(warm.gateway.server.known_heads) == 1
    assert len(warm.tasks) == 4


async def from_address(warm: Warm, address: str) -> Warm:
    """Opens another connection, from this address, with the same cookie."""
    reader, writer = await asyncio.open_connection("127.0.0.1", warm.port, local_addr=(address, 0))
    return Warm(warm.gateway, warm.server, warm.port, warm.cookie, reader, writer, warm.tasks)


async def test_equal_bytes_of_two_peers_do_not_share_a_grant(tmp_path: Path) -> None:
    """A rule names a network: the same cookie from elsewhere is refused, although its bytes are known."""
    async with document_server() as server:
        file = write_settings(tmp_path, server.port)
        text = file.read_text()
        file.write_text(text.replace('groups = ["DEMO', 'networks = ["127.0.0.1/32"]\ngroups = ["DEMO'))
        async with warm_gateway(file, server) as warm:
            await learn(warm)
            elsewhere = await from_address(warm, "127.0.0.2")
            for _ in range(3):
                assert (await elsewhere.get())[0].startswith(b"HTTP/1.1 403")
            assert (await warm.get())[0].startswith(b"HTTP/1.1 200")
            elsewhere.writer.close()


async def test_clients_behind_a_trusted_proxy_keep_their_addresses_and_scheme(tmp_path: Path) -> None:
    async with document_server() as server:
        file = write_settings(tmp_path, server.port, listen='trusted_proxies = ["127.0.0.2/32"]')
        async with warm_gateway(file, server) as warm:
            proxy = await from_address(warm, "127.0.0.2")
            one, two = "X-Forwarded-For: 192.0.2.1\r\n", "X-Forwarded-For: 192.0.2.2\r\n"
            for _ in range(4):
                await proxy.get(fields=one)
                await proxy.get(fields=two)
            assert len(warm.gateway.server.known_heads) == 2
            del warm.tasks[:]
            await proxy.get(fields=one)
            await proxy.get(fields=two)
            assert warm.tasks == []
            seen = [exchange.values("X-Forwarded-For") for exchange in server.seen[-2:]]
            assert seen == [["192.0.2.1"], ["192.0.2.2"]]
            # over https the cookie of http is not accepted
            assert (await proxy.get(fields=f"{one}X-Forwarded-Proto: https\r\n"))[0].startswith(b"HTTP/1.1 401")
            proxy.writer.close()
