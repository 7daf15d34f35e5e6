"""The console in Chromium, in front of the demonstration: the way of an administrator, accessibility, the keyboard."""

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, async_playwright, expect

from support.console_screenshots import SCREENS, console_of, open_console
from support.demonstration import Demo, demonstration, run
from support.ports import free_port
from support.screenshots import ARGS, CHROMIUM

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium"),
]


@contextlib.asynccontextmanager
async def admins_page(demo: Demo, width: int = 1280) -> AsyncIterator[Page]:
    """Opens the console's first page as the administrator of the demonstration."""
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        context = await browser.new_context(
            http_credentials={"username": "DEMO\\admin", "password": "demo"}, viewport={"width": width, "height": 800}
        )
        page = await context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await open_console(page, console_of(demo))
        complaints.clear()  # the console's process may still have been starting
        yield page
        await browser.close()
        assert complaints == []  # such as what the Content-Security-Policy had to stop


async def test_administrator_serves_a_caller_and_every_screen_is_accessible(tmp_path: Path) -> None:
    async with demonstration(tmp_path / "demo", free_port()) as demo:
        for line in re.findall(r"^  (curl .*)$", demo.said, re.MULTILINE):
            await run(line)
        async with admins_page(demo) as page:
            await _serve_the_caller(page)
            await _screens_have_no_violations(page, console_of(demo))
            await _keyboard_alone_searches(page, console_of(demo))
        async with admins_page(demo, width=360) as page:
            for screen in SCREENS:
                await page.goto(f"{console_of(demo)}_calgate/admin/{screen}")
                wide = await page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                assert wide == 0, screen


async def _serve_the_caller(page: Page) -> None:
    """Dave reads the number on the page aloud; four clicks later Dave has a Named CAL."""
    await page.get_by_role("link", name="Denials", exact=True).click()
    cells = page.get_by_role("row").filter(has_text="DEMO\\dave").get_by_role("cell")
    reference = await cells.nth(5).inner_text()
    await page.get_by_label("Reference number").fill(reference.lower())
    await page.get_by_role("button", name="Find").click()
    await page.get_by_role("checkbox", name="Select row").first.check()
    await page.get_by_role("button", name="Assign a Named CAL").click()
    await expect(page.get_by_role("status")).to_have_text("DEMO\\dave has a Named CAL now.")


async def _screens_have_no_violations(page: Page, console: str) -> None:
    for screen in SCREENS:
        await page.goto(f"{console}_calgate/admin/{screen}")
        results = await Axe().run(page)
        assert results.violations_count == 0, f"{screen}: {results.generate_report()}"


async def _keyboard_alone_searches(page: Page, console: str) -> None:
    await page.goto(f"{console}_calgate/admin/holders")
    search = page.get_by_label("User, document or client")
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await search.evaluate("one => one === document.activeElement"):
            break
    await page.keyboard.type("dave")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="1 CAL", exact=True)).to_be_visible()
