"""One Chromium: its tabs, its cookies, and the next user at the same computer."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, async_playwright, expect

from support.certificates import Authority
from support.gateway_process import (
    PASSWORD,
    DocumentServer,
    Exchange,
    Gateway,
    calgate,
    gateway,
    write_settings,
)
from support.screenshots import ARGS, CHROMIUM

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium"),
]
SET = (
    "Set-Cookie: folder=alices",
    "Set-Cookie: sub=alices; Path=sub",
    "Set-Cookie: root=alices; Path=/; HttpOnly",
    'Set-Cookie: quoted=alices; PATH="/deep"',
    "Set-Cookie: dated=alices; EXPIRES=Thu, 01 Jan 1970",  # without a time: browsers keep it
)
SET_SECURE = (
    *SET,
    "Set-Cookie: __Host-h=alices; Path=/; Secure",
    "Set-Cookie: __Secure-s=alices; Path=/deep; Secure",
    "Set-Cookie: __Host-h=; Path=/; Max-Age=0",  # without Secure: browsers keep what they have
    "Set-Cookie: chip=alices; Path=/; Secure; SameSite=None; Partitioned",
    "Set-Cookie: chip=alices; Path=/; Secure",
)


@contextlib.asynccontextmanager
async def chromium(account: str) -> AsyncIterator[BrowserContext]:
    """A browser that signs in by NTLM as this account."""
    credentials = {"username": f"DEMO\\{account}", "password": PASSWORD}
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield await browser.new_context(http_credentials=credentials, ignore_https_errors=True)
        await browser.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_sign_out_deletes_every_cookie_of_the_document_server(
    scheme: str, server: DocumentServer, tmp_path: Path
) -> None:
    listen, expected = "", {"folder", "sub", "root", "quoted", "dated"}
    if scheme == "https":
        signed = Authority(tmp_path).sign("127.0.0.1")
        listen = f'tls = {{ certificate = "{signed.certificate}", key = "{signed.key}" }}'
        expected |= {"__Host-h", "__Secure-s", "chip"}

    async def set_cookies(exchange: Exchange) -> None:
        fields = SET_SECURE if scheme == "https" else SET
        await exchange.answer(fields=["Content-Type: text/html", *(fields if "/deep/er" in exchange.path else ())])

    server.behaviour = set_cookies
    async with gateway(write_settings(tmp_path, server.port, listen=listen)) as gate, chromium("alice") as context:
        page = await context.new_page()
        await page.goto(f"{gate.url}/deep/er/page")
        own = {"calgate", "__Host-calgate"}
        assert {cookie["name"] for cookie in await context.cookies()} - own == expected
        await page.goto(f"{gate.url}/_calgate/sign-out")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page).to_have_url(f"{gate.url}/_calgate/signed-out")
        assert await context.cookies() == []


async def cals_in_use(gate: Gateway) -> int:
    _, out, _ = await calgate("cals", "list", "-c", str(gate.settings), "--json")
    return len(json.loads(out)["holders"])


async def test_five_tabs_and_a_new_sign_in_of_one_browser_take_one_cal(server: DocumentServer, tmp_path: Path) -> None:
    license = 'client = "browser"\nsession = { in_license = 9 }'
    async with gateway(write_settings(tmp_path, server.port, license=license)) as gate, chromium("alice") as context:
        tabs = [await context.new_page() for _ in range(5)]
        await asyncio.gather(*(tab.goto(f"{gate.url}/docs/sales-{n}") for n, tab in enumerate(tabs)))
        assert await cals_in_use(gate) == 1
        assert (await calgate("sessions", "end", "DEMO\\alice", "-c", str(gate.settings)))[0] == 0
        response = await tabs[0].goto(f"{gate.url}/docs/sales-0")
        assert response is not None
        assert response.status == 200
        assert await cals_in_use(gate) == 1
        assert all("calgate" not in line for seen in server.seen for line in seen.values("cookie"))


REGISTER = "async path => { try { await navigator.serviceWorker.register(path); return 'yes' } catch { return 'no' } }"


async def test_service_worker_is_registered_only_where_its_route_allows_it(
    server: DocumentServer, tmp_path: Path
) -> None:
    async def serve_script(exchange: Exchange) -> None:
        kind = "text/javascript" if exchange.path.endswith(".js") else "text/html"
        await exchange.answer(b"", fields=[f"Content-Type: {kind}"])

    server.behaviour = serve_script
    allowed = f'[[routes]]\npath = "/app"\nservice_workers = true\nupstreams = ["http://127.0.0.1:{server.port}"]\n\n'
    settings = write_settings(tmp_path, server.port)
    settings.write_text(settings.read_text().replace("[[routes]]", f"{allowed}[[routes]]", 1))
    async with gateway(settings) as gate, chromium("alice") as context:
        page = await context.new_page()
        await page.goto(f"{gate.url}/portal")
        assert await page.evaluate(REGISTER, "/worker.js") == "no"
        assert [seen.path for seen in server.seen if seen.values("service-worker")] == []
        assert await page.evaluate(REGISTER, "/app/worker.js") == "yes"
