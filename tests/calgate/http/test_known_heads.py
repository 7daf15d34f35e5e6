"""The table of header blocks that were read before: what may be in it, and what it forgets."""

import asyncio
from unittest.mock import Mock

import pytest
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from calgate.http.headers import Header, RequestHeaderFilter, RequestHeaders
from calgate.http.known_heads import (
    LONGEST,
    NOTHING_CHANGES,
    Key,
    KnownHead,
    KnownHeads,
    find_changing,
    split_head,
)

BLOCK = b"Host: g\r\nCookie: calgate=x\r\n\r\n"


def head(session: str = "s") -> KnownHead:
    return KnownHead((), RequestHeaders(), "g", "http", "192.0.2.7", False, session)


def key(block: bytes = BLOCK, peer: str = "192.0.2.7", *, is_secure: bool = False) -> Key:
    return (block,), peer, is_secure


@pytest.mark.parametrize("target", ["/", "/a/b.htm?c=d&e=%20", "/a%20b:c"])
def test_plain_get_is_split_after_its_line(target: str) -> None:
    assert split_head(f"GET {target} HTTP/1.1\r\n".encode() + BLOCK) == (target, (b"\n" + BLOCK,), ())


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\n" + BLOCK,
        b"GET  / HTTP/1.1\r\n" + BLOCK,
        b"GET / HTTP/1.0\r\n" + BLOCK,
        b"GET http://g/ HTTP/1.1\r\n" + BLOCK,
        b"GET /#a HTTP/1.1\r\n" + BLOCK,
        b"GET /\xe4 HTTP/1.1\r\n" + BLOCK,
        b"GET / HTTP/1.1\n" + BLOCK,
        b"\r\nGET / HTTP/1.1\r\n" + BLOCK,
        b"GET / HTTP/1.1\r\n" + BLOCK[:-2],
        b"GET / HTTP/1.1\r\n" + BLOCK + b"body",
        b"GET / HTTP/1.1\r\nA: " + b"x" * LONGEST + b"\r\n\r\n",
    ],
)
def test_anything_else_is_left_to_the_parser(data: bytes) -> None:
    assert split_head(data) is None


def test_block_is_known_to_its_own_peer_and_scheme_only() -> None:
    heads = KnownHeads()
    heads.add(key(), known := head())
    assert heads.find(key()) is known
    assert heads.find(key(peer="192.0.2.8")) is None
    assert heads.find(key(is_secure=True)) is None
    assert heads.find(key(BLOCK + b"\r\n")) is None


def test_block_counts_as_seen_again_from_the_second_time() -> None:
    heads = KnownHeads()
    assert not heads.is_seen_again(key())
    assert not heads.is_seen_again(key(peer="192.0.2.8"))
    assert heads.is_seen_again(key())


def test_blocks_that_came_once_are_forgotten_after_many_others() -> None:
    heads = KnownHeads()
    assert not heads.is_seen_again(key())
    for number in range(1024):
        assert not heads.is_seen_again(key(b"%d" % number))
    assert not heads.is_seen_again(key())


