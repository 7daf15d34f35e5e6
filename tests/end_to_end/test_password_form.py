"""Signing in on a page with name and password: raw requests, hostile ones, and Chromium."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from support.certificates import Authority
from support.gateway_process import (
    PASSWORD,
    DocumentServer,
    Gateway,
    Reply,
    curl,
    document_server,
    gateway,
    write_settings,
)
from support.screenshots import ARGS, CHROMIUM

FORM = "application/x-www-form-urlencoded"
POST_HERE = ("-H", "Sec-Fetch-Site: same-origin", "-H", f"Content-Type: {FORM}")


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[DocumentServer]:
    """Starts one recording document server for all tests here."""
    async with document_server() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(server: DocumentServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Starts a gateway with TLS, the users file and the password form; no scheme is offered to anybody here."""
    folder = tmp_path_factory.mktemp("form")
    signed = Authority(folder).sign("127.0.0.1")
    listen = f'tls = {{ certificate = "{signed.certificate}", key = "{signed.key}" }}'
    settings = write_settings(folder, server.port, listen=listen, more="[password]")
    text = settings.read_text().replace('ntlm = "users"', 'ntlm = "users"\noffer_to = ["192.0.2.0/24"]')
    settings.write_text(text)
    async with gateway(settings) as running:
        yield running


async def post(site: Gateway, *options: str, path: str = "/_calgate/sign-in/password/", **fields: str) -> Reply:
    """Sends the form as a browser does."""
    return await curl(
        f"{site.url}{path}", *("-k", "-H", "Accept: text/html"), *(options or POST_HERE), "--data", urlencode(fields)
    )


def cookie_in(reply: Reply) -> str:
    """The session cookie that a response sets, "" if none."""
    found = re.search(r"(?im)^set-cookie: (__Host-calgate=[^;]+)", reply.headers)
    return found[1] if found else ""


async def test_page_that_offers_sign_in_has_the_form_and_no_challenge_that_opens_a_dialog(site: Gateway) -> None:
    reply = await curl(f"{site.url}/docs/sales?x=1", "-k", "-H", "Accept: text/html")
    assert reply.status == 401
    assert re.findall(r"(?im)^www-authenticate: (.*?)\r?$", reply.headers) == ["Calgate-Form"]
    assert b'action="/_calgate/sign-in/password/"' in reply.body
    assert b'name="to" value="/docs/sales?x=1"' in reply.body
    assert b'autocomplete="current-password"' in reply.body
    fetched = await curl(f"{site.url}/docs/sales", "-k", "-H", "Accept: application/json")
    assert (fetched.status, b"sign-in-needed" in fetched.body) == (401, True)


@pytest.mark.parametrize("name", ["alice", "DEMO\\alice", "demo\\ALICE", "alice@DEMO", "  alice "])
async def test_right_password_begins_a_session_and_leads_back(site: Gateway, name: str, server: DocumentServer) -> None:
    reply = await post(site, user=name, password=PASSWORD, to="/docs/sales?x=1")
    assert (reply.status, "location: /docs/sales?x=1" in reply.headers.lower()) == (303, True)
    served = await curl(f"{site.url}/docs/sales?x=1", "-k", "-H", f"Cookie: {cookie_in(reply)}")
    assert served.status == 200
    assert server.seen[-1].values("qvuser") == ["DEMO\\alice"]
    assert site.decisions("signed in")[-1]["mechanism"] == "password"


async def test_form_of_a_client_that_has_signed_in_by_ntlm_arrives_whole(site: Gateway) -> None:
    """The client sends it with an empty body first, and the form once it has been challenged."""
    ntlm = ("--ntlm", "-u", "DEMO\\bob:wrong", *POST_HERE)
    reply = await post(site, *ntlm, user="alice", password=PASSWORD, to="/portal")
    assert (reply.status, "location: /portal" in reply.headers.lower()) == (303, True)


