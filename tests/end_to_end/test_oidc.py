"""Signing in at an OpenID provider, through the whole gateway: by raw requests, and in Chromium."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from support.aborted import sent, until_read
from support.gateway_process import PASSWORD, DocumentServer, Gateway, Reply, curl, gateway, write_settings
from support.oidc_provider import CLIENT, SECRET, TestProvider, provider
from support.redis_servers import Server
from support.screenshots import ARGS, CHROMIUM

PAGE = ("-H", "Accept: text/html")
WAY = "/_calgate/sign-in/oidc"


@pytest_asyncio.fixture
async def idp() -> AsyncIterator[TestProvider]:
    """Starts a provider."""
    async with provider() as running:
        yield running


def settings_for(
    folder: Path,
    server: DocumentServer,
    idp: TestProvider,
    *,
    more: str = "",
    session: str = "",
    store: str = "",
    listen: str = "",
) -> Path:
    section = f"""
[oidc]
issuer = "{idp.issuer}"
client = {{ id = "{CLIENT}", secret = "{SECRET}" }}
person = {{ account = "account", domain = "DEMO" }}
{more}
"""
    file = write_settings(folder, server.port, session=session, store=store, listen=listen, more=section)
    text = file.read_text().replace('ntlm = "users"', 'ntlm = "users"\noffer_to = ["192.0.2.0/24"]')
    file.write_text(text)
    return file


@pytest_asyncio.fixture
async def site(server: DocumentServer, idp: TestProvider, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Starts a gateway that signs in at the provider; NTLM is offered to nobody."""
    async with gateway(settings_for(tmp_path, server, idp)) as running:
        yield running


def cookie_in(reply: Reply, name: str = "calgate") -> str:
    """The value of a cookie that a response sets, "" if none."""
    found = re.search(rf"(?im)^set-cookie: {name}=([^;\r\n]*)", reply.headers)
    return f"{name}={found[1]}" if found and found[1] else ""


async def there_and_back(site: Gateway, query: str = "", *, step: str = "") -> tuple[str, str]:
    """Goes to the provider; returns the URL that it leads back to, and the note."""
    begun = await curl(f"{site.url}{WAY}{step}{query}", *PAGE)
    assert begun.status == 303
    answered = await curl(begun.values("location")[0])
    return answered.values("location")[0], cookie_in(begun, "calgate-note")


async def sign_in(site: Gateway, query: str = "") -> Reply:
    back, note = await there_and_back(site, query)
    return await curl(back, *PAGE, "-H", f"Cookie: {note}")


async def notify(site: Gateway, token: str, *options: str) -> Reply:
    return await curl(f"{site.url}{WAY}/logout", *options, "--data", urlencode({"logout_token": token}))


async def get(site: Gateway, cookie: str, path: str = "/docs/sales") -> Reply:
    return await curl(f"{site.url}{path}", *PAGE, "-H", f"Cookie: {cookie}")


