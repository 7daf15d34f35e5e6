"""The gateway's own paths, without a network: sign-out is carried out whole, and in responses of a bounded size."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from calgate.authentication.document_cookies import DocumentCookies
from calgate.authentication.session import Session
from calgate.endpoints.gateway_paths import GatewayPaths
from calgate.http.cookies import SetCookie
from calgate.http.headers import Cookies, RequestHeaders
from calgate.http.request import Request
from calgate.plugin.errors import CrossSite, Forbidden, MethodRefused
from calgate.plugin.identity import Identity
from calgate.plugin.licensing import Pool


class Nobody:
    """No browser without sign-in."""

    async def leave(self, request: Request) -> tuple[None, tuple[()]]:
        return None, ()


class Site:
    """A gateway with one session, whose store takes its time."""

    def __init__(self, cookies: int = 0) -> None:
        self.session = Session("key", Identity("DEMO", "alice", "ntlm"), "S-1", "DEMO\\alice", "::1", True, 0.0)
        values = (b"cookie-%03d=1; Path=/docs" % number for number in range(cookies))
        self.session.cookies = DocumentCookies({SetCookie.parse(value, "/").cookie: "" for value in values})
        self.is_ending, self.may_end, self.is_released = asyncio.Event(), asyncio.Event(), asyncio.Event()
        refusals = SimpleNamespace(signed_out=lambda request: "the signed-out page")
        self.paths = GatewayPaths(
            *cast(
                Any, ("Lax", self, self, refusals, SimpleNamespace(sign_out_path=lambda mechanism: ""), Nobody(), None)
            )
        )

    async def owner(self, session_id: str) -> Session | None:
        return self.session if session_id else None

    async def find(self, session_id: str) -> Session | None:
        return self.session if session_id else None

    async def pools(self, license: str) -> list[Pool]:
        return [Pool("named", 2, 1), Pool("session", 6, 6), Pool("usage", 0, 0)] if license == "bi" else []

    async def end(self, key: str, reason: str) -> bool:
        self.is_ending.set()
        await self.may_end.wait()
        is_first, self.session.ended = not self.session.ended, reason
        return is_first

    async def release(self, session: Session) -> None:
        self.is_released.set()


def request(
    target: str = "/_calgate/sign-out", method: str = "POST", cookie: bytes = b"id", **headers: bytes
) -> Request:
    by_name = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    connection = SimpleNamespace(take_handshake=lambda: None, address="::1")
    target_read = SimpleNamespace(path=target.partition("?")[0])
    read = RequestHeaders(cookies=Cookies({b"calgate": cookie}, (), b""), by_name=by_name)
    values: Any = (None, connection, method, target, target_read, read, "bi", "http", "::1", False)
    return Request(*values)


async def test_sign_out_releases_the_cal_though_the_client_disconnects_in_between() -> None:
    site = Site()
    signing_out = asyncio.create_task(site.paths.serve(request()))
    await site.is_ending.wait()
    signing_out.cancel()
    with pytest.raises(asyncio.CancelledError):
        await signing_out
    site.may_end.set()
    await asyncio.wait_for(site.is_released.wait(), 20)


async def test_sign_out_ends_the_visit_as_well_though_the_client_disconnects_in_between() -> None:
    site, has_left = Site(), asyncio.Event()

    class Visitors(Nobody):
        async def leave(self, request: Request) -> tuple[None, tuple[()]]:
            has_left.set()
            return None, ()

    site.paths._browsers = cast(Any, Visitors())
    signing_out = asyncio.create_task(site.paths.serve(request()))
    await site.is_ending.wait()
    signing_out.cancel()
    with pytest.raises(asyncio.CancelledError):
        await signing_out
    site.may_end.set()
    await asyncio.wait_for(has_left.wait(), 20)


async def test_sign_out_that_failed_halfway_releases_the_cal_when_it_is_repeated() -> None:
    site = Site()
    site.may_end.set()
    site.session.ended = "signed out"
    await site.paths.serve(request())
    assert site.is_released.is_set()


async def test_session_that_an_administrator_ended_keeps_its_cal_at_sign_out() -> None:
    site = Site()
    site.may_end.set()
    site.session.ended = "ended by an administrator"
    await site.paths.serve(request())
    assert not site.is_released.is_set()


async def test_sign_out_deletes_all_cookies_in_responses_that_fit_a_proxys_buffer() -> None:
    site = Site(cookies=100)
    site.may_end.set()
    asked, deleted, rounds = request(), [], 0
    while True:
        response: Any = await site.paths.serve(asked)
        if response == "the signed-out page":
            break
        size = sum(len(name) + len(value) + 4 for name, value in response.headers)
        assert (response.status, size < 4096) == (303, True)
        rounds += 1
        deleted += [value.partition(b"=")[0] for name, value in response.headers if name == b"Set-Cookie"]
        session_goes = b"calgate" in deleted
        asked = request(dict(response.headers)[b"Location"].decode(), "GET", b"" if session_goes else b"id")
    assert rounds > 1
    assert sorted(deleted) == sorted([b"calgate", *(b"cookie-%03d" % number for number in range(100))])


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({"sec_fetch_site": b"cross-site"}, CrossSite),
        ({"sec_fetch_site": b"same-site"}, CrossSite),
        ({"origin": b"http://evil.example"}, CrossSite),
        ({"origin": b"null"}, CrossSite),
    ],
)
async def test_sign_out_from_another_sites_page_is_refused(headers: dict[str, bytes], refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        await Site().paths.serve(request("/_calgate/sign-out", "POST", b"id", **headers))


async def test_sign_out_by_another_method_and_an_unknown_path_are_refused() -> None:
    with pytest.raises(MethodRefused):
        await Site().paths.serve(request(method="PUT"))
    with pytest.raises(Forbidden):
        await Site().paths.serve(request("/_calgate/else"))


@pytest.mark.parametrize(
    ("query", "free"),
    [
        ("license=bi&kinds=session,usage", False),
        ("license=bi&kinds=named", True),
        ("license=bi", False),
        ("license=other&kinds=named", False),
        ("", False),
    ],
)
async def test_open_denial_page_learns_whether_a_cal_of_its_kinds_is_free(query: str, free: bool) -> None:
    response = await Site().paths.serve(request(f"/_calgate/free?{query}", "GET"))
    assert (response.status, json.loads(response.body)) == (200, {"free": free})


async def test_nobody_learns_whether_a_cal_is_free_without_a_session() -> None:
    with pytest.raises(Forbidden):
        await Site().paths.serve(request("/_calgate/free?license=bi&kinds=named", "GET", cookie=b""))
    with pytest.raises(MethodRefused):
        await Site().paths.serve(request("/_calgate/free?license=bi&kinds=named", "POST"))
