"""The redirect to https, over a real connection."""

import asyncio

import pytest

from calgate.http.redirect import redirect_to_https
from calgate.http.settings import Listen

PLAIN = Listen.model_validate({"bind": "127.0.0.1:8443"})


async def answer_to(request: bytes, listen: Listen = PLAIN, port: int = 443) -> str:
    server = await asyncio.get_running_loop().create_server(redirect_to_https(listen, port), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    server.close()
    return answer.decode()


@pytest.mark.parametrize(
    ("host", "port", "location"),
    [
        ("bi.example", 443, "https://bi.example/a?b=c"),
        ("BI.example:80", 443, "https://bi.example/a?b=c"),
        ("bi.example:8080", 8443, "https://bi.example:8443/a?b=c"),
        ("[2001:db8::1]:80", 443, "https://[2001:db8::1]/a?b=c"),
        ("[2001:db8::1]", 8443, "https://[2001:db8::1]:8443/a?b=c"),
    ],
)
async def test_request_is_redirected_to_its_https_address(host: str, port: int, location: str) -> None:
    answer = await answer_to(f"GET /a?b=c HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), port=port)
    assert answer.startswith("HTTP/1.1 308 ")
    assert f"\r\nLocation: {location}\r\n" in answer
    assert "\r\nDate: " in answer


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: gate@evil.com\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: evil.com/a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET //evil.com/ HTTP/1.1\r\nHost: g\r\n\r\n", 400),
        (b"GET http://evil.com/ HTTP/1.1\r\nHost: g\r\n\r\n", 400),
        (b"GET /a\\b HTTP/1.1\r\nHost: g\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"TRACE / HTTP/1.1\r\nHost: g\r\n\r\n", 405),
        (b"TRACK / HTTP/1.1\r\nHost: g\r\n\r\n", 405),
    ],
)
async def test_request_that_the_main_listener_refuses_is_refused(request_: bytes, status: int) -> None:
    answer = await answer_to(request_)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert "Location" not in answer
    assert ("\r\nAllow: GET, " in answer) == (status == 405)


async def test_redirect_goes_to_the_public_origin_where_the_settings_name_it() -> None:
    listen = Listen.model_validate({"bind": "127.0.0.1:8443", "public_origin": "https://bi.example"})
    answer = await answer_to(b"GET /a HTTP/1.1\r\nHost: evil.example\r\n\r\n", listen, 8443)
    assert "\r\nLocation: https://bi.example/a\r\n" in answer
