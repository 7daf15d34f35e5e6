"""The requests that the forwarder hands to the connection pool."""

import asyncio
from itertools import product
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
from aiohttp import HttpVersion11, StreamReader

from calgate.http.connection import RawRequest
from calgate.http.headers import RequestHeaderFilter, sort_outbound
from calgate.http.request import Request, read_request
from calgate.telemetry.metrics import Metrics
from calgate.upstream.balancer import LoadBalancer, Server
from calgate.upstream.connection import UpstreamConnection
from calgate.upstream.forwarder import Forwarder, encode_headers
from calgate.upstream.pool import Upstream, UpstreamRequest

METHODS = frozenset({"GET", "POST"})


class Recording(Upstream):
    """Keeps the requests that it is to send."""

    def __init__(self) -> None:
        super().__init__("docs", 80)
        self.sent: list[UpstreamRequest] = []

    async def send(self, request: UpstreamRequest, begun: UpstreamConnection | None = None) -> Any:
        self.sent.append(request)
        return SimpleNamespace(status=200, headers=[], sorted_headers=sort_outbound([]))


def incoming(method: str, *pieces: bytes, ends: bool = True, **headers: str) -> Request:
    """A request whose body has arrived so far as `pieces`."""
    content = StreamReader(Mock(_reading_paused=False), 2**20, loop=asyncio.get_running_loop())
    for piece in pieces:
        content.feed_data(piece)
    if ends:
        content.feed_eof()
    raw_headers = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    sort = RequestHeaderFilter(frozenset(), frozenset())
    connection = SimpleNamespace(
        address="192.0.2.7",
        is_secure=False,
        sorted_headers=lambda fields, header_filter: header_filter.sort(fields),
        send=lambda *_: None,
        begin_upload=lambda: None,
        end_upload=lambda: None,
    )
    raw = SimpleNamespace(
        connection=connection,
        raw_headers=((b"Host", b"g"), *raw_headers),
        version=HttpVersion11,
        method=method,
        raw_path="/form",
        content=content,
    )
    return read_request(cast(RawRequest, raw), header_filter=sort, trusted=(), methods=METHODS)


async def forward(request: Request) -> UpstreamRequest:
    upstream = Recording()
    forwarder = Forwarder(LoadBalancer([Server(upstream)], Metrics()), keep_host=True)
    await forwarder.send(request, "session", b"a=1", b"QVUSER: alice\r\n", user="S-1-5-21")
    return upstream.sent[0]


async def test_small_body_that_has_arrived_goes_out_in_one_write_with_its_head() -> None:
    sent = await forward(incoming("POST", b"a=1", b"&b=2", content_length="7"))
    assert sent.body is None
    assert sent.message.endswith(b"Content-Length: 7\r\nQVUSER: alice\r\n\r\na=1&b=2")
    assert sent.user == "S-1-5-21"


@pytest.mark.parametrize(
    "case",
    ["not all of it has arrived", "chunked", "long", "the client waits for 100 Continue"],
)
async def test_other_body_is_streamed(case: str) -> None:
    request = {
        "not all of it has arrived": lambda: incoming("POST", b"abc", ends=False, content_length="7"),
        "chunked": lambda: incoming("POST", b"abc", transfer_encoding="chunked"),
        "long": lambda: incoming("POST", b"a" * 65_537, content_length="65537"),
        "the client waits for 100 Continue": lambda: incoming(
            "POST", b"abc", content_length="3", expect="100-continue"
        ),
    }[case]()
    sent = await forward(request)
    assert sent.body is not None
    assert sent.message.endswith(b"\r\n\r\n")


async def test_request_without_a_body_has_no_length() -> None:
    sent = await forward(incoming("GET"))
    assert sent.body is None
    assert sent.message == (
        b"GET /form HTTP/1.1\r\nHost: g\r\nCookie: a=1\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: g\r\nVia: 1.1 calgate\r\nQVUSER: alice\r\n\r\n"
    )


def test_control_character_in_a_sign_on_header_is_an_error() -> None:
    assert encode_headers({"QVUSER": "alice"}) == b"QVUSER: alice\r\n"
    for value in ("a\r\nX: 1", "a\0", "a\n"):
        with pytest.raises(ValueError, match="control character"):
            encode_headers({"QVUSER": value})


class Instant(Upstream):
    """Takes every request at once and keeps it."""

    has_idle = True

    def __init__(self, host: str) -> None:
        super().__init__(host, 80)
        self.sent: list[UpstreamRequest] = []

    def send_at_once(self, request: UpstreamRequest) -> Any:
        self.sent.append(request)
        return SimpleNamespace()


async def test_equal_headers_are_put_together_again_for_anything_else_that_is_sent_with_them() -> None:
    """Another user's sign-on, other cookies, another method or server: each time the message of a first request."""
    request = incoming("GET", accept="*/*")
    one, other = Instant("one"), Instant("other")
    forwarders = {up.host: Forwarder(LoadBalancer([Server(up)], Metrics()), keep_host=False) for up in (one, other)}
    sign_ons = (b"QVUSER: alice\r\n", b"QVUSER: bob\r\n", b"")
    for method in ("GET", "POST", "GET"):
        request.method = method
        for host, cookies, sign_on in product(("one", "other"), (b"a=1", b""), sign_ons):
            for path in ("/x", "/y"):
                request.raw_target = path
                assert forwarders[host].send_at_once(request, "session", cookies, sign_on, None, "alice") is not None
                message = {"one": one, "other": other}[host].sent[-1].message
                assert message.startswith(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\naccept: */*\r\n".encode())
                assert (b"\r\nCookie: a=1\r\n" in message) == bool(cookies)
                assert message.endswith(b"\r\n" + sign_on + b"\r\n")
                assert message.count(b"QVUSER") == bool(sign_on)
                assert (b"Content-Length: 0" in message) == (method == "POST")
