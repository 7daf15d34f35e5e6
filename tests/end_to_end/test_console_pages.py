"""The console's pages in Chromium: frames, no script, the keyboard alone, roles, pages that are out of date."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from calgate_users import edit, ntlmv2
from support.console_site import ADMIN, Console, running
from support.gateway_process import PASSWORD, curl, document_server
from support.keyboard import FOCUS, is_after
from support.screenshots import ARGS, CHROMIUM
from support.waiting import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium"),
]
SCREENS = (
    *("overview", "holders", "denials", "denials?group=person", "queue", "use", "log", "person?user=alice"),
    *("sessions", "why?user=alice&document=a.qvw", "sign-ins", "servers", "health", "settings", "changes"),
)
ODD = '<img src=x onerror=alert(1)> "q" & 100%41 #1 +'  # curl sends no others
FOREIGN = "J\u00fcrgen \u05d2\u05d1\u05d0 \u76e3 & 100%25"
DOCUMENT = "q&a + ü \u05d2\u05d1\u05d0 監 'x'.qvw"
LONG = "a_very_long_name_" * 15 + "."  # 256 characters


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Console]:
    folder = tmp_path_factory.mktemp("console")
    nt_hash = ntlmv2.nt_hash(PASSWORD)
    for name in (ODD, FOREIGN):
        edit.add(folder / "users.toml", name, domain="DEMO", display_name=LONG, groups=("app-users",), nt_hash=nt_hash)
    async with document_server() as server, running(folder, server) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as play:
        started = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield started
        await started.close()


@contextlib.asynccontextmanager
async def tab_of(browser: Browser, user: str, *, script: bool = True) -> AsyncIterator[Page]:
    """Opens a browser's tab as a user of the site."""
    credentials: Any = {"username": f"DEMO\\{user}", "password": PASSWORD}
    context = await browser.new_context(http_credentials=credentials, java_script_enabled=script)
    yield await context.new_page()
    await context.close()


async def test_frame_of_the_console_stays_empty_even_in_a_page_of_its_own_origin(
    console: Console, browser: Browser
) -> None:
    async with tab_of(browser, "root") as page:
        await page.goto(f"{console.url}{ADMIN}holders")
        await expect(page.get_by_role("heading", name="Who holds what")).to_be_visible()
        framing = f'<iframe src="{console.url}{ADMIN}holders"></iframe>'
        await page.route("**/framing", lambda route: route.fulfill(content_type="text/html", body=framing))
        for origin in (console.url, console.gate.url, "http://evil.example"):
            await page.goto(f"{origin}/framing")
            frame = page.frames[1]
            await frame.wait_for_load_state()
            assert frame.url.startswith("chrome-error:"), origin
            assert "Who holds what" not in await frame.content()


async def test_every_screen_is_read_and_every_kind_of_action_done_without_script(
    console: Console, browser: Browser
) -> None:
    async with tab_of(browser, "root", script=False) as page:
        for screen in SCREENS:
            response = await page.goto(f"{console.url}{ADMIN}{screen}")
            assert response is not None
            assert response.status == 200, screen
            await expect(page.locator("h1")).to_be_visible()
        status = page.get_by_role("status")

        await page.goto(f"{console.url}{ADMIN}holders")  # a form
        form = page.locator("form", has=page.get_by_role("button", name="Assign"))
        await form.get_by_label("User").fill("DEMO\\carol")
        await form.get_by_label("Reason").fill("new colleague")
        await form.get_by_role("button", name="Assign").click()
        await expect(status).to_have_text("DEMO\\carol has a Named CAL now.")

        await page.get_by_label("Find in the directory").fill("dav")  # a search in the directory
        await page.get_by_role("button", name="Find people").click()
        found = page.locator("form", has=page.get_by_role("cell", name="DEMO\\dave"))
        await found.get_by_role("checkbox", name="Select row").check()
        await found.get_by_label("Document").fill("sales.qvw")
        await found.get_by_role("button", name="Assign").click()
        await expect(status).to_contain_text("DEMO\\dave")  # there is no Document CAL to assign
        await expect(page.get_by_role("region", name="Found in the directory")).to_be_visible()

        await page.get_by_label("User, document or client").fill("carol")  # a search
        await page.get_by_role("button", name="Show").click()
        await page.get_by_role("checkbox", name="Select row").check()  # a button of a table that takes something away
        await page.get_by_text("Remove …").click()
        await page.get_by_role("button", name="Remove now").click()
        await expect(status).to_have_text("DEMO\\carol's Named CAL is free.")

        await page.goto(f"{console.url}{ADMIN}servers")  # a button of a table
        await page.get_by_role("checkbox", name="Select row").first.check()
        await page.get_by_role("button", name="Restore", exact=True).click()
        await expect(status).to_contain_text("takes sessions again")

        await page.goto(f"{console.url}{ADMIN}use")  # a form that takes something away
        form = page.locator("form", has=page.get_by_label("Most in use"))
        await form.get_by_label("Most in use").fill("default")
        await form.get_by_text("Set the limit …").click()
        await form.get_by_role("button", name="Set the limit now").click()
        await expect(status).to_contain_text("The limit of Session CALs is default now")

        await page.goto(f"{console.url}{ADMIN}health")  # a form without fields
        await page.get_by_role("button", name="Run the check now").click()
        await expect(status).to_have_text("The check has begun.")


