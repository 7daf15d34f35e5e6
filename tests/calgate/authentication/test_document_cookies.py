"""The document server's cookies of one session: remembered, bounded, forwarded and deleted."""

import pytest

from calgate.authentication import document_cookies
from calgate.authentication.document_cookies import MOST, DocumentCookies, cookie_fields
from calgate.http.cookies import SetCookie, digest_of
from calgate.http.headers import Cookies


def set_cookie(value: str) -> SetCookie:
    return SetCookie.parse(value.encode(), "/portal")


def received(line: bytes) -> Cookies:
    return Cookies({}, (), line)


def test_only_a_new_name_makes_the_response_wait() -> None:
    cookies = DocumentCookies()
    assert cookies.note([set_cookie("a=1"), set_cookie("b=1")])
    assert not cookies.note([set_cookie("a=2")])
    assert cookies.note([set_cookie("a=2; Path=/elsewhere")])


def test_changed_value_is_saved_in_place_of_the_one_before() -> None:
    cookies = DocumentCookies()
    cookies.note([set_cookie("a=1")])
    cookies.take_unsaved()
    cookies.note([set_cookie("a=2")])
    fields, claimed, given_up = cookies.take_unsaved()
    assert (list(fields.values()), claimed, given_up) == ([digest_of(b"a=2")], [digest_of(b"a=2")], [digest_of(b"a=1")])
    assert not cookies.has_unsaved


def test_deleted_cookie_is_forgotten() -> None:
    cookies = DocumentCookies()
    cookies.note([set_cookie("a=1")])
    cookies.note([set_cookie("a=; Max-Age=0")])
    assert dict(cookies.known) == {}
    assert list(cookies.take_unsaved()[0].values()) == [""]


def test_partitioned_cookie_is_another_than_one_of_the_same_name() -> None:
    cookies = DocumentCookies()
    cookies.note([set_cookie("a=1; Secure; Partitioned"), set_cookie("a=2; Secure")])
    deletions = {cookie.expiry()[1] for cookie in cookies.known}
    assert deletions == {b"a=; Max-Age=0; Path=/; Secure; Partitioned", b"a=; Max-Age=0; Path=/; Secure"}


@pytest.mark.parametrize("ignored", ["__Host-a=2; Path=/", "__Host-a=; Path=/; Max-Age=0"])
def test_cookie_stays_remembered_where_a_browser_ignores_the_change(ignored: str) -> None:
    cookies = DocumentCookies()
    cookies.note([set_cookie("__Host-a=1; Path=/; Secure")])
    cookies.note([set_cookie(ignored)])
    assert {cookie.expiry()[1]: digest for cookie, digest in cookies.known.items()} == {
        b"__Host-a=; Max-Age=0; Path=/; Secure": digest_of(b"__Host-a=1")
    }


def test_number_of_remembered_cookies_is_bounded_and_the_oldest_goes_first() -> None:
    cookies = DocumentCookies()
    for number in range(2000):
        cookies.note([set_cookie("kept=1"), set_cookie(f"a{number}=1")])
    names = [cookie.name for cookie in cookies.known]
    assert len(names) == MOST
    assert {b"kept", b"a1999"} <= set(names)


def test_record_of_another_gateway_is_merged() -> None:
    cookies, other = DocumentCookies(), DocumentCookies()
    other.note([set_cookie("a=1"), set_cookie("b=1")])
    cookies.note([set_cookie("a=2")])
    cookies.merge(cookie_fields(other.known))
    assert {cookie.name: digest for cookie, digest in cookies.known.items()} == {
        b"a": digest_of(b"a=2"),
        b"b": digest_of(b"b=1"),
    }


def test_pair_of_another_user_is_not_forwarded_and_a_pair_of_nobody_is() -> None:
    cookies = DocumentCookies()
    cookies.note([set_cookie("own=1")])
    line = received(b"own=1; theirs=2; script=3")
    assert cookies.forwarded(line) is None, "the store must be asked"
    cookies.judge(cookies.unjudged(line), [digest_of(b"theirs=2")])
    assert cookies.forwarded(line) == b"own=1; script=3"
    assert cookies.forwarded(received(b"theirs=2")) == b""


def test_pair_that_the_document_server_sets_again_for_this_user_is_forwarded() -> None:
    cookies = DocumentCookies()
    line = received(b"lang=en")
    cookies.judge(cookies.unjudged(line), [digest_of(b"lang=en")])
    assert cookies.forwarded(line) == b""
    cookies.note([set_cookie("lang=en")])
    assert cookies.forwarded(line) == b"lang=en"


def test_what_a_session_remembers_of_received_cookies_is_bounded() -> None:
    cookies = DocumentCookies()
    for number in range(1000):
        line = f"script{number}=1".encode()
        digests = cookies.unjudged(received(line))
        cookies.judge(digests, [])
        assert cookies.forwarded(received(line)) == line
    assert len(cookies._judged) <= document_cookies._MOST_JUDGED
    assert len(cookies._lines) <= document_cookies._MOST_LINES
    long = b"; ".join(b"c%d=%060d" % (number, number) for number in range(200))
    cookies.judge(cookies.unjudged(received(long)), [])
    assert cookies.forwarded(received(long)) == long
    assert long not in cookies._lines
