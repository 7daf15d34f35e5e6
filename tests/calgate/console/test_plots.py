"""Charts as uPlot draws them, in Chromium: what is drawn, zoom, values under the pointer, size, colors, no script."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, Route, async_playwright, expect

from calgate.console.server import ConsoleServer
from calgate.endpoints import ADMIN
from calgate.plugin.screens import Chart, Curve, Inputs, Screen, Series, Step, View, Visitor
from support.console_requests import request_of
from support.screenshots import ARGS, CHROMIUM, SCHEMES, SIZES
from support.waiting import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.browser,
    pytest.mark.server,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium"),
]
ORIGIN = "http://cal.corp.example"
BEGIN, HOUR = 1_795_651_200.0, 3600.0  # 2026-11-26 00:00 UTC
SESSION = Series("Session", [1, 3, 4, 4, 6, 5], 6, [Step(BEGIN, 4), Step(BEGIN + 3.25 * HOUR, 6)])
CHART = Chart("In use", BEGIN, [SESSION, Series("Usage", [0, 0, 1, 0, 0, 0])], Series("Denials", [0, 0, 0, 2, 0, 0]))
CURVE = Curve("Denials by number", "Session CALs", "Attempts denied", [(4, 9), (6, 2), (8, 0)], 6)


async def show(visitor: Visitor, inputs: Inputs) -> View:
    return View([CHART, CURVE])


SERVER = ConsoleServer([Screen("things", "Things", show)], UTC, "UTC")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as play:
        started = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield started
        await started.close()


async def respond(route: Route) -> None:
    path = route.request.url.removeprefix(ORIGIN + ADMIN)
    response = await request_of(SERVER, path, "yes", route.request.headers.get("accept", ""))
    assert isinstance(response.body, bytes)
    await route.fulfill(status=response.status, headers=dict(response.headers), body=response.body)


@contextlib.asynccontextmanager
async def opened(browser: Browser, **settings: Any) -> AsyncIterator[Page]:
    """Opens the screen; nothing may end up in the browser's console, such as what the policy had to stop."""
    context = await browser.new_context(**settings)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.route("**/*", respond)
    await page.goto(f"{ORIGIN}{ADMIN}things")
    yield page
    await context.close()
    assert complaints == []


DRAWN = """() => [...plots.values()].map((plot) => ({
  times: plot.data[0], lines: plot.series.slice(1).map((one, index) => [one.label, plot.data[index + 1]]),
  shown: [plot.scales.x.min, plot.scales.x.max], width: plot.width,
}))"""


async def test_chart_has_a_line_a_kind_the_limit_as_it_was_and_a_mark_for_each_hour_with_denials(
    browser: Browser,
) -> None:
    async with opened(browser) as page:
        use, curve = await page.evaluate(DRAWN)
        hours = [
            BEGIN + hour * HOUR for hour in (0, 1, 2, 3, 3.25, 3.5, 4, 5, 6)
        ]  # a change, and a mark within its hour
        assert use["times"] == hours
        assert dict(use["lines"]) == {
            "Session": [1, 3, 4, 4, 4, 4, 6, 5, 5],
            "Session, limit": [4, 4, 4, 4, 6, 6, 6, 6, 6],
            "Usage": [0, 0, 1, 0, 0, 0, 0, 0, 0],
            "Denials": [None, None, None, None, None, 2, None, None, None],
        }
        assert (curve["times"], curve["lines"]) == (
            [4, 6, 8],
            [["Attempts denied", [9, 2, 0]], ["As it is now", [None, 2, None]]],
        )
        await expect(page.get_by_role("img", name="In use")).to_have_count(1)
        await expect(page.locator("svg.chart:visible")).to_have_count(0)


async def test_pointer_shows_values_and_dragging_looks_closer(browser: Browser) -> None:
    async with opened(browser) as page:
        field = page.locator(".u-over").first
        box = await field.bounding_box()
        assert box is not None
        at = [box["x"] + box["width"] * part for part in (0.25, 0.5, 0.75)]
        middle = box["y"] + box["height"] / 2
        await page.mouse.move(at[1], middle)
        legend = page.locator(".u-legend").first
        await expect(legend).to_contain_text("2026-11-26 03:00")
        for label, value in (("Session, limit", "4"), ("Denials", "2")):
            await expect(legend.locator(".u-series", has_text=label).locator(".u-value")).to_have_text(value)
        await page.mouse.move(at[0], middle)
        await page.mouse.down()
        await page.mouse.move(at[2], middle, steps=4)
        await page.mouse.up()
        first, last = (await page.evaluate(DRAWN))[0]["shown"]
        assert BEGIN + HOUR < first < last < BEGIN + 5 * HOUR
        await page.mouse.dblclick(at[1], middle)
        assert (await page.evaluate(DRAWN))[0]["shown"] == [BEGIN, BEGIN + 6 * HOUR]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_chart_fits_the_page_follows_its_width_and_is_accessible(
    browser: Browser, size: str, scheme: str
) -> None:
    width, height = SIZES[size]
    async with opened(browser, viewport={"width": width, "height": height}, color_scheme=scheme) as page:
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        before = (await page.evaluate(DRAWN))[0]["width"]
        await page.set_viewport_size({"width": width - 20, "height": height})
        await until(lambda: page.evaluate(f"[...plots.values()][0].width === {before - 20}"))
        await page.locator("summary", has_text="Figures").click()
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


async def test_chart_takes_the_colors_of_a_scheme_that_changes(browser: Browser) -> None:
    async with opened(browser, color_scheme="light") as page:
        picture = "document.querySelector('canvas').toDataURL()"
        light = await page.evaluate(f"window.first = [...plots.values()][0], {picture}")
        await page.emulate_media(color_scheme="dark")
        await until(lambda: page.evaluate("[...plots.values()][0] !== first"))
        assert await page.locator("canvas").count() == 2
        assert await page.evaluate(f"new Promise(requestAnimationFrame).then(() => {picture})") != light


async def test_chart_is_a_picture_and_a_table_without_script(browser: Browser) -> None:
    async with opened(browser, java_script_enabled=False) as page:
        await expect(page.locator("svg.chart")).to_have_count(2)
        await expect(page.locator("svg.chart").first).to_be_visible()
        await expect(page.get_by_text("Drag across")).to_have_count(2)
        await expect(page.get_by_text("Drag across").first).to_be_hidden()
        await page.locator("summary", has_text="Figures").click()
        row = page.get_by_role("row").filter(has_text="2026-11-26 03:00")
        assert await row.get_by_role("cell").all_inner_texts() == ["2026-11-26 03:00", "4", "6", "0", "2"]