def test_table_is_bounded_in_bytes_and_forgets_what_was_not_used_for_longest() -> None:
    heads = KnownHeads(most_bytes=3000)
    for name in (b"a", b"b", b"c"):
        heads.add(key(name * 1000), head())
    heads.find(key(b"a" * 1000))
    heads.add(key(b"d" * 1000), head())
    assert [heads.find(key(name * 1000)) is not None for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert len(heads) == 3


def test_blocks_of_a_session_are_forgotten_with_it() -> None:
    heads = KnownHeads()
    heads.add(key(b"1"), head("one"))
    heads.add(key(b"2"), head("one"))
    heads.add(key(b"3"), head("other"))
    heads.forget_session("one")
    heads.forget_session("unknown")
    assert [heads.find(key(b"%d" % number)) is not None for number in (1, 2, 3)] == [False, False, True]


def test_bytes_of_forgotten_blocks_are_free_again() -> None:
    heads = KnownHeads(most_bytes=1000)
    for number in range(10):
        heads.add(key(b"%d" % number * 900), head("one"))
        heads.add(key(b"%d" % number * 900), head("one"))
        heads.forget_session("one")
    heads.add(key(), known := head())
    assert heads.find(key()) is known


def test_readings_of_a_block_are_few_and_of_short_targets() -> None:
    known = head()
    for number in range(100):
        known.remember_reading(f"/{number}", number)
        assert len(known.readings) <= 32
    assert known.readings["/99"] == 99
    known.remember_reading("/" + "a" * 256, 1)
    assert "/" + "a" * 256 not in known.readings


# ---------------------------------------------------------------- values that may change

PAGE = "GET /page HTTP/1.1\r\nHost: g\r\nUser-Agent: 100%\r\n"
FILTER = RequestHeaderFilter(frozenset(), frozenset({b"calgate"}))


def parse(data: bytes) -> tuple[Header, ...]:
    """Returns the headers that aiohttp's parser finds in one whole head."""
    loop = asyncio.new_event_loop()
    try:
        ((message, _),), is_upgraded, tail = HttpRequestParser(Mock(), loop, 2**16).feed_data(data)
    finally:
        loop.close()
    assert not is_upgraded
    assert not tail
    return message.raw_headers


def learn(data: bytes, header_filter: RequestHeaderFilter = FILTER) -> KnownHead | None:
    """Returns what is remembered of a request; None where it must not be."""
    split = split_head(data)
    assert split is not None
    _, block, values = split
    raw_headers = parse(data)
    headers = header_filter.sort(raw_headers)
    changing = find_changing(block, values, raw_headers, headers)
    if changing is None:
        return None
    return KnownHead(raw_headers, headers, "g", "http", "192.0.2.7", False, "s", values, changing)


def page(*lines: str) -> bytes:
    return (PAGE + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode("latin-1")


def test_page_a_request_came_from_is_no_part_of_its_block() -> None:
    one, other = (split_head(page(f"Referer: http://g/{name}", "DNT: 1")) for name in ("one", "other"))
    assert one is not None
    assert other is not None
    assert one[:2] == other[:2]
    assert (one[2], other[2]) == ((b"http://g/one",), (b"http://g/other",))


@pytest.mark.parametrize(
    "line",
    [
        "Referer: ",
        "Referer: a ",
        "Referer:  a",
        "Referer:a",
        "Referer: a\tb",
        "Referer: a\rb",
        "Referer: a\nb",
        "Referer: a\0b",
        "Referer: \xe4",
        "Referer: a\r\n b",
        "Referer: " + "a" * 257,
        "referer: a",
        "X-Referer: a",
        "Host: a",
        "Cookie: a=b",
        "Content-Length: 1",
        "Transfer-Encoding: a",
        "X-Forwarded-For: 192.0.2.1",
    ],
)
def test_value_that_servers_may_read_in_two_ways_or_that_decides_something_is_part_of_the_block(line: str) -> None:
    split = split_head(page(line))
    assert split is not None
    assert split[2] == ()


@given(
    st.lists(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1), min_size=3, max_size=3),
    st.permutations(["Referer", "If-None-Match", "If-Modified-Since"]),
)
def test_other_values_are_read_exactly_as_the_parser_would(texts: list[str], names: list[str]) -> None:
    values = [f"x{text[:250]}%" for text in texts]
    known = learn(page(f"{names[0]}: 1", "DNT: %s", f"{names[1]}: 2", f"{names[2]}: 3", "Accept: */*"))
    assert known is not None
    data = page(
        *(f"{names[0]}: {values[0]}", "DNT: %s", f"{names[1]}: {values[1]}"), f"{names[2]}: {values[2]}", "Accept: */*"
    )
    split = split_head(data)
    assert split is not None
    changed, read = known.with_values(split[2]), parse(data)
    expected = FILTER.sort(read)
    assert changed.raw_headers == read
    assert (changed.headers.forwarded, changed.headers.by_name) == (expected.forwarded, expected.by_name)
    assert changed.headers.size == expected.size
    assert known.values == (b"1", b"2", b"3")


@pytest.mark.parametrize(
    "lines",
    [
        ("Referer: a", "Referer: b"),
        ("Referer: a", "Referer: " + "b" * 300),
        ("referer: b", "Referer: a"),
        ("Referer: a", "REFERER: a"),
        ("If-None-Match: a", "Connection: If-None-Match"),
    ],
)
def test_block_whose_changing_header_is_repeated_or_removed_is_not_remembered(lines: tuple[str, ...]) -> None:
    assert learn(page(*lines)) is None


def test_block_is_not_remembered_where_the_parser_found_another_value() -> None:
    headers = RequestHeaders(b"Referer: a\r\n")
    assert find_changing((b"\n", b"Referer", b"\r\n\r\n"), (b"a",), ((b"Referer", b"a b"),), headers) is None
    assert find_changing((b"\n", b"Referer", b"\r\n\r\n"), (b"a",), ((b"Referer", b"a"),), headers) is not None


def test_block_is_not_remembered_where_sign_on_sets_its_changing_header() -> None:
    """Else a client could put its own value in place of the gateway's."""
    header_filter = RequestHeaderFilter(frozenset({b"referer"}), frozenset())
    assert learn(page("Referer: alice"), header_filter) is None


def test_block_without_changing_values_is_remembered_as_it_is() -> None:
    known = learn(page("Referer: " + "a" * 300))
    assert known is not None
    assert known.changing is NOTHING_CHANGES


def test_table_returns_the_values_of_the_request_and_keeps_its_readings() -> None:
    heads, first, second = KnownHeads(), page("Referer: 1"), page("Referer: 2")
    known, split = learn(first), split_head(second)
    assert known is not None
    assert split is not None
    known.remember_reading("/page", "reading")
    heads.add((split[1], "192.0.2.7", False), known)
    found = heads.find((split[1], "192.0.2.7", False), split[2])
    assert found is not None
    assert found.headers.get(b"referer") == "2"
    assert found.readings == {"/page": "reading"}
    assert known.headers.get(b"referer") == "1"
    assert heads.find((split[1], "192.0.2.7", False), split[2]) is found


def test_longest_values_count_towards_the_bound_in_bytes() -> None:
    heads = KnownHeads(most_bytes=1000)
    for number in range(4):
        heads.add(((b"%d" % number, b"Referer", b""), "192.0.2.7", False), head())
    assert len(heads) == 3