async def test_action_is_done_by_the_keyboard_alone_with_the_focus_always_visible(
    console: Console, browser: Browser
) -> None:
    assert (await console.post("root", "holders/assign", {"user": "DEMO\\dave"})).status == 200
    async with tab_of(browser, "root") as page:
        await page.goto(f"{console.url}{ADMIN}holders?search=dave")
        await _tab_to(page, "User, document or client")
        await _tab_to(page, "Select row 1")
        await page.keyboard.press("Space")
        await _tab_to(page, "Reason (for the log, optional)")
        await page.keyboard.type("left the company")
        await _tab_to(page, "Remove …")
        await page.keyboard.press("Enter")
        await _tab_to(page, "Remove now")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_have_text("DEMO\\dave's Named CAL is free.")
    [record] = [row for row in await console.rows("rita", "log?what=removed") if row["name"] == "DEMO\\dave"]
    assert record["reason"] == "left the company"


async def _tab_to(page: Page, name: str) -> None:
    """Presses Tab until the element of this name has the focus; every element on the way shows its focus."""
    last: dict[str, Any] | None = None
    for _ in range(60):
        await page.keyboard.press("Tab")
        focus = await page.evaluate(FOCUS)
        assert focus is not None, f"the focus left the page before {name}"
        assert focus["visible"], focus
        assert last is None or is_after(focus, last), (focus, last)
        if focus["name"] == name:
            return
        last = focus
    raise AssertionError(f"{name} is not reached")


async def test_roles_see_only_what_they_may_do_and_a_page_that_is_changed_does_no_more(
    console: Console, browser: Browser
) -> None:
    assert (await console.post("root", "holders/assign", {"user": "DEMO\\carol"})).status == 200
    assert (await curl(f"{console.gate.url}/portal", user="alice")).status == 200
    for user, offered in (("rita", set[str]()), ("helen", {"End Session CALs"})):
        async with tab_of(browser, user) as page:
            await page.goto(f"{console.url}{ADMIN}holders")
            content = page.locator("main")
            buttons = {
                *await content.get_by_role("button").all_inner_texts(),
                *await content.locator("summary").all_inner_texts(),
            }
            assert {text.removesuffix(" …").removesuffix(" now") for text in buttons if text} - {"Show"} == offered
            await expect(page.get_by_role("link", name="Settings")).to_have_count(0)
    async with tab_of(browser, "helen") as page:
        await page.goto(f"{console.url}{ADMIN}holders?search=carol")
        await page.get_by_role("checkbox", name="Select row").check()
        button = page.locator("button[formaction]").first
        await button.evaluate(f"one => {{ one.formAction = '{ADMIN}holders/remove'; one.click() }}")
        await expect(page.get_by_text("Your role may not do this; it takes admin.")).to_be_visible()
    async with tab_of(browser, "alice") as page:  # whom access rules let in
        response = await page.goto(f"{console.url}{ADMIN}")
        assert response is not None
        assert response.status == 403
        await expect(page.get_by_text("Who holds what")).to_have_count(0)
    assert await console.rows("root", "holders?search=carol")


