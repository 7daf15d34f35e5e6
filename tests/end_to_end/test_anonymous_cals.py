"""CALs on public routes: browsers that did not sign in open documents, and programs without cookies take none."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect

from support.gateway_process import (
    DocumentServer,
    Exchange,
    Gateway,
    Reply,
    calgate,
    curl,
    document_server,
    gateway,
    write_settings,
)
from support.screenshots import ARGS, CHROMIUM
from support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SITES = (
    "flow",
    "full",
    "forged",
    "leave",
    "back",
    "stream",
    "user",
    "chromium",
)  # each test has a license and a route of its own
PUBLIC = """
[[routes]]
path = "/{site}"
upstreams = ["http://127.0.0.1:{port}"]
license = "{site}"
sign_in = "off"
opens = '^/{site}/docs/(?P<document>[^?/]+)$'
polls = '^/{site}/docs/(?P<document>[^?/]+)/poll$'

[licenses.{site}]
session = {{ in_license = 3, minimum = "1s" }}
anonymous = {{ max = 2, per_address = 1 }}
queue = true
"""
RULES = """
[[access]]
name = "welcome"
documents = ["welcome", "news"]
anonymous = true

[[access]]
"""
PAGE = ("-H", "Accept: text/html")


def settings_with_public_routes(folder: Path, port: int) -> Path:
    file = write_settings(
        folder, port, listen='trusted_proxies = ["127.0.0.2/32"]', more='[forward_auth]\nsecret = "open sesame"'
    )
    text = file.read_text().replace("[[access]]\n", RULES, 1)
    routes = "".join(PUBLIC.format(site=site, port=port) for site in SITES)
    file.write_text(text.replace("[[routes]]\n", f"{routes}\n[[routes]]\n", 1))
    return file


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server() -> AsyncIterator[DocumentServer]:
    async with document_server() as running:
        yield running


@pytest.fixture
def server(shared_server: DocumentServer) -> DocumentServer:
    shared_server.seen.clear()
    shared_server.behaviour = Exchange.answer
    return shared_server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(shared_server: DocumentServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    file = settings_with_public_routes(tmp_path_factory.mktemp("anonymous"), shared_server.port)
    async with gateway(file) as running:
        yield running


def through_proxy(address: str) -> tuple[str, ...]:
    """Returns curl's options for a request that a trusted proxy forwards for a client of this address."""
    return ("--interface", "127.0.0.2", "-H", f"X-Forwarded-For: {address}")


class Browser:
    """A browser with a cookie jar, behind a trusted proxy that names its address."""

    def __init__(self, gate: Gateway, folder: Path, address: str) -> None:
        self.gate, self.address = gate, address
        self.jar = folder / f"jar-{len(list(folder.iterdir()))}"
        self.jar.touch()

    async def get(self, path: str, *options: str, user: str | None = None) -> Reply:
        """Requests a page without following redirects."""
        jar = ("-b", str(self.jar), "-c", str(self.jar))
        way = () if user else through_proxy(self.address)  # NTLM passes no proxy
        return await curl(f"{self.gate.url}{path}", *jar, *way, *options, user=user)

    async def open(self, path: str, *options: str) -> Reply:
        """Opens a page as a browser does."""
        return await self.get(path, *PAGE, "-L", "--max-redirs", "5", *options)


async def holders(gate: Gateway, license: str) -> list[dict[str, object]]:
    _, out, _ = await calgate("cals", "list", "-c", str(gate.settings), "--license", license, "--json")
    return list(json.loads(out)["holders"])


