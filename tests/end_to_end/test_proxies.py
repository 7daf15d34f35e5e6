"""Behind another proxy: the headers of real proxies, and how the gateway reads them.

The trusted proxy is 127.0.0.2; people sign in from 127.0.0.1, because NTLM is refused through a proxy.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.gateway_process import (
    DocumentServer,
    Exchange,
    Gateway,
    Reply,
    cookie_of,
    curl,
    gateway,
    write_settings,
)
from support.shared_gateway import server, shared_server

__all__ = ["server", "shared_server"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTEN = 'trusted_proxies = ["127.0.0.2/32"]'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(shared_server: DocumentServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    settings = write_settings(tmp_path_factory.mktemp("proxied"), shared_server.port, listen=LISTEN)
    async with gateway(settings) as running:
        yield running


async def secure_cookie(gate: Gateway) -> str:
    """The session cookie under the name that it has on an https site."""
    return "__Host-" + await cookie_of(gate, "alice")


async def through_proxy(gate: Gateway, path: str, cookie: str, *headers: str, method: str = "GET") -> Reply:
    fields = [word for header in (f"Cookie: {cookie}", *headers) for word in ("-H", header)]
    return await curl(f"{gate.url}{path}", "--interface", "127.0.0.2", "-X", method, *fields)


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("192.0.2.7:51234", "192.0.2.7"),
        ("[2001:db8::7]:51234", "2001:db8::7"),
        ("203.0.113.1, 192.0.2.7:1", "192.0.2.7"),
    ],
)
async def test_client_address_is_read_with_its_port(
    gate: Gateway, server: DocumentServer, header: str, client: str
) -> None:
    cookie = await cookie_of(gate, "alice")
    reply = await through_proxy(gate, "/portal", cookie, f"X-Forwarded-For: {header}")
    assert reply.status == 200
    assert server.seen[-1].values("x-forwarded-for") == [client]


async def test_websocket_opens_with_the_headers_of_traefik(gate: Gateway, server: DocumentServer) -> None:
    async def switch(exchange: Exchange) -> None:
        accept = "HSmrc0sMlYUkAGmm5OPpG2HaGWk="  # for the key below (RFC 6455, 4.2.2)
        lines = (
            "HTTP/1.1 101 Switching Protocols",
            "Connection: Upgrade",
            "Upgrade: websocket",
            f"Sec-WebSocket-Accept: {accept}",
        )
        exchange.writer.write("\r\n".join([*lines, "", ""]).encode())

    cookie = await secure_cookie(gate)
    server.behaviour = switch
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port, local_addr=("127.0.0.2", 0))
    lines = (
        "GET /live HTTP/1.1",
        "Host: bi.example",
        "Connection: Upgrade",
        "Origin: https://bi.example",
        "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
        "Sec-WebSocket-Version: 13",
        "Upgrade: websocket",
        "X-Forwarded-For: 192.0.2.7",
        "X-Forwarded-Host: bi.example",
        "X-Forwarded-Port: 443",
        "X-Forwarded-Proto: wss",
        "X-Forwarded-Server: traefik-1",
        "X-Real-Ip: 192.0.2.7",
        f"Cookie: {cookie}",
    )
    writer.write("\r\n".join([*lines, "", ""]).encode())
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 101 ")
    writer.close()
    assert server.seen[-1].values("x-forwarded-proto") == ["https"]


@pytest.mark.parametrize("host", ["bi.example:443", "bi.example", "BI.example:443"])
async def test_default_port_does_not_make_an_origin_foreign(gate: Gateway, server: DocumentServer, host: str) -> None:
    cookie = await secure_cookie(gate)
    headers = (f"Host: {host}", "X-Forwarded-Proto: https", "Sec-Fetch-Site: same-origin")
    for origin in ("https://bi.example", "https://bi.example:443", "https://BI.example"):
        assert (await through_proxy(gate, "/form", cookie, f"Origin: {origin}", *headers, method="POST")).status == 200
    for origin in ("http://bi.example", "https://bi.example:8443", "https://bi.example.evil", "null", "https://evil"):
        assert (
            await through_proxy(gate, "/form", cookie, f"Origin: {origin}", *headers[:2], method="POST")
        ).status == 403


async def test_origin_is_compared_with_the_public_one_where_a_proxy_changes_host(
    gate: Gateway, server: DocumentServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cookie = await secure_cookie(gate)
    headers = ("Host: internal:8080", "X-Forwarded-Proto: https", "Origin: https://bi.example")
    assert (await through_proxy(gate, "/form", cookie, *headers, method="POST")).status == 403
    named = (*headers, "X-Forwarded-Host: bi.example")
    assert (await through_proxy(gate, "/form", cookie, *named, method="POST")).status == 200
    assert server.seen[-1].values("x-forwarded-host") == ["bi.example"]

    listen = f'{LISTEN}\npublic_origin = ["https://reports.example:8443", "https://BI.example:443/"]'
    settings = write_settings(tmp_path_factory.mktemp("public"), server.port, listen=listen)
    async with gateway(settings) as other:
        cookie = await secure_cookie(other)
        assert (await through_proxy(other, "/form", cookie, *headers, method="POST")).status == 200
        foreign = ("Host: internal:8080", "X-Forwarded-Proto: https", "Origin: https://internal:8080")
        assert (await through_proxy(other, "/form", cookie, *foreign, method="POST")).status == 403


async def test_forwarded_host_of_a_stranger_is_ignored(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}", "-H", "X-Forwarded-Host: evil.example")
    assert server.seen[-1].values("x-forwarded-host") == [f"127.0.0.1:{gate.port}"]


async def test_location_with_the_scheme_of_the_document_server_gets_the_public_one(
    gate: Gateway, server: DocumentServer
) -> None:
    async def redirect(exchange: Exchange) -> None:
        await exchange.answer(status="301 Moved", fields=[f"Location: {locations[-1]}"])

    locations: list[str] = []
    cookie = await secure_cookie(gate)
    server.behaviour = redirect
    headers = ("Host: bi.example", "X-Forwarded-Proto: https")
    for location, result in (
        ("http://bi.example/qlikview/", "https://bi.example/qlikview/"),
        (f"//127.0.0.1:{server.port}/a", "https://bi.example/a"),
        (f"http://127.0.0.1:{server.port}/a", "https://bi.example/a"),
        ("http://elsewhere.example/", "http://elsewhere.example/"),
        ("/a", "/a"),
    ):
        locations.append(location)
        reply = await through_proxy(gate, "/qlikview", cookie, *headers)
        assert reply.values("location") == [result]


async def test_malformed_forwarded_header_is_logged_with_its_reason(gate: Gateway, server: DocumentServer) -> None:
    for name, value in (("X-Forwarded-For", "unknown"), ("X-Forwarded-Host", "bi.example/../x")):
        assert (await through_proxy(gate, "/portal", "a=b", f"{name}: {value}")).status == 400
        assert name in str(gate.decisions("refused")[-1]["reason"])
    assert server.seen == []
