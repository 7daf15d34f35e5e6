"""Browsers on public routes, each identified by a sealed cookie."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from calgate.authentication import anonymous
from calgate.authentication.anonymous import AnonymousBrowsers
from calgate.authentication.notes import Notes
from calgate.authentication.settings import SessionSection
from calgate.http.headers import Cookies, RequestHeaders
from calgate.http.request import Request


class Store:
    """Keeps the key of the notes."""

    prefix = "calgate"

    def __init__(self) -> None:
        self.key: Any = None

    async def execute(self, command: str, name: str, value: bytes = b"", *_: str) -> Any:
        assert name == "calgate:note-key"
        self.key = self.key or value
        return self.key


class Site:
    def __init__(self, **section: Any) -> None:
        self.now = 1_000_000.0
        self.store = Store()
        self.section = SessionSection.model_validate(section)
        self.browsers = self.gateway()

    def gateway(self) -> AnonymousBrowsers:
        """Another gateway process on the same store."""
        return AnonymousBrowsers(Notes(cast(Any, self.store)), self.section, clock=lambda: self.now)

    async def cookie(self, address: str = "192.0.2.1") -> bytes:
        """Returns the value of a new cookie."""
        _, value = await self.browsers.new_cookie(request(address=address))
        return value.partition(b";")[0].partition(b"=")[2]


def request(cookie: bytes = b"", *, address: str = "192.0.2.1", scheme: str = "http") -> Request:
    cookies = Cookies({b"__Host-calgate-anonymous" if scheme == "https" else b"calgate-anonymous": cookie}, (), b"")
    target = SimpleNamespace(path="/")
    values: Any = (None, None, "GET", "/", target, RequestHeaders(cookies=cookies), "bi", scheme, address, False)
    return Request(*values)


async def test_browser_is_known_by_its_cookie_on_every_gateway_and_keeps_its_first_address() -> None:
    site = Site()
    cookie = await site.cookie()
    here = await site.browsers.find(request(cookie, address="198.51.100.7"))
    there = await site.gateway().find(request(cookie))
    assert here is not None
    assert there is not None
    assert here.person_key == there.person_key
    assert here.person_key.startswith("anonymous:")
    assert (here.address, here.is_anonymous, here.name[:10]) == ("192.0.2.1", True, "anonymous-")
    assert await site.browsers.find(request(cookie)) is here
    other = await site.browsers.find(request(await site.cookie()))
    assert other is not None
    assert other.person_key != here.person_key


async def test_cookie_that_is_not_ours_is_nobodys() -> None:
    site = Site()
    cookie = await site.cookie()
    note = await Notes(cast(Any, site.store)).seal("password", b"1000000 abcdef 192.0.2.1")
    assert await site.browsers.find(request(cookie[:9] + b"@" + cookie[9:])) is None, "a cookie has one spelling"
    for wrong in (b"", b"x", b"anonymous:1", cookie[:-2], cookie[:-6] + b"AAAA==", note, b"A" * 4000, b"\xff\xfe"):
        assert await site.browsers.find(request(wrong)) is None, wrong
    assert await Site().browsers.find(request(cookie)) is None, "another site's key"
    assert site.browsers.sessions == []


async def test_cookie_ends_with_its_lifetime(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(lifetime="1h")
    cookie = await site.cookie()
    assert await site.browsers.find(request(cookie)) is not None
    site.now += 3600
    assert await site.browsers.find(request(cookie)) is None, "the copy of this process"
    assert await site.gateway().find(request(cookie)) is None, "what another process reads"
    assert site.browsers.sessions == []


async def test_cookie_is_hidden_from_scripts_and_sent_as_the_site_needs_it() -> None:
    site = Site()
    _, plain = await site.browsers.new_cookie(request())
    assert plain.startswith(b"calgate-anonymous=")
    assert plain.endswith(b"; Path=/; HttpOnly; SameSite=Lax")
    _, tls = await site.browsers.new_cookie(request(scheme="https"))
    assert tls.startswith(b"__Host-calgate-anonymous=")
    assert tls.endswith(b"; Path=/; HttpOnly; SameSite=Lax; Secure")
    framed = Site(same_site="None", embed_in=["https://portal.example"])
    assert b"SameSite=None" in (await framed.browsers.new_cookie(request()))[1]
    strict = Site(same_site="Strict")
    assert b"SameSite=Lax" in (await strict.browsers.new_cookie(request()))[1], "links from other sites must work"


async def test_cookie_of_plain_http_is_not_taken_over_https() -> None:
    site = Site()
    cookie = await site.cookie()
    named = Cookies({b"calgate-anonymous": cookie}, (), b"")
    over_tls = request(scheme="https")
    over_tls.headers = RequestHeaders(cookies=named)
    assert await site.browsers.find(over_tls) is None


async def test_browsers_that_a_process_knows_are_bounded_and_one_with_an_open_exchange_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(anonymous, "_MOST_KNOWN", 3)
    site = Site()
    cookies = [await site.cookie() for _ in range(5)]
    first = await site.browsers.find(request(cookies[0]))
    assert first is not None
    first.open(cast(Any, object()))
    for cookie in cookies[1:]:
        await site.browsers.find(request(cookie))
    assert len(site.browsers.sessions) == 3
    assert first in site.browsers.sessions


async def test_browser_that_leaves_is_forgotten_and_its_cookie_deleted() -> None:
    site = Site()
    assert await site.browsers.leave(request()) == (None, ())
    cookie = await site.cookie()
    known = await site.browsers.find(request(cookie))
    left, [(name, value)] = await site.browsers.leave(request(cookie))
    assert left is known
    assert (name, b"Max-Age=0" in value) == (b"Set-Cookie", True)
    assert site.browsers.sessions == []