async def test_page_from_before_the_sign_out_changes_nothing_though_the_browser_signs_in_again(
    console: Console, browser: Browser
) -> None:
    async with tab_of(browser, "root", script=False) as page:  # with scripts, the sign-out would close it
        await page.goto(f"{console.url}{ADMIN}holders")
        form = page.locator("form", has=page.get_by_role("button", name="Assign"))
        await form.get_by_label("User").fill("DEMO\\bob")
        other = await page.context.new_page()
        await other.goto(f"{console.url}{ADMIN}")
        await other.get_by_role("button", name="Sign out").click()
        await expect(other.get_by_role("heading", name="You are signed out")).to_be_visible()
        await other.goto(f"{console.url}{ADMIN}")  # signs in again, with another session
        await expect(other.get_by_role("button", name="Sign out")).to_be_visible()
        await form.get_by_role("button", name="Assign").click()
        await page.wait_for_url("**/holders/assign")  # refused: what is done leads back to the screen
        await expect(page.get_by_role("status")).to_have_count(0)
    assert not await console.rows("rita", "holders?search=bob")


async def test_sign_out_and_an_ended_session_close_the_other_tabs_and_sign_nobody_in_again(
    console: Console, browser: Browser
) -> None:
    async with tab_of(browser, "root") as holders:
        overview, other = await holders.context.new_page(), await holders.context.new_page()
        await overview.clock.install()
        await holders.goto(f"{console.url}{ADMIN}holders")
        await overview.goto(f"{console.url}{ADMIN}overview")
        await other.goto(f"{console.url}{ADMIN}queue")
        mine = {row["id"] for row in await console.rows("helen", "sessions?search=root")}
        await other.get_by_role("button", name="Sign out").click()
        for page in (holders, overview):
            await expect(page.get_by_text("The console is closed")).to_be_visible()
            await expect(page.locator("main").get_by_role("heading")).to_have_count(0)
        await overview.clock.run_for(12_000)
        left = {row["id"] for row in await console.rows("helen", "sessions?search=root")}
        assert left < mine

        await overview.goto(f"{console.url}{ADMIN}overview")  # signs in again: somebody opened it
        await expect(overview.get_by_role("heading", name="Overview")).to_be_visible()
        new = {row["id"] for row in await console.rows("helen", "sessions?search=root")} - left
        assert (await console.post("helen", "sessions/end", {"row": [*new]})).status == 200
        await overview.clock.run_for(6_000)
        await expect(overview.get_by_text("The console is closed")).to_be_visible()
        assert not {row["id"] for row in await console.rows("helen", "sessions?search=root")} - left


async def test_page_that_cannot_be_refreshed_says_so(console: Console, browser: Browser) -> None:
    async with tab_of(browser, "rita") as page:
        await page.clock.install()
        await page.goto(f"{console.url}{ADMIN}queue")
        await page.route("**/*", lambda route: route.abort())
        stale = page.get_by_text("This page could not be refreshed")
        await expect(stale).to_be_hidden()

        async def is_told() -> bool:
            await page.clock.run_for(6_000)
            return bool(await stale.is_visible())

        await until(is_told)
        await page.unroute("**/*")

        async def is_over() -> bool:
            return not await is_told()

        await until(is_over)


async def test_all_rows_are_selected_at_once_and_a_screen_that_refreshes_keeps_what_was_done(
    console: Console, browser: Browser
) -> None:
    for user in ("carol", "dave"):
        await console.post("root", "holders/assign", {"user": f"DEMO\\{user}"})
    async with tab_of(browser, "root") as page:
        await page.goto(f"{console.url}{ADMIN}holders?kind=named")
        await page.get_by_role("checkbox", name="Select all rows").check()
        await page.get_by_text("Remove …").click()
        await page.get_by_role("button", name="Remove now").click()
        for user in ("carol", "dave"):
            await expect(page.get_by_text(f"DEMO\\{user}'s Named CAL is free.")).to_be_visible()
        await expect(page.get_by_text("No CAL matches.")).to_be_visible()


