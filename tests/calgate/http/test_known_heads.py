"""The table of header blocks that were read before: what may be in it, and what it forgets."""

import pytest

from calgate.http.headers import RequestHeaders
from calgate.http.known_heads import LONGEST, Key, KnownHead, KnownHeads, split_line

BLOCK = b"Host: g\r\nCookie: calgate=x\r\n\r\n"


def head(session: str = "s") -> KnownHead:
    return KnownHead((), RequestHeaders(), "g", "http", "192.0.2.7", False, session)


def key(block: bytes = BLOCK, peer: str = "192.0.2.7", *, is_secure: bool = False) -> Key:
    return block, peer, is_secure


@pytest.mark.parametrize("target", ["/", "/a/b.htm?c=d&e=%20", "/a%20b:c"])
def test_plain_get_is_split_after_its_line(target: str) -> None:
    assert split_line(f"GET {target} HTTP/1.1\r\n".encode() + BLOCK) == (target, BLOCK)


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
    assert split_line(data) is None


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
