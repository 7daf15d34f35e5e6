"""The queue in a real browser: a denied user waits on a page that keeps the place and continues by itself."""

import re
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from support.gateway_process import PASSWORD, DocumentServer, cookie_of, curl, gateway, write_settings
from support.screenshots import ARGS, CHROMIUM

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium"),
]
QUEUE = 'session = { in_license = 1, minimum = "1s" }\nqueue = true'


async def test_waiting_page_shows_the_place_and_opens_the_document_when_a_cal_comes_free(
    server: DocumentServer, tmp_path: Path
) -> None:
    async with gateway(write_settings(tmp_path, server.port, license=QUEUE)) as gate:
        document = f"{gate.url}/docs/sales"
        cookie = await cookie_of(gate, "alice")
        assert (await curl(document, "-H", f"Cookie: {cookie}")).status == 200
        async with async_playwright() as play:
            browser = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
            context = await browser.new_context(http_credentials={"username": "DEMO\\bob", "password": PASSWORD})
            page = await context.new_page()
            answer = await page.goto(document)
            assert answer is not None
            assert answer.status == 403
            await expect(page.get_by_role("heading", level=1)).to_have_text("You are in the queue")
            await expect(page.locator("#place")).to_have_text("1")
            late = await curl(document, user="carol")
            assert (late.json["code"], late.json["place"]) == ("no-cal", 2)
            out = await curl(f"{gate.url}/_calgate/sign-out", "-X", "POST", "-H", f"Cookie: {cookie}")
            assert out.status == 303
            await expect(page.get_by_role("heading", level=1)).to_have_text("a document", timeout=25_000)
            assert (await curl(document, user="carol")).json["place"] == 1, "nobody overtakes"
            await browser.close()
        assert re.search(r'"cal": ?"session"', gate.log.read_text())