async def test_name_with_any_characters_is_the_same_in_every_screen_link_and_form(
    console: Console, browser: Browser
) -> None:
    name = f"DEMO\\{ODD}"
    document = f"{console.gate.url}/docs/{quote(DOCUMENT)}"
    assert [(await curl(document, user=user)).status for user in (ODD, "alice", "bob")] == [200, 200, 403]
    async with tab_of(browser, "root") as page:
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        await page.goto(f"{console.url}{ADMIN}denials?group=document")
        await page.get_by_role("link", name=DOCUMENT, exact=True).click()  # a link leads to this document
        await expect(page.get_by_role("textbox", name="Document")).to_have_value(DOCUMENT)
        await expect(page.get_by_role("cell", name=DOCUMENT, exact=True)).to_be_visible()
        await page.goto(f"{console.url}{ADMIN}log")
        await page.get_by_label("Contains").fill(ODD)
        await page.get_by_role("button", name="Find").click()
        await expect(page.get_by_label("Contains")).to_have_value(ODD)  # a form keeps what was sent, and finds it
        await expect(page.get_by_role("cell", name=DOCUMENT, exact=True).first).to_be_visible()
        await page.get_by_role("link", name=name, exact=True).first.click()  # and to this person
        await expect(page.get_by_label("User", exact=True).first).to_have_value(name)
        await expect(page.get_by_role("definition").filter(has_text=name).first).to_have_text(name)
        await expect(page.get_by_text("Not signed in.")).to_have_count(0)
        await page.get_by_role("link", name="why, or why not", exact=True).click()
        await page.get_by_role("textbox", name="Document").fill(DOCUMENT)
        await page.get_by_role("button", name="Explain").click()
        await expect(page.get_by_text(f"{name} may open {DOCUMENT} from 127.0.0.1")).to_be_visible()
        await page.goto(f"{console.url}{ADMIN}holders?search={quote(ODD)}")
        await page.get_by_role("checkbox", name="Select row").check()  # a form's row is this row
        await page.get_by_text("End at once …").click()
        await page.get_by_role("button", name="End at once now").click()
        await expect(page.get_by_role("status")).to_have_text(f"{name}'s Session CAL on 127.0.0.1 is free.")
        await page.goto(f"{console.url}{ADMIN}person?user={quote(FOREIGN)}")
        await page.get_by_role("button", name="Assign", exact=True).click()
        await expect(page.get_by_role("status")).to_have_text(f"DEMO\\{FOREIGN} has a Named CAL now.")
        await page.get_by_role("checkbox", name="Select row").check()
        await page.get_by_text("Remove …").click()
        await page.get_by_role("button", name="Remove now").click()
        await expect(page.get_by_role("status")).to_have_text(f"DEMO\\{FOREIGN}'s Named CAL is free.")
        assert dialogs == []


async def test_name_of_256_characters_breaks_no_screen_on_a_phone(console: Console, browser: Browser) -> None:
    for user in ("alice", "bob", ODD):  # two are served, and one is denied
        await curl(f"{console.gate.url}/docs/{LONG[:230]}{user[0].replace('<', 'x')}", user=user)
    async with tab_of(browser, "root") as page:
        await page.set_viewport_size({"width": 360, "height": 740})
        for screen in (*SCREENS, f"person?user={quote(ODD)}", f"holders?search={LONG}", f"why?user=alice&path=/{LONG}"):
            await page.goto(f"{console.url}{ADMIN}{screen}")
            wide = await page.evaluate("document.documentElement.scrollWidth")
            cut = await page.evaluate(
                "[...document.querySelectorAll('.scroll')].filter(x => x.scrollWidth > x.clientWidth).length"
            )
            assert (wide, cut) == (360, 0), screen
    for row in await console.rows("root", "holders?kind=session"):
        await console.post("root", "holders/force", {"row": row["id"]})
