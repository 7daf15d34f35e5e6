"""Raw bytes at the listener: a request that can be read in two ways is refused and never forwarded."""

import asyncio
from pathlib import Path

import pytest

from support.gateway_process import (
    DocumentServer,
    Exchange,
    Gateway,
    cookie_of,
    curl,
    document_server,
    gateway,
    memory_of,
    raw,
    write_settings,
)
from support.shared_gateway import gate, server, shared_server

__all__ = ["gate", "server", "shared_server"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

AMBIGUOUS = {
    "two lengths": b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "length, chunks": b"POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "another coding": b"POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an odd coding": b"POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a signed length": b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: +3\r\n\r\nabc",
    "folded field": b"GET / HTTP/1.1\r\nHost: g\r\nX-A: 1\r\n 2\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: g\n\n",
    "bare CR": b"GET / HTTP/1.1\r\nHost: g\r\nX-A: 1\rX-B: 2\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: g\r\nX-A: 1\x002\r\n\r\n",
    "blank before the colon": b"GET / HTTP/1.1\r\nHost : g\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: g\r\nHost: h\r\n\r\n",
    "a malformed host": b"GET / HTTP/1.1\r\nHost: g/../h\r\n\r\n",
    "a malformed host in HTTP/1.0": b"GET / HTTP/1.0\r\nHost: g/../h\r\n\r\n",
    "HTTP/0.9 by name": b"GET / HTTP/0.9\r\nHost: g\r\n\r\n",
    "HTTP/2.0 by name": b"GET / HTTP/2.0\r\nHost: g\r\n\r\n",
    "two authorizations": b"GET / HTTP/1.1\r\nHost: g\r\nAuthorization: NTLM a\r\nAuthorization: NTLM b\r\n\r\n",
    "underscore": b"GET / HTTP/1.1\r\nHost: g\r\nX_A: 1\r\n\r\n",
    "another host's absolute form": b"GET http://h/ HTTP/1.1\r\nHost: g\r\n\r\n",
    "authority form": b"GET h:80 HTTP/1.1\r\nHost: g\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: g\r\n\r\n",
    "encoded slash": b"GET /a%2fb HTTP/1.1\r\nHost: g\r\n\r\n",
    "encoded backslash": b"GET /a%5Cb HTTP/1.1\r\nHost: g\r\n\r\n",
    "backslash": b"GET /a\\b HTTP/1.1\r\nHost: g\r\n\r\n",
    "dots": b"GET /a/../b HTTP/1.1\r\nHost: g\r\n\r\n",
    "encoded dots": b"GET /a/%2e%2e/b HTTP/1.1\r\nHost: g\r\n\r\n",
    "two slashes": b"GET //h/b HTTP/1.1\r\nHost: g\r\n\r\n",
    "semicolon": b"GET /a;b HTTP/1.1\r\nHost: g\r\n\r\n",
    "escaped NUL": b"GET /a%00b HTTP/1.1\r\nHost: g\r\n\r\n",
    "half an escape": b"GET /a%4 HTTP/1.1\r\nHost: g\r\n\r\n",
    "bytes above ASCII": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: g\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_ambiguous_request_is_400_and_not_forwarded(gate: Gateway, server: DocumentServer, case: str) -> None:
    cookie = await cookie_of(gate, "alice")
    server.seen.clear()
    request = AMBIGUOUS[case].replace(b"\r\n\r\n", f"\r\nCookie: {cookie}\r\n\r\n".encode(), 1)
    second = b"GET /second HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
    answer = await raw(gate.port, request + (second if b"chunked" in request else b""), within=1)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert server.seen == []


async def test_header_of_70_kb_is_431_without_its_bytes_in_the_log(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    fine = await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}", "-H", f"X-Long: {'a' * 60_000}")
    assert fine.status == 200
    assert server.seen[-1].values("x-long") == ["a" * 60_000]
    answer = await raw(gate.port, b"GET / HTTP/1.1\r\nHost: g\r\nX-Long: " + b"secret" * 12_000 + b"\r\n\r\n", within=1)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert "secret" not in gate.log.read_text()


async def test_long_path_of_a_refused_request_does_not_fill_the_log(gate: Gateway) -> None:
    answer = await raw(gate.port, b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nHost: g\r\n\r\n", within=1)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert all(len(str(line["path"])) <= 1_000 for line in gate.decisions() if "path" in line)


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override"])
async def test_unlisted_method_in_an_override_is_405(gate: Gateway, server: DocumentServer, name: str) -> None:
    cookie = await cookie_of(gate, "alice")
    server.seen.clear()
    for value, status in (("TRACE", 405), (" propfind ", 405), ("PUT, TRACE", 405), ("", 405), ("put", 200)):
        header = f"{name}: {value}" if value else f"{name};"  # curl's way to send an empty header
        reply = await curl(f"{gate.url}/portal", "-d", "a=1", "-H", header, "-H", f"Cookie: {cookie}")
        assert reply.status == status, value
    assert [exchange.values(name) for exchange in server.seen] == [["put"]]


async def test_unlisted_method_is_405_with_allow(gate: Gateway, server: DocumentServer) -> None:
    reply = await curl(f"{gate.url}/portal", "-X", "TRACE", user="alice")
    assert reply.status == 405
    assert "GET" in reply.values("allow")[0]
    assert server.seen == []


async def test_100_continue_is_sent_after_sign_in(gate: Gateway, server: DocumentServer) -> None:
    head = b"POST /form HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
    stranger = await raw(gate.port, head + b"\r\n", within=2)
    assert stranger.startswith(b"HTTP/1.1 401 ")
    cookie = await cookie_of(gate, "alice")
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(head + f"Cookie: {cookie}\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert server.seen[-1].body == b"abc"
    assert server.seen[-1].values("expect") == []
    writer.close()


async def test_100_continue_is_never_sent_to_http_1_0(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    head = f"POST /form HTTP/1.0\r\nHost: g\r\nContent-Length: 3\r\nExpect: 100-continue\r\nCookie: {cookie}\r\n\r\n"
    answer = await raw(gate.port, head.encode() + b"abc")
    assert answer.startswith(b"HTTP/1.1 200 "), "an HTTP/1.0 client would take 100 Continue for the final response"
    assert server.seen[-1].body == b"abc"


BAD_REPLIES = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding of HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another version": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX-A: 1\x002\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "nothing": b"",
    "a switch unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.mark.parametrize("case", BAD_REPLIES)
async def test_ambiguous_response_is_502(gate: Gateway, server: DocumentServer, case: str) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.writer.write(BAD_REPLIES[case])
        exchange.writer.close()

    cookie = await cookie_of(gate, "alice")
    server.behaviour = answer
    reply = await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")
    assert (reply.status, reply.json["code"]) == (502, "bad-gateway")


async def test_length_of_a_response_to_head_consumes_nothing(gate: Gateway, server: DocumentServer) -> None:
    async def answer(exchange: Exchange) -> None:
        if exchange.request_line.startswith("HEAD"):
            exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        else:
            await exchange.answer(b"next")

    cookie = await cookie_of(gate, "alice")
    server.behaviour = answer
    head = await curl(f"{gate.url}/portal", "-I", "-H", f"Cookie: {cookie}")
    assert (head.status, head.values("content-length")) == (200, ["500"])
    assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).body == b"next"


async def test_truncated_response_is_seen_as_truncated_by_the_client(gate: Gateway, server: DocumentServer) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await exchange.writer.drain()
        exchange.writer.close()

    cookie = await cookie_of(gate, "alice")
    server.behaviour = answer
    reply = await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")
    assert reply.exit in (18, 56), "curl reports a partial file or a reset connection"


async def test_response_that_ends_with_its_connection_is_complete(gate: Gateway, server: DocumentServer) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.0 200 OK\r\n\r\nto the end")
        await exchange.writer.drain()
        exchange.writer.close()

    cookie = await cookie_of(gate, "alice")
    server.behaviour = answer
    reply = await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")
    assert (reply.status, reply.body, reply.exit) == (200, b"to the end", 0)


async def test_location_and_cookie_domain_of_the_document_server_become_the_gateways(
    gate: Gateway, server: DocumentServer
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(
            status="302 Found",
            fields=[
                f"Location: http://127.0.0.1:{server.port}/next?a=1",
                f"Link: <http://127.0.0.1:{server.port}/a.css>; rel=preload, </b>; rel=next",
                "Set-Cookie: a=1; Domain=127.0.0.1; Path=/",
                "Set-Cookie: b=2; Path=/",
                "WWW-Authenticate: Negotiate",
                "WWW-Authenticate: Basic realm=x",
            ],
        )

    cookie = await cookie_of(gate, "alice")
    server.behaviour = answer
    reply = await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")
    assert reply.values("location") == [f"{gate.url}/next?a=1"]
    assert reply.values("link") == [f"<{gate.url}/a.css>; rel=preload, </b>; rel=next"]
    assert reply.values("set-cookie") == ["a=1; Path=/", "b=2; Path=/"]
    assert reply.values("www-authenticate") == ["Basic realm=x"]


async def test_unreachable_document_server_is_a_502_page(gate: Gateway, server: DocumentServer) -> None:
    async def hang_up(exchange: Exchange) -> None:
        exchange.writer.transport.abort()

    server.behaviour = hang_up
    reply = await curl(f"{gate.url}/portal", "-H", "Accept: text/html", user="alice")
    assert reply.status == 502
    assert reply.body.lstrip().lower().startswith(b"<!doctype html>")


async def test_windows_alias_in_a_path_is_refused_unless_the_route_says_otherwise(tmp_path: Path) -> None:
    aliases = ("/secret.pdf.", "/admin./x", "/a%20", "/a::$DATA", "/A~1.PDF", "/pub%3F/x")
    async with document_server() as server:
        more = f'[[routes]]\npath = "/unix"\nwindows = false\nupstreams = ["http://127.0.0.1:{server.port}"]'
        settings = write_settings(tmp_path, server.port, route="", more="")
        text = settings.read_text()
        settings.write_text(text.replace("[[routes]]", f"{more}\n\n[[routes]]", 1))
        async with gateway(settings) as gate:
            cookie = await cookie_of(gate, "alice")
            server.seen.clear()
            statuses = [(await curl(gate.url + path, "-H", f"Cookie: {cookie}")).status for path in aliases]
            assert statuses == [400] * len(aliases)
            assert server.seen == []
            for path in aliases:
                assert (await curl(f"{gate.url}/unix{path}", "-H", f"Cookie: {cookie}")).status == 200
            assert [exchange.path for exchange in server.seen] == [f"/unix{path}" for path in aliases]


async def test_memory_of_a_worker_does_not_grow_with_what_strangers_send(gate: Gateway) -> None:
    """Header names, hosts, cookies and origins of 60 KB each would fill unbounded caches with 250 MB."""

    async def strange(number: int) -> None:
        head = [
            "GET / HTTP/1.1",
            f"Host: {f'h{number}' if number % 2 else f'h{number}'.ljust(60_000, 'h')}",
            f"{f'x{number}-'.ljust(60_000, 'x')}: 1",
            f"Cookie: calgate={f'{number}'.ljust(60_000, 'c')}",
            f"Origin: https://{f'o{number}'.ljust(60_000, 'o')}",
        ]
        await raw(gate.port, "\r\n".join([*head, "Connection: close", "", ""]).encode())

    sizes = []
    for batch in range(4):
        for number in range(batch * 400, batch * 400 + 400):
            await strange(number)
        sizes.append(memory_of(gate))
    # ended connections wait for the garbage collector, so the first two batches prove nothing
    assert sizes[3] - sizes[1] < 60_000_000, sizes
