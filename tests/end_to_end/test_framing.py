"""Raw bytes from clients and document servers: every message gets new framing, and hop-by-hop headers are dropped.

Requests that are refused are in `vectors.py`, responses that are refused in `REFUSED` below.
"""

import asyncio
import base64
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from support.aborted import until_read
from support.gateway_process import (
    BODY,
    DocumentServer,
    Exchange,
    Gateway,
    cookie_of,
    curl,
    gateway,
    raw,
    write_settings,
)
from support.shared_gateway import gate, server, shared_server

__all__ = ["gate", "server", "shared_server"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cookie(gate: Gateway) -> AsyncIterator[str]:
    """Yields the session cookie of alice."""
    yield await cookie_of(gate, "alice")


PORTAL = "GET /portal HTTP/1.1"


def request(
    cookie: str,
    line: str = PORTAL,
    *fields: str,
    body: bytes = b"",
    last: bool = True,
) -> bytes:
    """Returns the bytes of a signed-in user's request; `last` closes the connection after it."""
    lines = [line, "Host: g", *fields, f"Cookie: {cookie}", *(["Connection: close"] if last else []), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def says(*pieces: bytes, then_closes: bool = False) -> "Speech":
    return Speech(pieces, then_closes=then_closes)


class Speech:
    """A document server that sends these bytes in response to everything but /next."""

    def __init__(self, pieces: Sequence[bytes], *, then_closes: bool) -> None:
        self._pieces = pieces
        self._then_closes = then_closes

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.path == "/next":
            await exchange.answer(b"the next")
            return
        for piece in self._pieces:
            exchange.writer.write(piece)
            await exchange.writer.drain()
        if self._then_closes:
            exchange.writer.close()


async def replied(gate: Gateway, server: DocumentServer, cookie: str, speech: Speech, line: str = PORTAL) -> bytes:
    """Returns what the client receives of this response, without Date; the next request must get its own response."""
    server.behaviour = speech
    answer = re.sub(rb"Date: [^\r]*\r\n", b"", await raw(gate.port, request(cookie, line), within=2), count=1)
    following = await raw(gate.port, request(cookie, "GET /next HTTP/1.1"), within=2)
    assert following.endswith(b"\r\n\r\nthe next"), following
    return answer


# ---------------------------------------------------------------- requests

HEAD = "POST /form HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"


async def test_chunk_extensions_and_trailers_of_a_request_are_dropped(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    """The recording server would close its connection if either reached it (RFC 9112, section 7.1)."""
    body = b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nQVUSER: EVIL\\root\r\nX-Late: 1\r\n\r\n"
    answer = await raw(gate.port, request(cookie, HEAD, CHUNKED, "Trailer: X-Late", body=body))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert server.seen[-1].body == b"abcde"
    assert server.seen[-1].values("transfer-encoding") == ["chunked"]
    assert server.seen[-1].values("trailer") == []
    assert server.seen[-1].values("qvuser") == ["DEMO\\alice"]


async def test_late_malformed_chunk_ends_both_connections(gate: Gateway, server: DocumentServer, cookie: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(request(cookie, HEAD, CHUNKED, body=b"3\r\nabc\r\n", last=False))
    await until_read(gate, writer.get_extra_info("sockname"))
    writer.write(b"zz\r\n\r\n" + request(cookie, "GET /second HTTP/1.1"))
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert server.seen == [], "a request with an unfinished body was forwarded"


async def test_malformed_request_is_400_on_a_kept_connection(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(request(cookie, last=False))
    assert (await reader.readuntil(BODY)).startswith(OK)
    writer.write(b"no request\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert len(server.seen) == 1


async def test_malformed_chunk_after_the_response_began_cuts_the_response_short(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    server.reads_body = False
    server.behaviour = says(OK + b"Content-Length: 100\r\n\r\n", b"a beginning")
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(request(cookie, HEAD, CHUNKED, body=b"3\r\nabc\r\n", last=False))
    begun = await reader.readuntil(b"a beginning")
    assert begun.startswith(OK)
    writer.write(b"zz\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_refusal_can_be_read_while_the_body_is_still_being_sent(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    """After a plain close the browser would see a reset connection instead of the page."""
    foreign = request(cookie, HEAD, "Content-Length: 8000000", "Origin: http://evil.example", last=False)
    for sent, status in ((request("none=0", HEAD, "Content-Length: 8000000", last=False), 401), (foreign, 403)):
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(sent)
        for _ in range(80):
            writer.write(b"a" * 100_000)
            await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        writer.close()
    assert server.seen == []


async def test_pipelined_requests_are_served_in_order(gate: Gateway, server: DocumentServer, cookie: str) -> None:
    async def slow_first(exchange: Exchange) -> None:
        await asyncio.sleep(0.2 if exchange.path == "/1" else 0)
        await exchange.answer(exchange.path.encode())

    server.behaviour = slow_first
    lengths = [request(cookie, f"POST /{n} HTTP/1.1", "Content-Length: 3", body=b"abc", last=n == 3) for n in (1, 2, 3)]
    answer = await raw(gate.port, b"".join(lengths))
    assert [part.rpartition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200")[1:]] == [b"/1", b"/2", b"/3"]
    assert [(exchange.path, exchange.body) for exchange in server.seen] == [(f"/{n}", b"abc") for n in (1, 2, 3)]


async def test_each_request_has_its_own_headers_on_a_kept_connection(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    """Equal headers are not parsed again, so each added, missing or changed header must be noticed."""
    wanted = [["X-A: 1"], ["X-A: 1"], ["X-A: 2"], ["X-A: 2", "X-B: 3"], [], ["X-A: 1"]]
    asked = [request(cookie, "GET /f HTTP/1.1", *fields, last=n == 5) for n, fields in enumerate(wanted)]
    stranger = b"GET /f HTTP/1.1\r\nHost: g\r\nX-A: 1\r\n\r\n"
    answer = await raw(gate.port, b"".join([*asked[:2], stranger, *asked[2:]]))
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"401", *[b"200"] * 4]
    assert [[f"{n}: {v}" for n, v in seen.fields if n in ("X-A", "X-B")] for seen in server.seen] == wanted


async def test_100_continue_is_sent_for_each_request_that_expects_it(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    for _ in range(3):
        writer.write(request(cookie, HEAD, "Content-Length: 3", "Expect: 100-continue", last=False))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
    assert [seen.body for seen in server.seen] == [b"abc"] * 3
    writer.close()


async def test_absolute_target_of_this_host_is_forwarded_as_a_path(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    for target, path in (("http://g/a?b=1", "/a?b=1"), ("HTTP://G/a", "/a"), ("http://g", "/"), ("http://g?b", "/?b")):
        answer = await raw(gate.port, request(cookie, f"GET {target} HTTP/1.1"))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert server.seen[-1].path == path
        assert server.seen[-1].values("x-forwarded-host") == ["g"]


async def test_cookie_lines_are_joined_without_the_gateways_own(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    await raw(gate.port, request(cookie, "GET /portal HTTP/1.1", "Cookie: a=1; b=2", "Cookie: c=3"))
    assert server.seen[-1].values("cookie") == ["a=1; b=2; c=3"]


async def test_http_1_0_client_gets_no_chunks_and_a_close(gate: Gateway, server: DocumentServer, cookie: str) -> None:
    server.behaviour = says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n")
    answer = await raw(gate.port, request(cookie, "GET /portal HTTP/1.0", last=False))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b"abc"
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: keep-alive" not in head.lower()


async def test_http_1_0_request_needs_no_host(gate: Gateway, server: DocumentServer, cookie: str) -> None:
    answer = await raw(gate.port, f"GET /portal HTTP/1.0\r\nCookie: {cookie}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert server.seen[-1].values("host") == [f"127.0.0.1:{server.port}"]


async def test_100_continue_is_not_sent_before_a_refusal(gate: Gateway, server: DocumentServer, cookie: str) -> None:
    expecting = ("Expect: 100-continue", "Content-Length: 3")
    foreign = request(cookie, HEAD, *expecting, "Origin: http://evil.example", last=False)
    for sent, status in ((foreign, 403), (request("none=0", HEAD, *expecting, last=False), 401)):
        answer = await raw(gate.port, sent, within=0.5)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
        assert b"connection: close" in answer.lower(), "the gateway cannot know whether the body follows"
    assert server.seen == []


async def test_unknown_expectation_is_not_forwarded(gate: Gateway, server: DocumentServer, cookie: str) -> None:
    answer = await raw(gate.port, request(cookie, HEAD, "Expect: more", "Content-Length: 3", body=b"abc"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert server.seen[-1].values("expect") == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["X-A: " + "a" * 60_000] * 4, 200),
        (["X-A: " + "a" * 60_000] * 5, 431),
        (["X-A: a"] * 124, 200),
        (["X-A: a"] * 140, 431),
    ],
)
async def test_headers_are_limited_in_total_size_and_number(
    gate: Gateway, server: DocumentServer, cookie: str, fields: Sequence[str], status: int
) -> None:
    answer = await raw(gate.port, request(cookie, "GET /portal HTTP/1.1", *fields))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert len(server.seen) == (status == 200)


async def test_target_of_70_kb_is_431(gate: Gateway, server: DocumentServer, cookie: str) -> None:
    answer = await raw(gate.port, request(cookie, f"GET /{'a' * 70_000} HTTP/1.1"))
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert server.seen == []


# ---------------------------------------------------------------- WebSockets

WEBSOCKET = (
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {base64.b64encode(b'0' * 16).decode()}",
)


@pytest.mark.parametrize(
    ("line", "connection"),
    [
        ("POST /live HTTP/1.1", "Connection: Upgrade"),
        ("GET /live HTTP/1.0", "Connection: Upgrade"),
        ("GET /live HTTP/1.1", "X-A: no Connection field"),
    ],
)
async def test_malformed_websocket_handshake_is_a_plain_request(
    gate: Gateway, server: DocumentServer, cookie: str, line: str, connection: str
) -> None:
    second = request(cookie, "GET /second HTTP/1.1")
    answer = await raw(gate.port, request(cookie, line, connection, *WEBSOCKET, last=False) + second)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert server.seen[0].values("upgrade") == []
    assert server.seen[0].values("connection") == []


async def test_connection_still_speaks_http_after_a_declined_websocket(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    first = request(cookie, "GET /live HTTP/1.1", "Connection: Upgrade", *WEBSOCKET, last=False)
    answer = await raw(gate.port, first + request(cookie, "GET /second HTTP/1.1"))
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert [exchange.path for exchange in server.seen] == ["/live", "/second"]


# ---------------------------------------------------------------- responses


OK = b"HTTP/1.1 200 OK\r\n"
REFUSED = {
    "two lengths that agree": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "a signed length": OK + b"Content-Length: +2\r\n\r\nok",
    "a negative length": OK + b"Content-Length: -2\r\n\r\nok",
    "an empty length": OK + b"Content-Length:\r\n\r\nok",
    "an endless length": OK + b"Content-Length: 99999999999999999999\r\n\r\nok",
    "a blank before the colon": OK + b"Content-Length : 2\r\n\r\nok",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nok",
    "a folded field": OK + b"X-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok",
    "a fold before the first field": OK + b" X-A: 1\r\nContent-Length: 2\r\n\r\nok",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "a bare LF after a field": OK + b"X-A: 1\nContent-Length: 2\r\n\r\nok",
    "a bare CR in a field": OK + b"X-A: 1\rX-B: 2\r\nContent-Length: 2\r\n\r\nok",
    "a NUL in a field": OK + b"X-A: 1\x002\r\nContent-Length: 2\r\n\r\nok",
    "a NUL in a name": OK + b"X\0A: 1\r\nContent-Length: 2\r\n\r\nok",
    "a field without a colon": OK + b"X-A\r\nContent-Length: 2\r\n\r\nok",
    "a field without a name": OK + b": 1\r\nContent-Length: 2\r\n\r\nok",
    "a NUL in the reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
    "a CR in the reason": b"HTTP/1.1 200 OK\rX-A: 1\r\nContent-Length: 2\r\n\r\nok",
    "an escape in the reason": b"HTTP/1.1 200 O\x1bK\r\nContent-Length: 2\r\n\r\nok",
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
    "status 99": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
    "status 600": b"HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok",
    "status 1000": b"HTTP/1.1 1000 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/0.9": b"ok",
    "HTTP/0.9 by name": b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a 1xx with a body": b"HTTP/1.1 104 Odd\r\nContent-Length: 5\r\n\r\nhello" + OK + b"Content-Length: 2\r\n\r\nok",
    "nine 1xx": b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + OK + b"Content-Length: 2\r\n\r\nok",
    "a megabyte of header": OK + b"X-A: " + b"a" * (1 << 20),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_malformed_or_ambiguous_response_is_502(
    gate: Gateway, server: DocumentServer, cookie: str, case: str
) -> None:
    answer = await replied(gate, server, cookie, says(REFUSED[case], then_closes=case in ("HTTP/0.9", "identity")))
    assert answer.startswith(b"HTTP/1.1 502 "), answer


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello"]
)
@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_204_and_304_have_no_body_whatever_their_framing(
    gate: Gateway, server: DocumentServer, cookie: str, status: bytes, framing: bytes
) -> None:
    answer = await replied(gate, server, cookie, says(b"HTTP/1.1 " + status + b"\r\n" + framing))
    assert answer == b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n\r\n"


async def test_body_of_a_response_to_head_is_dropped(gate: Gateway, server: DocumentServer, cookie: str) -> None:
    speech = says(OK + b"Content-Length: 5\r\n\r\nhello")
    answer = await replied(gate, server, cookie, speech, line="HEAD /portal HTTP/1.1")
    assert answer == OK + b"Content-Length: 5\r\nConnection: close\r\n\r\n"


async def test_1xx_responses_are_skipped(gate: Gateway, server: DocumentServer, cookie: str) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nSet-Cookie: early=1\r\n\r\n"
    answer = await replied(gate, server, cookie, says(early, OK + b"Content-Length: 2\r\n\r\nok"))
    assert answer == OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok"


async def test_chunk_extensions_and_trailers_of_a_response_are_dropped(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    pieces = (b"2;x=y\r\nok\r\n", b"0\r\nSet-Cookie: late=1\r\nX-A: 1\x002\r\n\r\n")
    answer = await replied(gate, server, cookie, says(OK + b"Transfer-Encoding: chunked\r\n\r\n", *pieces))
    assert answer.startswith(OK)
    assert b"x=y" not in answer
    assert b"late" not in answer
    assert b"\0" not in answer


async def test_malformed_chunk_in_a_response_cuts_the_response_short(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    for chunk in (b"zz\r\nok\r\n", b"2\nok\r\n", b"2\r\nokX\r\n", b"-2\r\nok\r\n", b"fffffffffffffffff\r\n"):
        speech = says(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\nok\r\n", chunk + b"0\r\n\r\n")
        answer = await replied(gate, server, cookie, speech)
        assert not answer.endswith(b"0\r\n\r\n"), "the last chunk would say that it is whole"


async def test_truncated_response_is_seen_as_truncated_in_http_1_0(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    """In HTTP/1.0, which nginx uses by default, a body ends with its connection."""

    async def break_off(exchange: Exchange) -> None:
        exchange.writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await went_on.wait()
        exchange.writer.close()

    went_on = asyncio.Event()
    server.behaviour = break_off
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(request(cookie, "GET /portal HTTP/1.0"))
    assert (await reader.readuntil(b"hello")).endswith(b"\r\n\r\nhello")
    went_on.set()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_bytes_after_a_response_never_reach_the_next_request(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    for more in (OK + b"Content-Length: 6\r\n\r\npoison", b"and more", b"\0"):
        answer = await replied(gate, server, cookie, says(OK + b"Content-Length: 2\r\n\r\nok" + more))
        assert answer == OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok"


async def test_hop_by_hop_headers_of_a_response_are_dropped_and_cookies_kept_apart(
    gate: Gateway, server: DocumentServer, cookie: str
) -> None:
    fields = (
        b"Connection: X-A, close\r\nX-A: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: Basic\r\nPersistent-Auth: true\r\n"
        b'Alt-Svc: h3=":443"\r\nUpgrade: h2c\r\nTrailer: X-B\r\nWWW-Authenticate: NTLM\r\n'
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok"
    )
    answer = await replied(gate, server, cookie, says(OK + fields))
    kept = b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Kept: 1\r\n"
    assert answer == OK + kept + b"Content-Length: 2\r\nConnection: close\r\n\r\nok"


# ---------------------------------------------------------------- behind a proxy


async def test_malformed_forwarded_headers_of_a_trusted_proxy_are_400(
    server: DocumentServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("proxied")
    async with gateway(write_settings(folder, server.port, listen='trusted_proxies = ["127.0.0.1/32"]')) as gate:
        for field in (
            "X-Forwarded-For: unknown",
            "X-Forwarded-For: 198.51.100.7, 198.51.100.7:x",
            "X-Forwarded-Host: g, h",
            "X-Forwarded-Host: g/h",
            "X-Forwarded-For: _hidden",
            "X-Forwarded-Proto: ftp",
            "X-Forwarded-Proto: https, http",
        ):
            assert (await curl(f"{gate.url}/portal", "-H", field)).status == 400, field
        lines = ("-H", "X-Forwarded-For: 10.1.1.1", "-H", "X-Forwarded-For: 198.51.100.7")
        assert (await curl(f"{gate.url}/portal", *lines, user="alice")).status == 401
        assert gate.decisions("sign-in failed")[-1]["address"] == "198.51.100.7", (
            "not the address that the trusted proxy saw"
        )


# ---------------------------------------------------------------- the parser that all of this depends on


async def test_gateway_does_not_start_without_llhttp(
    server: DocumentServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Most request smuggling faults of aiohttp were in its Python parser."""
    file = write_settings(tmp_path_factory.mktemp("slow"), server.port)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "calgate", "run", "-c", str(file)),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
    )
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"parser" in said