async def test_browser_gets_a_cal_once_its_cookie_came_back_and_a_program_without_cookies_none(
    gate: Gateway, server: DocumentServer, tmp_path: Path
) -> None:
    browser = Browser(gate, tmp_path, "192.0.2.1")
    assert (await browser.get("/flow/index", *PAGE)).values("set-cookie") == [], "no document, no cookie"
    first = await browser.get("/flow/docs/welcome", *PAGE)
    assert (first.status, first.values("location")) == (303, ["/_calgate/cookie?to=/flow/docs/welcome"])
    [cookie] = first.values("set-cookie")
    assert cookie.startswith("calgate-anonymous=")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert await holders(gate, "flow") == []
    second = await browser.get("/_calgate/cookie?to=/flow/docs/welcome", *PAGE)
    assert (second.status, second.values("location")) == (303, ["/flow/docs/welcome"])
    server.seen.clear()
    assert (await browser.get("/flow/docs/welcome", *PAGE)).status == 200
    assert server.seen[-1].values("cookie") == [], "the gateway's cookie stays here"
    [holder] = await holders(gate, "flow")
    assert (holder["kind"], holder["client"], holder["anonymous"]) == ("session", "192.0.2.1", True)
    assert str(holder["name"]).startswith("anonymous-")
    assert (await browser.open("/flow/docs/news")).status == 200
    assert len(await holders(gate, "flow")) == 1, "one browser has one CAL"
    for _ in range(3):
        program = await curl(f"{gate.url}/flow/docs/welcome", *through_proxy("192.0.2.9"))
        assert (program.status, program.json["code"]) == (403, "cookie-needed")
        assert len(program.values("set-cookie")) == 1
    refusing = await curl(f"{gate.url}/flow/docs/welcome", *PAGE, "-L", "--max-redirs", "5")
    assert refusing.status == 403, (
        "a browser that takes no cookies gets a page that says so, and is not redirected in a circle"
    )
    assert b"Your browser must accept a cookie" in refusing.body
    assert b'href="/flow/docs/welcome"' in refusing.body
    assert len(await holders(gate, "flow")) == 1


async def test_bounds_hold_for_each_address_behind_a_proxy_and_for_all_and_nobody_is_queued(
    gate: Gateway, server: DocumentServer, tmp_path: Path
) -> None:
    first, second, third, fourth = (
        Browser(gate, tmp_path, address)
        for address in ("192.0.2.1", "203.0.113.5, 192.0.2.1", "192.0.2.2", "192.0.2.3")
    )
    assert (await first.open("/full/docs/welcome")).status == 200
    denied = await second.open("/full/docs/welcome")
    assert denied.status == 403, "what a client says of its address is not believed"
    assert b"your network address" in denied.body
    assert (await third.open("/full/docs/welcome")).status == 200
    server.seen.clear()
    full = await fourth.open("/full/docs/welcome")
    assert full.status == 403
    assert b"All licenses that visitors can use" in full.body
    assert b'href="/">Sign in with an account' in full.body
    assert b"help@demo.example" not in full.body
    assert b"You are in the queue" not in full.body
    as_data = (await fourth.get("/full/docs/welcome")).json
    assert (as_data["code"], as_data["pools"]) == ("anonymous-full", [])
    assert "place" not in as_data
    assert server.seen == []
    _, waiting, _ = await calgate("cals", "queue", "-c", str(gate.settings), "--license", "full", "--json")
    assert json.loads(waiting) == []
    assert len(await holders(gate, "full")) == 2
    _, out, _ = await calgate("cals", "list", "-c", str(gate.settings), "--license", "full")
    assert "anonymous" in out
    _, log, _ = await calgate("cals", "log", "-c", str(gate.settings), "--license", "full")
    assert "anonymous-" in log


async def test_forged_cookies_and_documents_without_a_rule_take_no_cal(
    gate: Gateway, server: DocumentServer, tmp_path: Path
) -> None:
    browser = Browser(gate, tmp_path, "192.0.2.1")
    first = await browser.get("/forged/docs/welcome", *PAGE)
    value = first.values("set-cookie")[0].partition(";")[0].partition("=")[2]
    forged = ("anonymous:0000000000000001", value[:-8] + "AAAAAAA=", value[::-1], "A" * 3000, "")
    for cookie in forged:
        sent = ("-H", f"Cookie: calgate-anonymous={cookie}")
        refused = await curl(f"{gate.url}/forged/docs/welcome", *sent)
        assert (refused.status, refused.json["code"]) == (403, "cookie-needed"), cookie
    secret = await browser.open("/forged/docs/secret")
    assert (secret.status, secret.values("set-cookie")) == (403, [])
    assert b"No access rule allows you" in secret.body
    elsewhere = await curl(f"{gate.url}/_calgate/cookie?to=//evil.example/", "-H", f"Cookie: calgate-anonymous={value}")
    assert elsewhere.values("location") == ["/"]
    own = await curl(f"{gate.url}/_calgate/cookie?to=/_calgate/cookie", "-H", f"Cookie: calgate-anonymous={value}")
    assert own.values("location") == ["/"], "else the browser would be sent in a circle"
    for asks in (("-I",), ("-H", "Sec-Purpose: prefetch")):
        looked = await browser.get("/forged/docs/welcome", *asks)
        assert looked.status == 403, "what only looks takes no CAL"
    assert (await curl(f"{gate.url}/forged/docs/welcome/poll")).json["code"] == "no-cal-held"
    assert server.seen == []
    assert await holders(gate, "forged") == []


