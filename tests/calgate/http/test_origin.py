"""Origins: one spelling each."""

import pytest

from calgate.http.origin import host_name, normalize_origin, own_origins


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://bi", "https://bi"),
        ("https://BI:443", "https://bi"),
        ("HTTP://bi:80", "http://bi"),
        ("http://bi:", "http://bi"),
        ("http://bi:443", "http://bi:443"),
        ("https://bi:8443", "https://bi:8443"),
        ("https://bi:08443", "https://bi:8443"),
        ("https://[2001:DB8::1]:443", "https://[2001:db8::1]"),
    ],
)
def test_origin_has_one_spelling(text: str, origin: str) -> None:
    assert normalize_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "bi", "https://", "https://bi/", "https://a@bi", "https://bi:x", "ftp://bi", "https://bi evil"),
        *("https://bi:443:443", "https://bi\\evil", "https://bi,https://evil", "https://" + "a" * 300),
    ],
)
def test_other_text_is_not_an_origin(text: str) -> None:
    assert normalize_origin(text) == ""


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("bi", "bi"),
        ("bi:443", "bi"),
        ("bi.example.", "bi.example"),
        ("bi.example.:8443", "bi.example"),
        ("[::1]:80", "[::1]"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("", ""),
    ],
)
def test_host_name_has_neither_port_nor_final_dot(host: str, name: str) -> None:
    assert host_name(host) == name


def test_own_origin_follows_from_host_unless_the_settings_name_the_public_ones() -> None:
    assert own_origins("https", "bi:443", ()) == ("https://bi",)
    public = ("https://bi", "https://reports:8443")
    assert own_origins("http", "internal:8080", public) == public
    assert own_origins("https", "reports:8443", public)[0] == "https://reports:8443"
    assert "https://internal" not in own_origins("https", "internal", public)