async def test_user_signs_in_and_out_at_the_provider(site: Gateway, idp: TestProvider, server: DocumentServer) -> None:
    page = await curl(f"{site.url}/docs/sales?x=1", *PAGE)
    assert (page.status, page.values("www-authenticate")) == (401, ["Calgate-Form"])
    assert b'href="/_calgate/sign-in/oidc?to=/docs/sales%3Fx%3D1"' in page.body
    signed_in = await sign_in(site, "?to=/docs/sales%3Fx%3D1")
    assert (signed_in.status, signed_in.values("location")) == (303, ["/docs/sales?x=1"])
    assert "calgate-note=; " in signed_in.headers, "the note is of no use any more"
    cookie = cookie_in(signed_in)
    assert (await get(site, cookie)).status == 200
    assert server.seen[-1].values("qvuser") == ["DEMO\\alice"]
    assert site.decisions("signed in")[-1]["mechanism"] == "oidc"

    other = cookie_in(await sign_in(site))
    assert (await notify(site, idp.logout_token(sid="sid-of-bob"))).status == 200
    assert (await get(site, cookie)).status == 200, "another user's session ended at the provider"
    token = idp.logout_token()
    told = await notify(site, token)
    assert (told.status, told.values("cache-control"), told.values("set-cookie")) == (200, ["no-store"], [])
    assert [(await get(site, one)).status for one in (cookie, other)] == [401, 401]
    assert (await notify(site, token)).status == 400, "the same notice again"
    assert [line["user"] for line in site.decisions("signed out at the provider")] == ["DEMO\\alice"] * 2

    cookie = cookie_in(await sign_in(site))
    out = await curl(f"{site.url}/_calgate/sign-out", "-X", "POST", "-H", f"Cookie: {cookie}", *PAGE)
    assert (out.status, out.values("location")) == (303, ["/_calgate/signed-out?at=oidc"])
    page = await curl(f"{site.url}/_calgate/signed-out?at=oidc", *PAGE)
    assert page.values("refresh") == ["0; url=/_calgate/sign-in/oidc/sign-out"]
    leaving = await curl(f"{site.url}{WAY}/sign-out")
    assert leaving.values("location")[0].startswith(f"{idp.issuer}/end?")
    page = await curl(f"{site.url}/_calgate/signed-out?at=evil", *PAGE)
    assert (page.status, page.values("refresh")) == (200, [])


async def test_notice_is_carried_out_though_the_provider_hangs_up(
    server: DocumentServer, idp: TestProvider, tmp_path: Path
) -> None:
    """The same notice again is refused, so half of it would leave a session that nobody can end."""
    store = Server(tmp_path / "redis").start()
    file = settings_for(tmp_path, server, idp, store=f'url = "{store.url}"', listen="workers = 1")
    try:
        async with gateway(file) as site:
            cookie = cookie_in(await sign_in(site))
            form = urlencode({"logout_token": idp.logout_token()})
            lines = [f"POST {WAY}/logout HTTP/1.1", "Host: gate", f"Content-Length: {len(form)}"]
            lines += ["Content-Type: application/x-www-form-urlencoded", "", form]
            store.send(signal.SIGSTOP)
            with sent(site, "\r\n".join(lines).encode()) as connection:
                await until_read(site, connection.getsockname())
            assert (await curl(f"{site.url}/_calgate/health")).status == 200  # the worker has seen the reset
            store.send(signal.SIGCONT)
            async with asyncio.timeout(60):
                while (await get(site, cookie)).status != 401:
                    pass
    finally:
        store.stop()


async def test_answers_that_are_not_this_browsers_sign_nobody_in(site: Gateway, idp: TestProvider) -> None:
    back, note = await there_and_back(site)
    _, foreign = await there_and_back(site)
    for cookie in ("", foreign, "calgate-note=forged"):
        reply = await curl(back, *PAGE, "-H", f"Cookie: {cookie}")
        assert (reply.status, cookie_in(reply)) == (403, ""), cookie
    assert cookie_in(await curl(back, *PAGE, "-H", f"Cookie: {note}"))
    again = await curl(back, *PAGE, "-H", f"Cookie: {note}")
    assert (again.status, cookie_in(again)) == (403, "")

    idp.answer_to_browser = {"error": "access_denied", "error_description": "<b>no</b>"}
    denied = await sign_in(site)
    assert (denied.status, cookie_in(denied), b"<b>no" in denied.body) == (403, "", False)
    assert b"/_calgate/sign-in/oidc" in denied.body, "the page leads to another attempt"
    idp.answer_to_browser = None
    for to in ("//evil.example/", "https://evil.example/", "/\\evil.example", "/_calgate/sign-out", "javascript:1"):
        assert (await sign_in(site, f"?{urlencode({'to': to})}")).values("location") == ["/"], to
    idp.user = "nobody"
    unknown = await sign_in(site)
    assert (unknown.status, cookie_in(unknown)) == (403, "")
    assert site.decisions("sign-in refused")[-1]["code"] == "account-unknown"


