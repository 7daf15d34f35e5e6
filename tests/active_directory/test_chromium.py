"""Single sign-on in a real browser, and attacks by pages of other sites."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, async_playwright

from active_directory.test_gateway import ready
from support.domain import DOMAIN, PASSWORD, Lab
from support.domain_gateway import Front, front
from support.gateway_process import calgate
from support.screenshots import ARGS, CHROMIUM

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium"),
]
FOREIGN = "elsewhere.example.net"


@pytest_asyncio.fixture
async def gate(domain: Lab, tmp_path: Path) -> AsyncIterator[Front]:
    async with front(domain, tmp_path) as running:
        await ready(running)
        yield running


@asynccontextmanager
async def browser(lab: Lab, folder: Path, account: str) -> AsyncIterator[BrowserContext]:
    """Chromium of a user who has signed in to Windows, with the domain's sites on its allow-list."""
    profile = folder / "profile"
    profile.mkdir(exist_ok=True)
    # a fresh profile on Linux refuses its first Negotiate challenge; this is how it remembers that there was one
    (profile / "Local State").write_text(json.dumps({"net": {"received_http_auth_negotiate_headers": True}}))
    async with async_playwright() as play:
        context = await play.chromium.launch_persistent_context(
            str(profile),
            executable_path=CHROMIUM,
            args=[*ARGS, f"--auth-server-allowlist=*.{DOMAIN}"],
            env={"HOME": str(folder), **lab.ticket(account, folder)},
        )
        yield context
        await context.close()


@asynccontextmanager
async def foreign_site(html: str) -> AsyncIterator[str]:
    """Serves a page on another site. Returns its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = html.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.80", 0)
    async with server:
        yield f"http://{FOREIGN}:{server.sockets[0].getsockname()[1]}/"


async def open_page(context: BrowserContext, url: str) -> tuple[Page, int]:
    page = await context.new_page()
    response = await page.goto(url)
    assert response is not None
    return page, response.status


async def test_domain_user_is_signed_in_without_a_prompt(domain: Lab, tmp_path: Path, gate: Front) -> None:
    async with browser(domain, tmp_path, "alice") as context:
        _page, status = await open_page(context, f"{gate.url}/docs/Sales")
    assert status == 200
    assert set(gate.users()) == {"CORP\\alice"}
    assert gate.gate.decisions("CAL")


async def test_browser_without_a_ticket_signs_in_by_ntlm(domain: Lab, tmp_path: Path) -> None:
    """Over TLS, bound to the certificate: Chromium sends MIC and binding."""
    tls = domain.folder / "tls"
    listen = f'tls = {{ certificate = "{tls}/gateway.pem", key = "{tls}/gateway.key" }}'
    negotiate = 'ntlm = "domain"\nchannel_binding = "require"'
    async with front(domain, tmp_path, listen=listen, negotiate=negotiate) as running, async_playwright() as play:
        chromium = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS, env={"HOME": str(tmp_path)})
        context = await chromium.new_context(
            ignore_https_errors=True, http_credentials={"username": "CORP\\alice", "password": PASSWORD}
        )
        for _ in range(50):
            if "ready" in running.gate.log.read_text():
                break
            await asyncio.sleep(0.1)
        _page, status = await open_page(context, f"{running.url}/docs/Sales")
        await chromium.close()
        assert status == 200, running.gate.log.read_text()
        assert set(running.users()) == {"CORP\\alice"}


async def test_user_who_is_refused_by_group_sees_the_page_that_says_so(
    domain: Lab, tmp_path: Path, gate: Front
) -> None:
    async with browser(domain, tmp_path, "carol") as context:
        _page, status = await open_page(context, f"{gate.url}/docs/Sales")
    assert status == 403
    assert gate.users() == []


@pytest.mark.parametrize("has_visited", [False, True])
async def test_form_of_another_site_is_never_submitted(
    domain: Lab, tmp_path: Path, gate: Front, has_visited: bool
) -> None:
    """The browser would send its ticket unprompted, with or without a cookie."""
    form = f'<form id=f method=post action="{gate.url}/docs/Sales"></form><script>f.submit()</script>'
    async with browser(domain, tmp_path, "alice") as context, foreign_site(form) as url:
        if has_visited:
            await open_page(context, f"{gate.url}/portal")
        page = await context.new_page()
        async with page.expect_response(f"{gate.url}/docs/Sales") as answered:
            await page.goto(url)
        assert (await answered.value).status in (401, 403)
    assert [exchange.request_line for exchange in gate.server.seen if "POST" in exchange.request_line] == []


@pytest.mark.parametrize("has_visited", [False, True])
async def test_image_on_another_site_takes_no_cal(domain: Lab, tmp_path: Path, gate: Front, has_visited: bool) -> None:
    html = f'<img id=i src="{gate.url}/docs/Sales" onload="done=1" onerror="done=1">'
    async with browser(domain, tmp_path, "alice") as context, foreign_site(html) as url:
        if has_visited:
            await open_page(context, f"{gate.url}/portal")
        page = await context.new_page()
        await page.goto(url)
        await page.wait_for_function("window.done === 1")
    assert gate.gate.decisions("CAL") == []
    if not has_visited:
        assert gate.users() == []


async def test_large_upload_arrives_whole_after_its_session_has_ended(domain: Lab, tmp_path: Path, gate: Front) -> None:
    """8 MB: refused with a challenge, drained, and sent again by the browser with its ticket."""
    async with browser(domain, tmp_path, "alice") as context:
        page, _status = await open_page(context, f"{gate.url}/portal")
        code, _out, errors = await calgate("sessions", "end", "-c", str(gate.gate.settings), "CORP\\alice")
        assert code == 0, errors
        status = await page.evaluate(
            "async url => (await fetch(url, {method: 'POST', body: new Uint8Array(8 << 20).fill(7)})).status",
            f"{gate.url}/upload",
        )
    assert status == 200
    uploaded = [exchange for exchange in gate.server.seen if exchange.path == "/upload"]
    assert [len(exchange.body) for exchange in uploaded] == [8 << 20]