async def test_failures_look_alike_and_take_a_second(site: Gateway) -> None:
    bodies = set()
    for user, password in (("alice", "wrong"), ("nobody", "wrong"), ("alice", "")):
        began = time.monotonic()
        reply = await post(site, user=user, password=password, to="/docs/sales")
        assert time.monotonic() - began >= 1
        assert (reply.status, cookie_in(reply), "www-authenticate" in reply.headers.lower()) == (403, "", False)
        assert b'name="to" value="/docs/sales"' in reply.body
        bodies.add(re.sub(rb"nonce[-=][^ >;]+|<code>[^<]+|<time.*?</time>", b"", reply.body))
    assert len(bodies) == 1
    assert [line["code"] for line in site.decisions("refused")[-3:]] == ["sign-in-failed"] * 3


async def test_guesses_are_counted_together_with_those_of_ntlm(site: Gateway) -> None:
    for _ in range(4):
        assert (await post(site, user="bob", password="wrong")).status == 403
    assert (await post(site, user="bob", password=PASSWORD)).status == 429
    ntlm = await curl(f"{site.url}/_calgate/sign-in/ntlm", "-k", "--ntlm", "-u", f"DEMO\\bob:{PASSWORD}")
    assert ntlm.status == 429
    assert (await post(site, user="alice", password=PASSWORD)).status == 303


@pytest.mark.parametrize(
    "options",
    [
        ("-H", "Sec-Fetch-Site: cross-site", "-H", f"Content-Type: {FORM}"),
        ("-H", "Sec-Fetch-Site: same-site", "-H", f"Content-Type: {FORM}"),
        ("-H", "Sec-Fetch-Site: none", "-H", f"Content-Type: {FORM}"),
        ("-H", "Origin: https://evil.example", "-H", f"Content-Type: {FORM}"),
        ("-H", "Origin: null", "-H", f"Content-Type: {FORM}"),
        ("-H", f"Content-Type: {FORM}"),
        ("-H", "Sec-Fetch-Site: same-origin", "-H", "Content-Type: application/json"),
        ("-H", "Sec-Fetch-Site: same-origin", "-H", "Content-Type: text/plain"),
    ],
)
async def test_form_of_another_site_signs_nobody_in(site: Gateway, options: tuple[str, ...]) -> None:
    reply = await post(site, *options, user="alice", password=PASSWORD)
    assert (reply.status, cookie_in(reply)) == (403, "")


async def test_browser_without_fetch_metadata_is_known_by_its_origin(site: Gateway) -> None:
    own = ("-H", f"Origin: {site.url}", "-H", f"Content-Type: {FORM}")
    assert (await post(site, *own, user="alice", password=PASSWORD)).status == 303


@pytest.mark.parametrize(
    "to",
    ["//evil.example/", "/\\evil.example", "https://evil.example/", "javascript:1", "/_calgate/sign-out", "", "/a\nb"],
)
async def test_way_back_stays_on_the_site(site: Gateway, to: str) -> None:
    reply = await post(site, user="alice", password=PASSWORD, to=to)
    assert re.search(r"(?im)^location: (.*?)\r?$", reply.headers)[1] == "/"  # type: ignore[index]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("user=alice&user=bob&password=x", 400),
        ("user=%ff&password=x", 400),
        ("user=alice&password=" + "x" * 9000, 413),
        ("&".join(f"f{n}=x" for n in range(30)), 400),
        ("user=S-1-5-21-1-2-3-500&password=x", 403),
        ("user=EVIL%5Calice%40demo&password=x", 403),
        ("user=al%00ice&password=x", 403),
    ],
)
async def test_form_that_can_be_read_in_two_ways_is_refused(site: Gateway, body: str, status: int) -> None:
    reply = await curl(f"{site.url}/_calgate/sign-in/password/", "-k", *POST_HERE, "--data-binary", body)
    assert (reply.status, cookie_in(reply)) == (status, "")


