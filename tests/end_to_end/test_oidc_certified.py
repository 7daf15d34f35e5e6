"""Signing in with Chromium at a certified provider (npm oidc-provider), whose own pages ask for name and consent."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from support.gateway_process import DocumentServer, gateway, write_settings
from support.ports import free_port
from support.screenshots import ARGS, CHROMIUM

FOLDER = Path(__file__).parents[1] / "openid_provider"
SECTION = """
[oidc]
issuer = "http://127.0.0.1:{port}"
client = {{ id = "calgate", secret = "a-secret-of-32-characters-or-more" }}
person = {{ account = "sam", domain = "DEMO" }}
"""

pytestmark = [
    pytest.mark.long,
    pytest.mark.browser,
    pytest.mark.skipif(
        shutil.which("node") is None or not (FOLDER / "node_modules").exists() or not Path(CHROMIUM).exists(),
        reason="needs Chromium, node, and the provider that `tests/packages PYTHON long` installs",
    ),
]


@asynccontextmanager
async def certified(port: int, origin: str) -> AsyncIterator[None]:
    """Starts the provider and waits until it listens."""
    process = await asyncio.create_subprocess_exec(
        *("node", "provider.mjs", str(port), origin), cwd=FOLDER, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while (line := await process.stdout.readline()) != b"ready\n":
                assert line, "the provider ended"
        yield
    finally:
        process.terminate()
        await process.wait()


async def log_in(page: Page, name: str) -> None:
    """Fills in the provider's own forms: name and password, then consent."""
    await page.locator("input[name=login]").fill(name)
    await page.locator("input[name=password]").fill("any")
    await page.locator("button[type=submit]").click()
    await page.get_by_role("button", name="Continue").click()


async def test_chromium_signs_in_and_both_kinds_of_sign_out_end_the_session(
    server: DocumentServer, tmp_path: Path
) -> None:
    port, own = free_port(), free_port()
    settings = write_settings(tmp_path, server.port, port=own, more=SECTION.format(port=port))
    settings.write_text(settings.read_text().replace('ntlm = "users"', 'ntlm = "users"\noffer_to = ["192.0.2.0/24"]'))
    async with gateway(settings) as site, async_playwright() as play:
        origin = site.url.replace("127.0.0.1", "localhost")  # the provider is another site, as in real life
        async with certified(port, origin):
            browser = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
            context = await browser.new_context()
            page = await context.new_page()
            await page.goto(f"{origin}/docs/sales")
            await page.get_by_role("link", name="Sign in with your company account").click()
            await log_in(page, "alice")
            await expect(page).to_have_url(f"{origin}/docs/sales")
            assert server.seen[-1].values("qvuser") == ["DEMO\\alice"]

            there = await context.new_page()  # the user signs out at the provider, which notifies the gateway
            await there.goto(f"http://127.0.0.1:{port}/session/end")
            await there.get_by_role("button", name="Yes, sign me out").click()
            await expect(there.get_by_text("Sign-out Success")).to_be_visible()
            assert [line["user"] for line in site.decisions("signed out at the provider")] == ["DEMO\\alice"]
            response = await page.reload()
            assert response is not None
            assert response.status == 401

            await page.get_by_role("link", name="Sign in with your company account").click()
            await log_in(page, "bob")
            await expect(page).to_have_url(f"{origin}/docs/sales")
            await page.goto(f"{origin}/_calgate/sign-out")
            await page.get_by_role("button", name="Sign out").click()
            await page.get_by_role("button", name="Yes, sign me out").click()
            await expect(page).to_have_url(f"{origin}/_calgate/signed-out")
            await page.goto(f"{origin}/docs/sales")
            await page.get_by_role("link", name="Sign in with your company account").click()
            await expect(page.locator("input[name=login]")).to_be_visible()  # the provider has forgotten bob
            await browser.close()
