"""Cookies of a document server: what a browser takes them for, and how they are deleted."""

import pytest

from calgate.http.cookies import (
    EXPIRY_ROOM,
    SetCookie,
    UpstreamCookie,
    cookies_named,
    expire_cookies,
    may_pass_down,
    without_domain,
)

TARGET = "/docs/sales/open.htm?document=a/b"


@pytest.mark.parametrize(
    ("value", "deletion"),
    [
        (b"a=1", b"a=; Max-Age=0; Path=/docs/sales"),
        (b"a=1; Path=sub", b"a=; Max-Age=0; Path=/docs/sales"),
        (b"a=1; Path=", b"a=; Max-Age=0; Path=/docs/sales"),
        (b"a=1; Path=/; path=/x", b"a=; Max-Age=0; Path=/x"),
        (b"a=1; Path=/x; Path", b"a=; Max-Age=0; Path=/docs/sales"),
        (b" a = 1 ;PATH = /y ; HttpOnly", b"a=; Max-Age=0; Path=/y"),
        (b"a=1; path=/; Domain=.corp.example", b"a=; Max-Age=0; Path=/; Domain=corp.example"),
        (b"__Host-a=1; Path=/; Secure", b"__Host-a=; Max-Age=0; Path=/; Secure"),
        (b"__Host-a=1; Path=/", b"__Host-a=; Max-Age=0; Path=/; Secure"),
        (b'a=1; Path="/x"', b"a=; Max-Age=0; Path=/docs/sales"),
        (b"a=1; PATH=/; DOMAIN=.Corp.Example; SECURE", b"a=; Max-Age=0; Path=/; Domain=corp.example; Secure"),
        (b"__Secure-a=1; secure; path=/", b"__Secure-a=; Max-Age=0; Path=/; Secure"),
        (b"a=1; Path=/; Secure; SameSite=None; Partitioned", b"a=; Max-Age=0; Path=/; Secure; Partitioned"),
        (b"=1; Path=/", b"=deleted; Max-Age=0; Path=/"),
        (b"token; Path=/", b"=deleted; Max-Age=0; Path=/"),
    ],
)
def test_deletion_mirrors_the_setting(value: bytes, deletion: bytes) -> None:
    assert SetCookie.parse(value, TARGET).cookie.expiry() == (b"Set-Cookie", deletion)


@pytest.mark.parametrize(
    ("target", "path"),
    [("/", b"/"), ("/portal", b"/"), ("/a/b", b"/a"), ("/a/b/", b"/a/b"), ("/a%2Fb/c?x=/y/", b"/a%2Fb"), ("*", b"/")],
)
def test_cookie_without_a_path_belongs_to_the_folder_of_the_request(target: str, path: bytes) -> None:
    assert SetCookie.parse(b"a=1", target).cookie.path == path


@pytest.mark.parametrize(
    ("attributes", "is_deletion"),
    [
        (b"", False),
        (b"; Max-Age=0", True),
        (b"; Max-Age=-1", True),
        (b"; Max-Age=0001", False),
        (b"; Expires=Thu, 01 Jan 1970 00:00:00 GMT", True),
        (b"; expires=Thu, 01-Jan-1970 00:00:00 GMT", True),
        (b"; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60", False),
        (b"; Expires=Fri, 31 Dec 2199 23:59:59 GMT", False),
        (b"; Expires=soon", False),
        (b"; Expires=Thu, 01 Jan 1970", False),
        (b"; Expires=0", False),
        (b"; Expires=Thu Jan 01 1970 00:00:00 GMT+0100 (CET)", True),
        (b"; Max-Age=-; Expires=Thu, 01-Jan-70 00:00:00 GMT", True),
    ],
)
def test_document_servers_own_deletion_is_recognized(attributes: bytes, is_deletion: bool) -> None:
    assert SetCookie.parse(b"a=1" + attributes, "/").is_deletion is is_deletion


def test_digest_is_that_of_the_pair_that_the_browser_sends_back() -> None:
    digests = {SetCookie.parse(value, "/").digest for value in (b"a=1", b" a = 1 ; Path=/x")}
    assert len(digests) == 1
    assert SetCookie.parse(b"=1", "/").digest == SetCookie.parse(b"1", "/").digest


def test_cookie_survives_the_store() -> None:
    cookie = SetCookie.parse(b"a=1; Path=/x; Domain=corp.example; Secure; Partitioned", "/").cookie
    read = UpstreamCookie.from_text(cookie.to_text())
    assert (read, read.secure, read.partitioned) == (cookie, True, True)


def test_deletions_fit_the_header_buffer_of_a_proxy_in_front() -> None:
    cookies = [UpstreamCookie(b"cookie-%d" % number, b"/docs") for number in range(2000)]
    rounds = 0
    while cookies:
        headers, left = expire_cookies(cookies)
        assert headers
        assert sum(len(name) + len(value) + 4 for name, value in headers) <= EXPIRY_ROOM
        cookies, rounds = list(left), rounds + 1
    assert rounds > 1


def test_cookie_of_which_only_the_name_is_known_is_deleted_by_the_rules_of_its_prefix() -> None:
    known = UpstreamCookie(b"a", b"/x")
    cookies = cookies_named([b"__Host-b", b"a"], [known])
    assert [cookie.expiry()[1] for cookie in cookies] == [
        b"a=; Max-Age=0; Path=/x",
        b"__Host-b=; Max-Age=0; Path=/; Secure",
        b"a=; Max-Age=0; Path=/",
    ]


@pytest.mark.parametrize(
    ("value", "passes"),
    [
        (b"a=1", True),
        (b"calgate=planted; Path=/", False),
        (b"=calgate=planted", False),
        (b"__Host-calgate=planted", False),
        (b"a" * 2000 + b"=1", False),
        (b"a=1; Path=/" + b"x" * 2000, False),
    ],
)
def test_cookie_that_could_harm_the_session_does_not_pass_down(value: bytes, passes: bool) -> None:
    assert may_pass_down((b"Set-Cookie", value)) is passes


@pytest.mark.parametrize(
    ("value", "passed_down"),
    [
        (b"a=1; Domain=qvs; Path=/", b"a=1; Path=/"),
        (b"a=1;DOMAIN = .QVS ; Path=/", b"a=1; Path=/"),
        (b"a=1; Domain=other; Domain=qvs", b"a=1; Domain=other"),
        (b"a=1; Domain=qvs; domain=qvs", b"a=1"),
        (b"a=domain=qvs; Path=/", b"a=domain=qvs; Path=/"),
    ],
)
def test_domain_that_is_the_document_servers_own_name_is_removed(value: bytes, passed_down: bytes) -> None:
    assert without_domain(value, b"qvs") == passed_down