async def test_form_is_neither_shown_nor_accepted_over_plain_http(server: DocumentServer, tmp_path: Path) -> None:
    settings = write_settings(tmp_path, server.port, listen='trusted_proxies = ["192.0.2.1/32"]', more="[password]")
    async with gateway(settings) as site:
        page = await curl(f"{site.url}/docs/sales", "-H", "Accept: text/html")
        assert (page.status, b"<form" in page.body) == (401, False)
        assert (await post(site, user="alice", password=PASSWORD)).status == 403


async def test_somebody_else_signs_in_without_the_first_being_signed_in_again(site: Gateway) -> None:
    alice = cookie_in(await post(site, user="alice", password=PASSWORD))
    page = await curl(f"{site.url}/_calgate/sign-in/?to=/docs/sales", "-k", "-H", f"Cookie: {alice}")
    assert (page.status, "www-authenticate" in page.headers.lower()) == (200, False)
    assert b'href="/_calgate/sign-in/negotiate' not in page.body, "there is no Kerberos here"
    reply = await curl(
        f"{site.url}/_calgate/sign-in/password/",
        *("-k", *POST_HERE, "-H", f"Cookie: {alice}"),
        *("--data", urlencode({"user": "dave", "password": PASSWORD})),
    )
    dave = cookie_in(reply)
    assert reply.status == 303
    assert dave not in ("", alice)
    assert (await curl(f"{site.url}/docs/sales", "-k", "-H", f"Cookie: {alice}")).status == 401
    assert (await curl(f"{site.url}/docs/sales", "-k", "-H", f"Cookie: {dave}")).status == 200


async def test_scheme_that_is_not_offered_is_challenged_on_request(site: Gateway) -> None:
    reply = await curl(f"{site.url}/_calgate/sign-in/ntlm?to=/docs/sales", "-k")
    assert (reply.status, "www-authenticate: ntlm" in reply.headers.lower()) == (401, True)
    url = f"{site.url}/_calgate/sign-in/ntlm?to=/docs/sales"
    signed_in = await curl(url, "-k", "--ntlm", "-u", f"DEMO\\carol:{PASSWORD}")
    assert (signed_in.status, bool(cookie_in(signed_in))) == (303, True)
    assert "location: /docs/sales" in signed_in.headers.lower()


async def test_path_of_no_method_is_refused(site: Gateway) -> None:
    for path in ("/_calgate/sign-in/saml/", "/_calgate/sign-in/password/extra", "/_calgate/sign-in/negotiate"):
        assert (await curl(f"{site.url}{path}", "-k")).status in (403, 405)


@pytest.mark.browser
@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium")
async def test_form_signs_in_in_chromium_and_a_foreign_page_cannot(site: Gateway) -> None:
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        await page.goto(f"{site.url}/docs/sales")
        await page.get_by_role("textbox", name="Name", exact=True).fill("DEMO\\alice")
        await page.locator("input[type=password]").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("That sign-in did not work")
        await page.get_by_role("textbox", name="Name", exact=True).fill("DEMO\\alice")
        await page.locator("input[type=password]").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{site.url}/docs/sales")
        stranger = await (await browser.new_context(ignore_https_errors=True)).new_page()
        await stranger.set_content(
            f'<form method="post" action="{site.url}/_calgate/sign-in/password/"><input name="user" value="alice">'
            f'<input name="password" value="{PASSWORD}"><button>Go</button></form>'
        )
        await stranger.get_by_role("button").click()
        await expect(stranger.get_by_role("heading", level=1)).to_have_text("That came from another site")
        assert await stranger.context.cookies() == []
        await browser.close()


async def test_note_cookie_of_a_stranger_is_ignored_and_not_forwarded(site: Gateway, server: DocumentServer) -> None:
    cookie = f"{cookie_in(await post(site, user='alice', password=PASSWORD))}; __Host-calgate-note=forged"
    assert (await curl(f"{site.url}/docs/sales", "-k", "-H", f"Cookie: {cookie}")).status == 200
    assert all("note" not in line for line in server.seen[-1].values("cookie"))
    page = await curl(f"{site.url}/_calgate/sign-in/password/", "-k", "-H", f"Cookie: {cookie}")
    assert (page.status, "calgate-note=; " in page.headers) == (200, True)
