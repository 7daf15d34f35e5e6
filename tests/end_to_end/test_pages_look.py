"""The pages in a real browser: readable by everybody, on every screen, with nothing that the policy must stop."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from calgate.pages import Pages
from calgate.pages.settings import PagesSection
from support.keyboard import FOCUS, is_after
from support.page_samples import LANGUAGES, NOW, VIEWER, every_page, no_cal
from support.screenshots import ARGS, CHROMIUM, SCHEMES, TRANSLATED, respond

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium"),
]
PAGES = every_page()
PROGRAM = replace(VIEWER, accept="application/problem+json")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield started
        started.close()


@pytest.fixture
def tab(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    settings = getattr(request, "param", {})
    context = browser.new_context(timezone_id="America/New_York", locale="en-GB", **settings)
    tab = context.new_page()
    tab.clock.install(time=NOW)
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    yield tab
    context.close()
    assert [c for c in complaints if "Failed to load resource" not in c] == []


LOOKS = [{"color_scheme": scheme, "viewport": {"width": 360, "height": 740}} for scheme in SCHEMES]


@pytest.mark.parametrize("tab", LOOKS, indirect=True, ids=SCHEMES)
def test_no_page_breaks_a_phone_or_locks_anybody_out(tab: Page) -> None:
    current = ""
    tab.route("**/*", lambda route: respond(route, PAGES[current]))
    for name in PAGES:
        current = name
        tab.goto("http://bi.corp.example/")
        found = Axe().run(tab)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360, name


@pytest.mark.parametrize("tab", LOOKS[:1], indirect=True, ids=SCHEMES[:1])
def test_no_language_breaks_a_phone(tab: Page) -> None:
    current = PAGES["no-cal"]
    tab.route("**/*", lambda route: respond(route, current))
    for language in LANGUAGES:
        pages = every_page(language)
        for name in TRANSLATED:
            current = pages[name]
            tab.goto("http://bi.corp.example/")
            assert tab.evaluate("document.documentElement.scrollWidth") <= 360, (language, name)
            if name == "no-cal":
                assert Axe().run(tab).violations_count == 0, language


@pytest.mark.parametrize("tab", LOOKS[:1], indirect=True, ids=SCHEMES[:1])
def test_keyboard_alone_reaches_everything_on_every_page_in_order_with_the_focus_visible(tab: Page) -> None:
    current = ""
    tab.route("**/*", lambda route: respond(route, PAGES[current]))
    for name in PAGES:
        current = name
        tab.goto("http://bi.corp.example/")
        there = tab.locator("a[href], button, input:not([type=hidden]), select, summary").filter(visible=True).count()
        reached: list[Mapping[str, Any]] = []
        while True:
            tab.keyboard.press("Tab")
            focus = tab.evaluate(FOCUS)
            if focus is None or (reached and focus["index"] <= reached[0]["index"]):
                break  # past the last, or at the first again
            assert focus["visible"], (name, focus)
            assert not reached or is_after(focus, reached[-1]), (name, focus, reached[-1])
            reached.append(focus)
        assert len(reached) == there, (name, reached)


@pytest.mark.parametrize("tab", LOOKS[:1], indirect=True, ids=SCHEMES[:1])
def test_denial_page_is_used_by_the_keyboard_alone(tab: Page) -> None:
    opened: list[str] = []

    def answer(route: Route) -> None:
        opened.append(route.request.url)
        respond(route, PAGES["no-cal"])

    tab.route("**/*", answer)
    tab.goto("http://bi.corp.example/doc")
    for _ in range(20):
        tab.keyboard.press("Tab")
        if tab.evaluate(FOCUS)["name"] == "Try again":
            break
    with tab.expect_navigation():
        tab.keyboard.press("Enter")
    assert "/opendoc.htm?document=" in opened[-1]


def test_times_are_the_readers_own(tab: Page) -> None:
    tab.route("**/*", lambda route: respond(route, PAGES["no-cal"]))
    tab.goto("http://bi.corp.example/")
    assert tab.locator(".next time").inner_text() == "07:35"


def test_times_are_utc_without_scripts(browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.route("**/*", lambda route: respond(route, PAGES["no-cal"]))
    tab.goto("http://bi.corp.example/")
    assert tab.locator(".next time").inner_text() == "12:35 UTC"
    context.close()


def test_waiting_page_moves_up_and_opens_the_document_by_itself(tab: Page) -> None:
    pages = Pages(PagesSection())
    place: int | None = 3

    def answer(route: Route) -> None:
        if place is None:
            route.fulfill(status=200, content_type="text/html", body="<title>Sales</title>the document")
            return
        asks_json = "problem+json" in route.request.headers["accept"]
        viewer = VIEWER if not asks_json else PROGRAM
        respond(route, pages.refuse(no_cal(place), viewer))

    tab.route("**/*", answer)
    tab.goto("http://bi.corp.example/doc")
    assert tab.locator("#place").inner_text() == "3"
    place = 2
    tab.clock.run_for(11_000)
    expect(tab.locator("#place")).to_have_text("2")
    expect(tab.locator("#status")).to_have_text("You have moved up: place 2.")
    place = None
    tab.clock.run_for(11_000)
    expect(tab).to_have_title("Sales")


def test_waiting_page_says_so_when_the_gateway_is_gone(tab: Page) -> None:
    tab.route("**/*", lambda route: respond(route, PAGES["waiting"]))
    tab.goto("http://bi.corp.example/doc")
    tab.unroute("**/*")
    tab.route("**/*", lambda route: route.abort())
    status = tab.locator("#status")
    tab.clock.run_for(11_000)
    expect(status).to_have_text("No response just now; trying again.")
    for _ in range(30):  # a question that is still under way when its time comes is not asked twice
        tab.clock.run_for(11_000)
        tab.evaluate("new Promise(requestAnimationFrame)")
        if "not answered" in status.inner_text():
            break
    expect(status).to_have_text("The gateway has not responded for a while. Choose “Ask again”.")


def test_denial_page_looks_by_itself_and_says_when_a_license_is_free(tab: Page) -> None:
    asked: list[str] = []
    free = False

    def answer(route: Route) -> None:
        if "/_calgate/" not in route.request.url:
            respond(route, PAGES["no-cal"])
            return
        asked.append(route.request.url)
        route.fulfill(status=200, content_type="application/json", body=json.dumps({"free": free}))

    tab.route("**/*", answer)
    tab.goto("http://bi.corp.example/doc")
    status, again = tab.locator("#status"), tab.locator("#again")
    expect(status).to_have_text("This page checks every half minute whether a license is free.")
    expect(again).not_to_have_class("main")
    tab.clock.run_for(31_000)
    expect(status).to_have_text("None is free yet; last checked at 07:00.")
    assert asked == ["http://bi.corp.example/_calgate/free?license=qlikview&kinds=session%2Cusage"]
    free = True
    tab.clock.run_for(31_000)
    expect(tab).to_have_title("A license is free now")
    expect(tab.get_by_role("heading", level=1)).to_have_text("A license is free now")
    expect(again).to_have_text("Open the document")
    expect(again).to_have_class("main")
    tab.clock.run_for(120_000)
    assert len(asked) == 2


def test_denial_page_stops_looking_where_nobody_responds(tab: Page) -> None:
    def answer(route: Route) -> None:
        if "/_calgate/" in route.request.url:
            route.fulfill(status=403, body="")
        else:
            respond(route, PAGES["no-cal"])

    tab.route("**/*", answer)
    tab.goto("http://bi.corp.example/doc")
    status = tab.locator("#status")
    for _ in range(30):
        tab.clock.run_for(31_000)
        tab.evaluate("new Promise(requestAnimationFrame)")
        if "stopped" in status.inner_text():
            break
    expect(status).to_have_text("This page has stopped checking. Choose “Try again”.")


def test_json_for_the_waiting_page_has_what_its_script_reads() -> None:
    problem: Mapping[str, object] = json.loads(Pages(PagesSection()).refuse(no_cal(3), PROGRAM).body)
    assert problem["code"] == "no-cal"
    assert problem["place"] == 3