async def test_signing_in_gives_the_anonymous_cal_back(gate: Gateway, server: DocumentServer, tmp_path: Path) -> None:
    browser = Browser(gate, tmp_path, "192.0.2.1")
    assert (await browser.open("/leave/docs/welcome")).status == 200
    await asyncio.sleep(1.1)  # the store's own clock: the minimum of this license is a second
    reply = await browser.get("/portal", user="alice")
    assert reply.status == 200
    assert any(value.startswith("calgate-anonymous=;") for value in reply.values("set-cookie"))

    async def is_back() -> bool:
        return await holders(gate, "leave") == []

    await until(is_back)
    [released] = [holder for holder in await _records(gate, "leave") if holder["what"] == "signed-out"]
    assert released["name"].startswith("anonymous-")


async def test_visitor_gives_the_cal_back_on_the_sign_out_page(
    gate: Gateway, server: DocumentServer, tmp_path: Path
) -> None:
    browser = Browser(gate, tmp_path, "192.0.2.1")
    assert b">Sign out</button>" in (await browser.get("/_calgate/sign-out", *PAGE)).body, "there is nothing to give"
    assert (await browser.open("/back/docs/welcome")).status == 200
    page = (await browser.get("/_calgate/sign-out", *PAGE)).body
    assert b">Give the license back</button>" in page
    assert len(await holders(gate, "back")) == 1, "no link gives anything back"
    await asyncio.sleep(1.1)  # the store's own clock: the minimum of this license is a second
    foreign = await browser.get("/_calgate/sign-out", "-X", "POST", "-H", "Sec-Fetch-Site: cross-site")
    assert (foreign.status, len(await holders(gate, "back"))) == (403, 1)
    given = await browser.get("/_calgate/sign-out", "-X", "POST", "-H", "Sec-Fetch-Site: same-origin")
    assert (given.status, given.values("location")) == (303, ["/_calgate/signed-out?visitor"])
    assert [value.partition(";")[0] for value in given.values("set-cookie")] == ["calgate-anonymous="]
    assert await holders(gate, "back") == []
    after = await browser.get("/_calgate/signed-out?visitor", *PAGE)
    assert (b"The license is given back" in after.body, b"Sign in" in after.body) == (True, False)
    again = await browser.get("/_calgate/sign-out", "-X", "POST", "-H", "Sec-Fetch-Site: same-origin")
    assert again.values("location") == ["/_calgate/signed-out"]


async def test_open_response_ends_with_the_cal(gate: Gateway, server: DocumentServer, tmp_path: Path) -> None:
    streaming = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            exchange.writer.write(b"5\r\nhello\r\n")
            await exchange.writer.drain()
            streaming.set()
            await asyncio.sleep(0.05)

    browser = Browser(gate, tmp_path, "192.0.2.1")
    assert (await browser.open("/stream/docs/welcome")).status == 200
    server.behaviour = stream
    open_response = asyncio.create_task(browser.open("/stream/docs/welcome"))
    await asyncio.wait_for(streaming.wait(), 10)
    [holder] = await holders(gate, "stream")
    ended, _, err = await calgate(
        *("cals", "end", str(holder["name"]), "--force", "-c", str(gate.settings), "--license", "stream")
    )
    assert ended == 0, err
    reply = await asyncio.wait_for(open_response, 10)
    assert b"hello" in reply.body
    assert reply.exit != 0, "the client must not take what it has for the whole"
    server.behaviour = Exchange.answer
    assert (await browser.open("/stream/docs/welcome")).status == 200
    [another] = await holders(gate, "stream")
    assert another["id"] != holder["id"], "the gateway has forgotten the CAL that has ended"