async def test_notice_is_a_post_of_a_form_with_a_token_and_nothing_else(site: Gateway, idp: TestProvider) -> None:
    assert (await notify(site, "")).status == 400
    assert (await notify(site, "x" * 9000)).status == 413
    assert (await notify(site, idp.logout_token(), "-H", "Content-Type: text/plain")).status == 403
    assert (await curl(f"{site.url}{WAY}/logout")).status == 405
    other_steps = await curl(f"{site.url}{WAY}/back", "--data", "code=x")
    assert other_steps.status == 403, "a POST without Sec-Fetch-Site and Origin"


async def test_browser_goes_to_the_provider_at_once_where_that_is_set(
    server: DocumentServer, idp: TestProvider, tmp_path: Path
) -> None:
    one = "workers = 1"  # the last sign-in relies on what the worker has read of the provider
    own = {"more": 'start = "at once"', "session": 'same_site = "Strict"'}
    async with gateway(settings_for(tmp_path, server, idp, **own, listen=one)) as site:
        page = await curl(f"{site.url}/docs/sales?x=1&y=%2F", *PAGE)
        assert page.status == 303
        assert page.values("location") == ["/_calgate/sign-in/oidc?to=/docs/sales%3Fx%3D1%26y%3D%252F"]
        signed_in = await sign_in(site, page.values("location")[0].removeprefix(WAY))
        assert signed_in.values("refresh") == ["0; url=/docs/sales?x=1&y=%2F"], "a strict cookie survives no redirect"
        for options in (("-H", "Accept: application/json"), (*PAGE, "-H", "Sec-Fetch-Dest: iframe"), (*PAGE, "-d", "")):
            assert (await curl(f"{site.url}/docs/sales", *options)).status == 401, options
        idp.metadata = {"issuer": "https://evil.example"}
        await sign_in(site)


async def test_provider_that_does_not_respond_is_a_page_that_says_so(
    server: DocumentServer, idp: TestProvider, tmp_path: Path
) -> None:
    idp.metadata = {"issuer": "https://evil.example"}
    async with gateway(settings_for(tmp_path, server, idp)) as site:
        page = await curl(f"{site.url}{WAY}", *PAGE)
        assert (page.status, b"The sign-in provider is not responding" in page.body) == (503, True)
        assert site.decisions("refused")[-1]["code"] == "provider-unavailable"
        ntlm = await curl(f"{site.url}/docs/sales", "--ntlm", "-u", f"DEMO\\alice:{PASSWORD}")
        assert ntlm.status == 200, "sign-in by NTLM needs no provider"


@pytest.mark.browser
@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium")
async def test_chromium_signs_in_out_and_in_as_somebody_else(
    server: DocumentServer, idp: TestProvider, tmp_path: Path
) -> None:
    more = 'start = "at once"'
    settings = settings_for(tmp_path, server, idp, more=more, session='same_site = "Strict"')
    async with gateway(settings) as site, async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        page = await browser.new_page()
        other_site = site.url.replace("127.0.0.1", "localhost")  # the provider is another site, as in real life
        await page.goto(f"{other_site}/docs/sales")
        await expect(page).to_have_url(f"{other_site}/docs/sales")
        assert server.seen[-1].values("qvuser") == ["DEMO\\alice"]
        await page.goto(f"{other_site}/_calgate/sign-out")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page).to_have_url(f"{other_site}/_calgate/signed-out")
        assert idp.requests[-1] == "/end"
        idp.user = "bob"
        await page.get_by_role("link", name="Sign in as somebody else").click()
        await page.get_by_role("link", name="Sign in with your company account").click()
        await expect(page).to_have_url(f"{other_site}/")
        assert idp.last_query["max_age"] == "0"
        await page.goto(f"{other_site}/docs/sales")
        assert server.seen[-1].values("qvuser") == ["DEMO\\bob"]
        await browser.close()
