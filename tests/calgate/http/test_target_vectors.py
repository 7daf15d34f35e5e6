"""Request targets that every route refuses, and those that have one reading."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calgate.http.target import read_target
from calgate.plugin.errors import BadRequest


@pytest.mark.parametrize(
    "path",
    [
        "/a%2fb",
        "/a%5Cb",
        "/a\\b",
        "//host/x",
        "/a//b",
        "/a/../b",
        "/a/%2e%2E/b",
        "/./a",
        "/a;b",
        "/a%3Bb",
        "/%2561",
        "/a%00",
        "/a%0d%0a",
        "/a%zz",
        "/a%",
        "/%ff",
        "/a#b",
        "/a b",
        "/\xe9",
        "",
        "?x",
        "a",
        "*",
        "http://h/",
        "/a%E2%80%8B",
    ],
)
def test_path_that_servers_read_differently_is_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        read_target(path)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/", "/"),
        ("/a/b.htm", "/a/b.htm"),
        ("/a/", "/a/"),
        ("/%61/b", "/a/b"),
        ("/M%C3%A4rz/", "/März/"),
        ("/.well-known/x", "/.well-known/x"),
        ("/Aster%20Plot/d3.js", "/Aster Plot/d3.js"),
        ("/a?b=//c/../d\\e", "/a"),
    ],
)
def test_path_with_one_reading_is_decoded_once(raw: str, path: str) -> None:
    assert read_target(raw).path == path


@given(st.text(st.characters(codec="latin-1"), max_size=60))
def test_random_target_is_read_in_one_way_or_refused(raw: str) -> None:
    try:
        read = read_target("/" + raw)
    except BadRequest:
        return
    assert ".." not in read.segments
    assert "" not in read.segments[:-1]
    assert not {"\\", "%", ";", "\0"} & set(read.path)