async def test_session_cookie_takes_no_cal_of_its_user_on_a_public_route(
    gate: Gateway, server: DocumentServer, tmp_path: Path
) -> None:
    browser = Browser(gate, tmp_path, "192.0.2.1")
    assert (await browser.get("/portal", user="bob")).status == 200
    assert (await browser.open("/user/docs/welcome")).status == 200
    assert server.seen[-1].values("qvuser") == []
    assert [holder["anonymous"] for holder in await holders(gate, "user")] == [True]


async def opened(page: Page, url: str) -> int:
    response = await page.goto(url)
    assert response is not None
    status: int = response.status
    return status


@pytest.mark.browser
@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium")
async def test_visitors_in_chromium_get_a_cal_are_told_when_there_is_none_and_give_it_back(
    gate: Gateway, server: DocumentServer, tmp_path: Path
) -> None:
    document = f"{gate.url}/chromium/docs/welcome"
    without_cookies = tmp_path / "profile"
    (without_cookies / "Default").mkdir(parents=True)
    blocked = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (without_cookies / "Default" / "Preferences").write_text(json.dumps(blocked))
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        first, second = [await (await browser.new_context()).new_page() for _ in range(2)]
        assert (await opened(first, document), first.url) == (200, document)
        [cookie] = await first.context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["expires"]) == ("calgate-anonymous", True, -1)
        assert len(await holders(gate, "chromium")) == 1
        assert await opened(second, document) == 403
        await expect(second.locator("h1")).to_have_text("No license is free for visitors")
        await expect(second.get_by_text("your network address")).to_be_visible()
        await asyncio.sleep(1.1)  # the store's own clock: the minimum of this license is a second
        await first.goto(f"{gate.url}/_calgate/sign-out")
        await first.get_by_role("button", name="Give the license back").click()
        await expect(first.locator("h1")).to_have_text("The license is given back")
        assert await first.context.cookies() == []
        await second.get_by_role("link", name="Try again").click()
        await expect(second).to_have_url(document)
        assert len(await holders(gate, "chromium")) == 1
        await browser.close()
        context = await play.chromium.launch_persistent_context(
            without_cookies, executable_path=CHROMIUM, args=ARGS, headless=True
        )
        third = await context.new_page()
        assert await opened(third, document) == 403
        await expect(third.get_by_text("Your browser must accept a cookie")).to_be_visible()
        await context.close()


async def test_forward_auth_refuses_a_public_route_with_a_license(gate: Gateway) -> None:
    described = ("X-Calgate-Secret: open sesame", "X-Forwarded-Method: GET", "X-Forwarded-Uri: /full/docs/welcome")
    options = [word for line in described for word in ("-H", line)]
    refused = await curl(f"{gate.url}/_calgate/auth", *through_proxy("192.0.2.8"), *options, *PAGE)
    assert (refused.status, refused.values("set-cookie")) == (403, [])


async def _records(gate: Gateway, license: str) -> list[dict[str, str]]:
    _, out, _ = await calgate("cals", "log", "-c", str(gate.settings), "--license", license, "--json")
    return list(json.loads(out))


@pytest.mark.parametrize(
    ("license", "fault"),
    [
        ("session = { in_license = 2 }", 'sign_in = "off" leaves no user who could hold a CAL'),
        ("session = { in_license = 2 }\nanonymous = { max = 3 }", "anonymous.max: 3 is more than the Session CALs"),
    ],
    ids=["without", "too-many"],
)
async def test_public_route_with_a_license_that_cannot_serve_it_is_a_fault(
    tmp_path: Path, license: str, fault: str
) -> None:
    file = write_settings(tmp_path, 1, route='sign_in = "off"', license=license)
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("sign_on =")))
    code, _, err = await calgate("config", "validate", "-c", str(file))
    assert code == 2
    assert fault in err
