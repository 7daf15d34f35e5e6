"""CORS preflights of the origins that may embed the site."""

from types import SimpleNamespace
from typing import Any

import pytest

from calgate.endpoints.preflight import Preflights
from calgate.http.headers import RequestHeaders
from calgate.http.request import Request

PORTAL = "https://portal.corp.example"
PREFLIGHT = {b"origin": PORTAL.encode(), b"access-control-request-method": b"POST"}


def response_to(by_name: dict[bytes, bytes], method: str = "OPTIONS") -> Any:
    headers = RequestHeaders(by_name=by_name)
    values: Any = (None, None, method, "/", SimpleNamespace(path="/"), headers, "bi", "https", "::1", False)
    return Preflights((PORTAL,), ("GET", "POST")).response_to(Request(*values))


def test_preflight_of_an_embedding_origin_is_allowed() -> None:
    response = response_to(PREFLIGHT | {b"access-control-request-headers": b"content-type, x-qv"})
    headers = dict(response.headers)
    assert response.status == 204
    assert headers[b"Access-Control-Allow-Origin"] == PORTAL.encode()
    assert headers[b"Access-Control-Allow-Credentials"] == b"true"
    assert headers[b"Access-Control-Allow-Methods"] == b"GET, POST"
    assert headers[b"Access-Control-Allow-Headers"] == b"content-type, x-qv"
    assert b"Origin" in headers[b"Vary"]


def test_preflight_for_an_address_of_the_intranet_is_allowed_where_the_browser_asks() -> None:
    name = b"access-control-request-private-network"
    allowed = response_to(PREFLIGHT | {name: b"true"}).headers
    assert (b"Access-Control-Allow-Private-Network", b"true") in allowed
    for headers in (PREFLIGHT, PREFLIGHT | {name: b"false"}):
        assert b"Access-Control-Allow-Private-Network" not in dict(response_to(headers).headers)
    assert response_to(PREFLIGHT | {name: b"true", b"origin": b"https://evil.example"}) is None


@pytest.mark.parametrize("port", ["", ":443"])
def test_origin_is_compared_as_an_origin(port: str) -> None:
    assert response_to(PREFLIGHT | {b"origin": f"HTTPS://Portal.corp.example{port}".encode()}) is not None


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({b"origin": b"https://evil.example"}, "OPTIONS"),
        ({b"origin": b"https://portal.corp.example.evil.example"}, "OPTIONS"),
        ({b"origin": b"http://portal.corp.example"}, "OPTIONS"),
        ({b"origin": b"null"}, "OPTIONS"),
        ({b"access-control-request-headers": b"a\x00b"}, "OPTIONS"),
        ({}, "GET"),
        ({}, "POST"),
    ],
)
def test_any_other_request_must_sign_in(changes: dict[bytes, bytes], method: str) -> None:
    assert response_to(PREFLIGHT | changes, method) is None


def test_options_request_that_is_no_preflight_must_sign_in() -> None:
    assert response_to({b"origin": PORTAL.encode()}) is None
