"""The demonstration in Chromium: a person signs in, clicks, is refused with the reason, and signs out."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, Page, async_playwright, expect

from support.demonstration import Demo, demonstration, run
from support.ports import free_port
from support.screenshots import ARGS, CHROMIUM

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium"),
]
DOCUMENT = "/QvAJAXZfc/opendoc.htm?document=Sales.qvw&host=QVS@demo"


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Demo]:
    async with demonstration(tmp_path / "demo", free_port()) as started:
        yield started


@contextlib.asynccontextmanager
async def browser_of(account: str) -> AsyncIterator[tuple[BrowserContext, Page]]:
    """A separate browser for each user, which signs in by NTLM when it is challenged."""
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        context = await browser.new_context(http_credentials={"username": f"DEMO\\{account}", "password": "demo"})
        yield context, await context.new_page()
        await browser.close()


async def test_click_uses_the_document_and_sign_out_closes_the_websocket_permanently(
    demo: Demo,
) -> None:
    async with browser_of("alice") as (context, page):
        await page.goto(f"{demo.url}/")
        await page.get_by_role("link", name="Sales Revenue").click()
        await page.get_by_role("button", name="Q2").click()
        await expect(page.locator("#status")).to_contain_text("Selected Q2")
        await expect(page.locator("#live")).to_contain_text("tick")
        door = await context.new_page()
        await door.goto(f"{demo.url}/_calgate/sign-out")
        await door.get_by_role("button", name="Sign out").click()
        await expect(door).to_have_url(f"{demo.url}/_calgate/signed-out")
        await expect(door.get_by_role("heading")).to_have_text("You are signed out")
        await expect(page.locator("#live")).to_contain_text("closed (1008")


async def test_user_without_a_cal_sees_why_on_a_new_and_on_an_open_page(demo: Demo) -> None:
    async with browser_of("dave") as (_, page):
        await page.goto(demo.url + DOCUMENT)
        await page.get_by_role("button", name="Q2").click()
        await expect(page.locator("#status")).to_contain_text("Selected Q2")
        for account in ("bob", "carol"):
            await run(f"curl -s --ntlm -u {account}:demo '{demo.url}{DOCUMENT}'")
        async with browser_of("carol") as (_, late):
            answer = await late.goto(demo.url + DOCUMENT)
            assert answer is not None
            assert answer.status == 403
            await expect(late.get_by_role("heading", level=1)).to_have_text("You are in the queue")
            await expect(late.locator("section .pools")).to_contain_text("2 of 2 in use")
        await page.route("**/QvsViewClient.aspx**", lambda route: route.continue_(post_data=other_document()))
        await page.get_by_role("button", name="Q3").click()
        await expect(page.locator("#message")).to_contain_text("This address cannot be read.")


def other_document() -> str:
    """A command for another document than the query names: a way past the rules, if it were let through."""
    return '<update mark="" view="HR/Headcount.qvw"><poll name="x"/></update>'


async def test_pages_of_the_demonstration_have_no_accessibility_faults(demo: Demo) -> None:
    async with browser_of("alice") as (_, page):
        await page.set_viewport_size({"width": 360, "height": 740})
        for path in ("/", DOCUMENT, DOCUMENT.replace("Sales", "Sails")):
            await page.goto(demo.url + path)
            found = await Axe().run(page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360, path
