"""Screens that refresh themselves, in Chromium: what changes, what waits, and what ends it. No gateway runs."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, Route, async_playwright, expect

from calgate.console.server import ConsoleServer
from calgate.endpoints import ADMIN
from calgate.plugin.screens import (
    Action,
    Button,
    Column,
    Field,
    Form,
    Inputs,
    Notice,
    Outcome,
    Screen,
    Search,
    Table,
    View,
    Visitor,
)
from support.console_requests import request_of
from support.screenshots import ARGS, CHROMIUM
from support.waiting import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.browser,
    pytest.mark.server,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium"),
]
ORIGIN = "http://cal.corp.example"
EXPECTED = ("Status Error Code", "Failed to load", "htmx:evalDisallowedError")  # refusals that tests bring about
CHOICES = (("a", "A"), ("b", "B"))


class Site:
    """A console with one screen that refreshes itself; `status` is what its refreshes get."""

    def __init__(self) -> None:
        action = Action("admin", self._change)
        self.server = ConsoleServer([Screen("things", "Things", self._show, {"take": action})], UTC, "UTC")
        self.shown = 1
        self.is_live = True
        self.refreshes = 0
        self.status = 200
        self.body = ""  # of another page in place of the console's

    async def respond(self, route: Route) -> None:
        """Responds to the browser as gateway and console's process would."""
        request = route.request
        path = request.url.removeprefix(ORIGIN + ADMIN)
        is_refresh = request.headers.get("x-calgate-live") == "1"
        self.refreshes += is_refresh
        if is_refresh and (self.status != 200 or self.body):
            await route.fulfill(status=self.status, body=self.body, content_type="text/html")
            return
        response = await request_of(self.server, path, "yes", request.headers.get("accept", ""))
        body = response.body
        assert isinstance(body, bytes)
        await route.fulfill(status=response.status, headers=dict(response.headers), body=body)

    async def _show(self, visitor: Visitor, inputs: Inputs) -> View:
        table = Table("Rows", [Column("name", "Name")], [{"id": "1", "name": "row"}], [Button("things/take", "Take")])
        search = Search([Field("kind", "Kind", "b", CHOICES), Field("other", "Other", "", CHOICES)])
        form = Form("Add", "things/take", "Add", [Field("user", "User")])
        return View([Notice(f"shown {self.shown}"), search, table, form], is_live=self.is_live)

    async def _change(self, visitor: Visitor, inputs: Inputs) -> list[Outcome]:
        return [Outcome("taken")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as play:
        started = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield started
        await started.close()


@contextlib.asynccontextmanager
async def opened(browser: Browser, site: Site, query: str = "") -> AsyncIterator[Page]:
    """Opens the screen with a clock that stands still until the test moves it."""
    context = await browser.new_context()
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.clock.install()
    await page.route("**/*", site.respond)
    await page.goto(f"{ORIGIN}{ADMIN}things{query}")
    await page.evaluate("window.isSamePage = true")
    yield page
    assert await page.evaluate("window.isSamePage"), "the page was loaded again"
    await context.close()
    assert [text for text in complaints if not any(known in text for known in EXPECTED)] == []


async def next_refresh(page: Page, site: Site) -> None:
    """Lets the next refresh take place."""
    before = site.refreshes
    await page.clock.run_for(5_000)
    await until(lambda: site.refreshes > before)


async def test_screen_shows_what_is_new_without_a_reload_and_keeps_the_outcome_of_a_change(browser: Browser) -> None:
    site = Site()
    done = await request_of(site.server, "things/take", "yes", "text/html", {"row": "1"})
    mark = done.headers["Location"].partition("?")[2]
    async with opened(browser, site, f"?{mark}") as page:
        await expect(page.get_by_role("status")).to_have_text("taken")
        for shown in (2, 3):
            site.shown = shown
            await next_refresh(page, site)
            await expect(page.get_by_text(f"shown {shown}")).to_be_visible()
        await expect(page.get_by_role("status")).to_have_text("taken")
        await page.get_by_role("checkbox", name="Select all rows").check()
        await expect(page.get_by_role("checkbox", name="Select row 1")).to_be_checked()


async def test_screen_that_comes_into_view_again_refreshes_at_once(browser: Browser) -> None:
    site = Site()
    async with opened(browser, site) as page:
        site.shown = 2
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await expect(page.get_by_text("shown 2")).to_be_visible()
        assert site.refreshes == 1


async def test_markup_of_a_response_runs_no_code(browser: Browser) -> None:
    site = Site()
    async with opened(browser, site) as page:
        await page.evaluate("window.ran = []")
        site.body = (
            '<main id="content">new<script>ran.push(1)</script><p hx-on::load="ran.push(2)"></p>'
            '<p hx-trigger="load[ran.push(3)]" hx-get="/"></p><p hx-vals="js:{x: ran.push(4)}"></p></main>'
        )
        await next_refresh(page, site)
        await expect(page.locator("main")).to_have_text("new")
        config = await page.evaluate("htmx.config")
        assert (await page.evaluate("ran"), config["allowEval"], config["allowScriptTags"]) == ([], False, False)
        assert (config["selfRequestsOnly"], config["historyCacheSize"]) == (True, 0)


async def test_screen_that_is_complete_refreshes_no_more(browser: Browser) -> None:
    site = Site()
    async with opened(browser, site) as page:
        site.shown, site.is_live = 2, False
        await next_refresh(page, site)
        await expect(page.get_by_text("shown 2")).to_be_visible()
        await page.clock.run_for(60_000)
        await page.evaluate("fetch(location.href)")  # a refresh would have been sent before it
        assert site.refreshes == 1


WORK: Mapping[str, tuple[Callable[[Page], Locator], str, str]] = {
    "text": (lambda page: page.get_by_label("User"), "one => one.value = 'bo'", "one => one.value = ''"),
    "box": (lambda page: page.get_by_label("Select row 1"), "one => one.checked = true", "one => one.checked = false"),
    "list": (lambda page: page.get_by_label("Kind"), "one => one.value = 'a'", "one => one.value = 'b'"),
    "details": (lambda page: page.locator("details.grave").first, "one => one.open = true", "one => one.open = false"),
    "focus": (lambda page: page.get_by_label("User"), "one => one.focus()", "one => one.blur()"),
    "hidden": (
        lambda page: page.locator("html"),
        "() => Object.defineProperty(document, 'hidden', { value: true, configurable: true })",
        "() => { delete document.hidden }",
    ),
}


@pytest.mark.parametrize("kind", WORK)
async def test_refresh_waits_while_somebody_is_at_work_or_nobody_looks(browser: Browser, kind: str) -> None:
    find, begin, end = WORK[kind]
    site = Site()
    async with opened(browser, site) as page:
        await find(page).evaluate(begin)
        await page.clock.run_for(30_000)
        await page.evaluate("fetch(location.href)")
        assert site.refreshes == 0
        await find(page).evaluate(end)
        site.shown = 2
        await next_refresh(page, site)
        await expect(page.get_by_text("shown 2")).to_be_visible()


async def test_response_that_arrives_while_somebody_types_changes_nothing(browser: Browser) -> None:
    site = Site()
    async with opened(browser, site) as page:
        waiting: list[Route] = []
        await page.route("**/*", lambda route: waiting.append(route))
        site.shown = 2
        await page.clock.run_for(5_000)
        await until(lambda: waiting)
        await page.get_by_label("User").fill("bo")
        async with page.expect_response("**/*"):
            await site.respond(waiting[0])
        await page.clock.run_for(1_000)
        await expect(page.get_by_label("User")).to_have_value("bo")
        await expect(page.get_by_text("shown 1")).to_be_visible()


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_refresh_closes_the_page_and_is_the_last(browser: Browser, status: int) -> None:
    site = Site()
    async with opened(browser, site) as page:
        site.status = status
        await next_refresh(page, site)
        await expect(page.get_by_text("The console is closed")).to_be_visible()
        await expect(page.get_by_text("shown 1")).to_have_count(0)
        await page.clock.run_for(60_000)
        await page.evaluate("fetch(location.href)")
        assert site.refreshes == 1


@pytest.mark.parametrize(("status", "body"), [(500, ""), (200, "<title>Hotel</title>Sign in")], ids=["500", "another"])
async def test_page_that_gets_no_new_content_three_times_says_so_and_recovers(
    browser: Browser, status: int, body: str
) -> None:
    site = Site()
    async with opened(browser, site) as page:
        stale = page.get_by_text("This page could not be refreshed")
        site.status, site.body = status, body
        for _ in range(3):
            await expect(stale).to_be_hidden()
            await next_refresh(page, site)
        await expect(stale).to_be_visible()
        await expect(page.get_by_text("shown 1")).to_be_visible()
        site.status, site.body = 200, ""
        await next_refresh(page, site)
        await expect(stale).to_be_hidden()
