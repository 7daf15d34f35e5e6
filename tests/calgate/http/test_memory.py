"""What strangers send is remembered only where it is short: caches are bounded by bytes, not only by number."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from calgate.http import headers, origin, request
from calgate.http.cookies import session_id_of
from calgate.http.headers import RequestHeaderFilter, sort_outbound
from calgate.http.origin import normalize_origin
from calgate.http.request import Request
from calgate.http.target import _read_remembered, read_target

LONG = 60_000


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    headers._outbound_handling.clear()


def with_cookie(value: bytes) -> Request:
    cookies = SimpleNamespace(ours={b"calgate": value})
    return cast(Request, SimpleNamespace(scheme="http", headers=SimpleNamespace(cookies=cookies)))


def test_long_header_name_is_not_remembered() -> None:
    header_filter = RequestHeaderFilter(frozenset(), frozenset())
    header_filter.sort([(b"x" * LONG, b"1"), (b"x-short", b"1")])
    assert list(header_filter._known) == [b"x-short"]
    sort_outbound([(b"y" * LONG, b"1"), (b"y-short", b"1")])
    assert b"y-short" in headers._outbound_handling
    assert max(map(len, headers._outbound_handling)) <= 64


def test_long_host_is_refused_before_it_is_remembered() -> None:
    before = request._has_host_form.cache_info().currsize
    assert not request._is_host("a" * LONG)
    assert request._has_host_form.cache_info().currsize == before


def test_long_origin_and_target_are_not_remembered() -> None:
    sizes = origin._normalize.cache_info().currsize, _read_remembered.cache_info().currsize
    assert normalize_origin("https://" + "a" * LONG) == ""
    read_target("/" + "b" * LONG)
    assert (origin._normalize.cache_info().currsize, _read_remembered.cache_info().currsize) == sizes


def test_session_id_that_is_longer_than_ours_is_none() -> None:
    assert session_id_of(with_cookie(b"a" * 43)) == "a" * 43
    assert session_id_of(with_cookie(b"a" * LONG)) == ""
