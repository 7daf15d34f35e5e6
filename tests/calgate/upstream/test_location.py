"""URLs in response headers that name the document server."""

import pytest

from calgate.upstream.location import rewrite_links, rewrite_url

UPSTREAM = frozenset({"docs", "docs:80"})
PUBLIC = "https://bi.example"


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("http://docs/a?b#c", "https://bi.example/a?b#c"),
        ("HTTP://DOCS:80", "https://bi.example"),
        ("https://docs?a", "https://bi.example?a"),
        ("//docs/a", "https://bi.example/a"),
        ("//docs:80/a", "https://bi.example/a"),
        ("http://bi.example/qlikview/", "https://bi.example/qlikview/"),
        ("http://BI.example:80/a", "https://bi.example/a"),
        ("http://bi.example:443/a", "https://bi.example/a"),
        ("5; url=http://docs/a", "5; url=https://bi.example/a"),
        ("0;URL='http://bi.example/a'", "0;URL='https://bi.example/a'"),
        ("0, http://docs/", "0, https://bi.example/"),
        ("http://user:secret@docs/a", "https://bi.example/a"),
        ("//user@docs:80/a", "https://bi.example/a"),
    ],
)
def test_url_of_the_document_server_or_under_its_scheme_becomes_the_public_one(value: str, result: str) -> None:
    assert rewrite_url(value.encode(), UPSTREAM, PUBLIC) == result.encode()


@pytest.mark.parametrize(
    "value",
    [
        *("/a", "a", "", "?a", "5", "//bi.example/a", "https://bi.example/a", "http://bi.example:8080/a"),
        *(
            "http://docs.example/a",
            "http://docs:8080/",
            "http://docs@evil/",
            "http://docs\\@evil/",
            "http://docs@evil@elsewhere/",
            "http://docs:80@evil/",
            "http://evil/?//docs/",
        ),
        *("http://evil/http://docs/", "ftp://docs/a", "javascript://docs/a", "http://docs.evil", "http:///a"),
    ],
)
def test_other_url_is_left_alone(value: str) -> None:
    assert rewrite_url(value.encode(), UPSTREAM, PUBLIC) == value.encode()


def test_each_target_of_a_link_header_is_rewritten_by_itself() -> None:
    value = b'<http://docs/a.css>; rel=preload; as=style, </b>; rel=next,<http://docs@evil/c>; title="<http://docs/>"'
    links = rewrite_links(value, UPSTREAM, PUBLIC)
    assert links.startswith(b"<https://bi.example/a.css>; rel=preload; as=style, </b>; rel=next,<http://docs@evil/c>;")


def test_own_name_keeps_its_scheme_on_a_site_without_tls() -> None:
    for value in (b"http://bi.example/a", b"https://bi.example/a"):
        assert rewrite_url(value, UPSTREAM, "http://bi.example") == value


def test_own_name_with_its_own_port_gets_the_scheme_of_the_site() -> None:
    assert rewrite_url(b"http://bi:8443/a", UPSTREAM, "https://bi:8443") == b"https://bi:8443/a"
    assert rewrite_url(b"http://bi/a", UPSTREAM, "https://bi:8443") == b"http://bi/a"
