"""Client addresses and what trusted proxies write about them."""

from ipaddress import ip_network

import pytest

from calgate.http.address import canonical_address, client_address, client_host, client_scheme, is_trusted
from calgate.plugin.errors import BadRequest

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("fe80::1%e0", "fe80::1"),
    ],
)
def test_address_has_one_form(text: str, address: str) -> None:
    assert canonical_address(text) == address


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("", "10.0.0.1"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:51234", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:51234", "2001:db8::7"),
        ("203.0.113.9, 192.0.2.7:51234, 10.1.1.1:80", "192.0.2.7"),
        ("garbage, 192.0.2.7", "192.0.2.7"),
        ("10.1.1.1, [fd00::1]:80", "10.1.1.1"),
    ],
)
def test_client_is_the_last_address_that_is_not_a_trusted_proxys(header: str, client: str) -> None:
    assert client_address("10.0.0.1", header, TRUSTED) == client


@pytest.mark.parametrize(
    "header",
    [
        *("unknown", "_hidden", "192.0.2.7:", "192.0.2.7:x", "192.0.2.7:70000", "192.0.2.7:1:2", "[192.0.2.7]"),
        *("[2001:db8::7", "2001:db8::7]", "[2001:db8::7]x", "[]:80", ":80", "192.0.2.7,", ", 10.1.1.1", "192.0.2.07"),
        *("[[2001:db8::7]]", "192.0.2.7 :80", '"192.0.2.7"', "192.0.2.7:-1", "192.0.2.7:\uff18\uff10"),
    ],
)
def test_malformed_address_of_a_trusted_proxy_is_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        client_address("10.0.0.1", header, TRUSTED)


def test_header_of_a_stranger_is_not_read() -> None:
    assert client_address("192.0.2.1", "garbage", TRUSTED) == "192.0.2.1"
    assert not is_trusted("192.0.2.1", TRUSTED)
    assert is_trusted("unix", ())


@pytest.mark.parametrize(
    ("header", "scheme"),
    [("https", "https"), ("HTTP", "http"), ("wss", "https"), ("ws", "http"), ("https, wss", "https")],
)
def test_scheme_of_a_trusted_proxy_is_http_or_https(header: str, scheme: str) -> None:
    assert client_scheme(header) == scheme


@pytest.mark.parametrize("header", ["", "ftp", "https, http", "https,", "wss://x"])
def test_other_scheme_is_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        client_scheme(header)


def test_host_of_several_proxies_must_be_the_same() -> None:
    assert client_host("BI.example, bi.example") == "bi.example"
    with pytest.raises(BadRequest):
        client_host("bi.example, evil.example")
