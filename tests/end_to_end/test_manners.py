"""HTTP's rules for gateways, in its own responses and in those that it forwards."""

from pathlib import Path

import pytest

from support.gateway_process import DocumentServer, Exchange, Gateway, cookie_of, curl, gateway, raw, write_settings
from support.shared_gateway import gate, server, shared_server

__all__ = ["gate", "server", "shared_server"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("method", ["TRACK", "DEBUG", "TRACE", "PROPFIND", "BREW"])
async def test_unknown_method_is_405_with_allow(gate: Gateway, server: DocumentServer, method: str) -> None:
    answer = await raw(gate.port, f"{method} /portal HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET, HEAD, POST" in answer
    assert b"\r\nDate: " in answer
    assert server.seen == []


async def test_malformed_method_is_400(gate: Gateway) -> None:
    for line in (b"track / HTTP/1.1", b"TR\x01CK / HTTP/1.1", b"TRACK  HTTP/1.1", b"TRACK / HTTP/3.0"):
        assert (await raw(gate.port, line + b"\r\nHost: g\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_own_paths_have_their_own_methods(gate: Gateway) -> None:
    for path, allow in (("sign-out", "GET, HEAD, POST"), ("signed-out", "GET, HEAD"), ("health", "GET, HEAD")):
        head = await curl(f"{gate.url}/_calgate/{path}", "--head")
        assert head.status == 200, path
        refused = await curl(f"{gate.url}/_calgate/{path}", "-X", "DELETE")
        assert (refused.status, refused.values("allow")) == (405, [allow]), path


async def test_refusal_of_an_unreadable_request_follows_accept_and_has_a_reference(gate: Gateway) -> None:
    for status, more in ((400, b"Host: g/h\r\n"), (431, b"Host: g\r\n" + b"X-A: " + b"a" * 60_000 + b"\r\n")):
        fields = (
            more if status == 400 else b"Host: g\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 60_000) for n in range(5))
        )
        json = await raw(gate.port, b"GET / HTTP/1.1\r\nAccept: application/json\r\n" + fields + b"\r\n")
        assert json.startswith(b"HTTP/1.1 %d " % status)
        assert b"Content-Type: application/problem+json" in json
        reference = json.partition(b'"reference": "')[2].partition(b'"')[0].decode()
        assert [line["reference"] for line in gate.decisions("refused")][-1] == reference
        page = await raw(gate.port, b"GET / HTTP/1.1\r\nAccept: text/html\r\n" + fields + b"\r\n")
        assert b"Content-Type: text/html" in page
        assert b"\r\nVary: Accept, Accept-Language\r\n" in page
        assert b"\r\nDate: " in page


async def test_request_that_cannot_be_parsed_gets_a_page_that_depends_on_no_header(gate: Gateway) -> None:
    answer = await raw(gate.port, b"nonsense\r\n\r\n")
    assert b"Content-Type: text/html" in answer
    assert b"Vary:" not in answer


async def test_request_is_forwarded_with_via_and_response_with_date(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    reply = await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}", "-H", "Via: 1.1 squid")
    assert server.seen[-1].values("via") == ["1.1 squid", "1.1 calgate"]
    assert len(reply.values("date")) == 1

    async def dated(exchange: Exchange) -> None:
        await exchange.answer(fields=["Date: Tue, 15 Nov 1994 08:12:31 GMT"])

    server.behaviour = dated
    reply = await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")
    assert reply.values("date") == ["Tue, 15 Nov 1994 08:12:31 GMT"]


async def test_response_with_a_new_session_cookie_is_not_cacheable(gate: Gateway, server: DocumentServer) -> None:
    async def cacheable(exchange: Exchange) -> None:
        await exchange.answer(
            fields=["Cache-Control: public, max-age=600", "Expires: Tue, 15 Nov 2094 08:12:31 GMT", "ETag: a"]
        )

    server.behaviour = cacheable
    first = await curl(f"{gate.url}/portal", user="alice")
    assert first.values("set-cookie")
    assert (first.values("cache-control"), first.values("expires"), first.values("etag")) == (["no-store"], [], ["a"])
    cookie = first.values("set-cookie")[0].partition(";")[0]
    again = await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")
    assert again.values("cache-control") == ["public, max-age=600"]


async def test_page_names_its_icon_so_that_the_browser_requests_none(gate: Gateway) -> None:
    page = await curl(f"{gate.url}/_calgate/signed-out", "-H", "Accept: text/html")
    assert b'<link rel="icon" href="data:,">' in page.body


async def test_hsts_is_sent_over_https_as_the_settings_say(
    server: DocumentServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def weak(exchange: Exchange) -> None:
        await exchange.answer(fields=["Strict-Transport-Security: max-age=1"])

    server.behaviour = weak
    for more, expected in (
        ("", ["max-age=1"]),
        ('hsts = "1d"', ["max-age=86400"]),
        ('hsts = "1d"\nhsts_subdomains = true', ["max-age=86400; includeSubDomains"]),
    ):
        folder: Path = tmp_path_factory.mktemp("hsts")
        listen = f'trusted_proxies = ["127.0.0.2/32"]\n{more}'
        async with gateway(write_settings(folder, server.port, listen=listen)) as running:
            cookie = await cookie_of(running, "alice")
            options = ("--interface", "127.0.0.2", "-H", "X-Forwarded-Proto: https", "-H", f"Cookie: __Host-{cookie}")
            secure = await curl(f"{running.url}/portal", *options)
            assert secure.values("strict-transport-security") == expected
            refused = await curl(f"{running.url}/portal", *options[:4])
            assert refused.values("strict-transport-security") == (expected if more else [])
            plain = await curl(f"{running.url}/portal", "-H", f"Cookie: {cookie}")
            assert plain.values("strict-transport-security") == ["max-age=1"]
