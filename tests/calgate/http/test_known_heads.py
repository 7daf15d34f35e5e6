"""The table of header blocks that were read before: what may be in it, and what it forgets."""

import asyncio
from itertools import product
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
    RequestSplitter,
    find_changing,
)

BLOCK = b"Host: g\r\nCookie: calgate=x\r\n\r\n"


def head(session: str = "s") -> KnownHead:
    return KnownHead((), RequestHeaders(), "g", "http", "192.0.2.7", False, session)


def key(block: bytes = BLOCK, peer: str = "192.0.2.7", *, is_secure: bool = False) -> Key:
    return "GET", (block,), peer, is_secure


@pytest.mark.parametrize("target", ["/", "/a/b.htm?c=d&e=%20", "/a%20b:c"])
def test_plain_get_is_split_after_its_line(target: str) -> None:
    data = f"GET {target} HTTP/1.1\r\n".encode() + BLOCK
    assert RequestSplitter().split(data) == ("GET", target, (b"\n" + BLOCK,), (), b"")


@pytest.mark.parametrize(
    "data",
    [
        b"PUT / HTTP/1.1\r\n" + BLOCK,
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
    assert RequestSplitter().split(data) is None


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


def parse(data: bytes, body: bytes = b"") -> tuple[Header, ...]:
    """Returns the headers that aiohttp's parser finds in one whole request with this body."""
    loop = asyncio.new_event_loop()
    try:
        ((message, content),), is_upgraded, tail = HttpRequestParser(Mock(), loop, 2**16).feed_data(data)
    finally:
        loop.close()
    assert not is_upgraded
    assert not tail
    assert content.is_eof()
    assert (content.read_nowait() if body else b"") == body
    return message.raw_headers


def learn(data: bytes, header_filter: RequestHeaderFilter = FILTER) -> KnownHead | None:
    """Returns what is remembered of a request; None where it must not be."""
    split = RequestSplitter().split(data)
    assert split is not None
    _, _, block, values, body = split
    raw_headers = parse(data, body)
    headers = header_filter.sort(raw_headers)
    changing = find_changing(block, values, raw_headers, headers)
    if changing is None:
        return None
    return KnownHead(raw_headers, headers, "g", "http", "192.0.2.7", False, "s", values, changing)


def page(*lines: str) -> bytes:
    return (PAGE + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode("latin-1")


def test_page_a_request_came_from_is_no_part_of_its_block() -> None:
    one, other = (RequestSplitter().split(page(f"Referer: http://g/{name}", "DNT: 1")) for name in ("one", "other"))
    assert one is not None
    assert other is not None
    assert one[:3] == other[:3]
    assert (one[3], other[3]) == ((b"http://g/one",), (b"http://g/other",))


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
        "Transfer-Encoding: a",
        "X-Forwarded-For: 192.0.2.1",
    ],
)
def test_value_that_servers_may_read_in_two_ways_or_that_decides_something_is_part_of_the_block(line: str) -> None:
    split = RequestSplitter().split(page(line))
    assert split is not None
    assert split[3] == ()


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
    split = RequestSplitter().split(data)
    assert split is not None
    changed, read = known.with_values(split[3]), parse(data)
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
    known, split = learn(first), RequestSplitter().split(second)
    assert known is not None
    assert split is not None
    known.remember_reading("/page", "reading")
    heads.add(("GET", split[2], "192.0.2.7", False), known)
    found = heads.find(("GET", split[2], "192.0.2.7", False), split[3])
    assert found is not None
    assert found.headers.get(b"referer") == "2"
    assert found.readings == {"/page": "reading"}
    assert known.headers.get(b"referer") == "1"
    assert heads.find(("GET", split[2], "192.0.2.7", False), split[3]) is found


def test_longest_values_count_towards_the_bound_in_bytes() -> None:
    heads = KnownHeads(most_bytes=1000)
    for number in range(4):
        heads.add(("GET", (b"%d" % number, b"Referer", b""), "192.0.2.7", False), head())
    assert len(heads) == 3


# ---------------------------------------------------------------- bodies

POST = b"POST /page HTTP/1.1\r\nHost: g\r\nContent-Length: %b\r\nAccept: */*\r\n\r\n%b"


def test_body_is_split_from_its_head_and_its_length_is_no_part_of_the_block() -> None:
    one, other = (
        RequestSplitter().split(POST % (b"5", b"hello")),
        RequestSplitter().split(POST % (b"10", b"0123\r\n\r\n89")),
    )
    assert one is not None
    assert other is not None
    assert one[:3] == other[:3]
    assert (one[3:], other[3:]) == (((b"5",), b"hello"), ((b"10",), b"0123\r\n\r\n89"))


@pytest.mark.parametrize(
    "data",
    [
        POST % (b"6", b"hello"),
        POST % (b"4", b"hello"),
        POST % (b"05", b"hello"),
        POST % (b"+5", b"hello"),
        POST % (b"5 ", b"hello"),
        POST % (b"5, 5", b"hello"),
        POST % (b"0x5", b"hello"),
        POST % (b"5\r\nContent-Length: 5", b"hello"),
        POST % (b"0", b"GET /other HTTP/1.1\r\nHost: g\r\n\r\n"),
        (POST % (b"5", b"hello")).replace(b"Content-Length", b"content-length"),
        (POST % (b"5", b"hello")).replace(b"Content-Length: ", b"Content-Length:"),
        (POST % (b"5", b"hello")).replace(b"Content-Length: 5\r\n", b""),
        (POST % (b"5", b"")).replace(b"POST", b"GET"),
        POST % (b"65537", b"a" * 65_537),
    ],
)
def test_body_whose_length_is_not_beyond_doubt_is_left_to_the_parser(data: bytes) -> None:
    assert RequestSplitter().split(data) is None


@pytest.mark.parametrize("more", [b"content-length: 5", b"CONTENT-LENGTH: 0"])
def test_block_with_a_second_length_is_not_remembered(more: bytes) -> None:
    split = RequestSplitter().split(POST % (b"5\r\n" + more, b"hello"))
    assert split is not None
    name, value = more.split(b": ")
    raw_headers = ((b"Host", b"g"), (b"Content-Length", b"5"), (name, value), (b"Accept", b"*/*"))
    headers = RequestHeaders(b"Accept: */*\r\n")
    assert find_changing(split[2], split[3], raw_headers, headers) is None


@given(st.binary(max_size=300), st.permutations(["Referer: http://g/%b", "Content-Length: %b", "Accept: */*"]))
def test_body_of_any_length_is_read_exactly_as_the_parser_would(body: bytes, lines: list[str]) -> None:
    def request(referer: str, content: bytes) -> bytes:
        head = "".join(f"{line}\r\n" for line in lines)
        head = head.replace("http://g/%b", referer).replace("Length: %b", f"Length: {len(content)}")
        return b"POST /page HTTP/1.1\r\nHost: g\r\n" + head.encode() + b"\r\n" + content

    known = learn(request("http://g/one", b"x"))
    assert known is not None
    data = request("http://g/another", body)
    split = RequestSplitter().split(data)
    assert split is not None
    assert split[4] == body
    changed, read = known.with_values(split[3]), parse(data, body)
    expected = FILTER.sort(read)
    assert changed.raw_headers == read
    assert (changed.headers.forwarded, changed.headers.by_name) == (expected.forwarded, expected.by_name)


def test_repeated_block_is_split_alike_whatever_came_in_between() -> None:
    """An empty block, and one that the head of a request with a body has too, are among them."""
    requests = [
        page("Referer: a"),
        page("Referer: a").replace(b"/page", b"/other"),
        page("Referer: b"),
        page("Content-Length: 0"),
        page("Content-Length: 0").replace(b"GET", b"POST"),
        POST % (b"0", b""),
        POST % (b"5", b"hello"),
        POST % (b"5", b"world"),
        POST % (b"5", b""),
        POST % (b"5", b"hell"),
        POST % (b"5", b"hello!"),
        POST % (b"5", b"hello") + page(),
        (POST % (b"5", b"hello")).replace(b"/page", b"/other"),
        page("Content-Length: 5"),
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ]
    for before, between, data in product(requests, repeat=3):
        splitter = RequestSplitter()
        splitter.split(before)
        splitter.split(between)
        assert splitter.split(data) == RequestSplitter().split(data)
