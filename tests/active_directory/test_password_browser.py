"""The password form in Chromium in front of a real domain, and leaving for somebody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from active_directory.test_chromium import browser as browser_with_ticket
from active_directory.test_password import NEW_PASSWORD, must_change, protected, umlaut
from support.domain import DOMAIN, PASSWORD, Lab
from support.domain_gateway import Front, front
from support.screenshots import ARGS, CHROMIUM

__all__ = ["must_change", "umlaut"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium"),
]
INSECURE = "[password]\ninsecure = true"  # Chromium with a ticket does not know the lab's certificate authority


@pytest_asyncio.fixture
async def site(domain: Lab, tmp_path: Path) -> AsyncIterator[Front]:
    async with protected(domain, tmp_path) as running:
        yield running


@asynccontextmanager
async def stranger(folder: Path, *, scripts: bool = True) -> AsyncIterator[BrowserContext]:
    """Chromium of a user without a ticket."""
    async with async_playwright() as play:
        chromium: Browser = await play.chromium.launch(
            executable_path=CHROMIUM, args=ARGS, env={"HOME": str(folder), "KRB5CCNAME": f"FILE:{folder}/none"}
        )
        yield await chromium.new_context(ignore_https_errors=True, java_script_enabled=scripts)
        await chromium.close()


async def note_dialogs(page: Page) -> list[str]:
    """Returns a list that grows with each dialog in which the browser itself would ask for a password."""
    dialogs: list[str] = []
    session = await page.context.new_cdp_session(page)
    tasks = set()

    def send(method: str, **words: object) -> None:
        task = asyncio.ensure_future(session.send(method, words))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def asked(event: dict[str, dict[str, str]]) -> None:
        dialogs.append(event["authChallenge"]["scheme"])
        answer = {"response": "CancelAuth"}
        send("Fetch.continueWithAuth", requestId=event["requestId"], authChallengeResponse=answer)

    session.on("Fetch.requestPaused", lambda event: send("Fetch.continueRequest", requestId=event["requestId"]))
    session.on("Fetch.authRequired", asked)
    await session.send("Fetch.enable", {"handleAuthRequests": True})
    return dialogs


async def enter(page: Page, user: str, password: str = PASSWORD) -> None:
    await page.get_by_label("Name", exact=True).fill(user)
    await page.get_by_label("Password", exact=True).fill(password)
    await page.get_by_role("button", name="Sign in").click()


async def test_user_without_a_ticket_signs_in_on_the_page_without_scripts_and_without_a_dialog(
    site: Front, tmp_path: Path, umlaut: str
) -> None:
    for user, account in (("alice", "alice"), (f"bob@{DOMAIN}", "bob"), (umlaut, umlaut)):
        async with stranger(tmp_path, scripts=False) as context:
            page = await context.new_page()
            dialogs = await note_dialogs(page)
            response = await page.goto(f"{site.url}/portal?x=1")
            assert response is not None
            assert (response.status, await response.header_value("www-authenticate")) == (401, "Negotiate")
            await enter(page, user)
            await expect(page).to_have_url(f"{site.url}/portal?x=1")
            assert site.users()[-1].encode("latin-1").decode() == f"CORP\\{account}"
            assert dialogs == []


async def test_expired_password_is_changed_on_a_page_that_everybody_can_use(
    site: Front, tmp_path: Path, must_change: str
) -> None:
    async with stranger(tmp_path) as context:
        page = await context.new_page()
        await page.goto(f"{site.url}/portal")
        await enter(page, must_change)
        await expect(page.get_by_role("heading", name="Change your password")).to_be_visible()
        assert (await Axe().run(page)).violations_count == 0
        await page.get_by_label("Old password").fill(PASSWORD)
        await page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
        await page.get_by_label("New password, once more").fill(NEW_PASSWORD)
        await page.get_by_role("button", name="Change password").click()
        await expect(page).to_have_url(f"{site.url}/portal")
        assert site.users()[-1] == f"CORP\\{must_change}"
        assert {cookie["name"] for cookie in await context.cookies()} == {"__Host-calgate"}, "the note is deleted"


async def test_page_to_change_a_password_does_not_work_in_another_browser(
    site: Front, tmp_path: Path, must_change: str
) -> None:
    async with stranger(tmp_path) as first, stranger(tmp_path) as second:
        page = await first.new_page()
        await page.goto(f"{site.url}/portal")
        await enter(page, must_change)
        await expect(page.get_by_label("Old password")).to_be_visible()
        elsewhere = await second.new_page()
        await elsewhere.goto(f"{site.url}/_calgate/sign-in/password/change")
        await expect(elsewhere.get_by_label("Old password")).to_have_count(0)
        await expect(elsewhere.get_by_label("Name", exact=True)).to_be_visible()


@pytest.fixture
def ticket_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "browser"
    folder.mkdir()
    return folder


async def test_somebody_else_signs_in_after_a_sign_out_and_the_ticket_signs_nobody_in_again(
    domain: Lab, tmp_path: Path, ticket_folder: Path
) -> None:
    async with (
        front(domain, tmp_path, password=INSECURE) as site,
        browser_with_ticket(domain, ticket_folder, "alice") as context,
    ):
        page = await context.new_page()
        await page.goto(f"{site.url}/portal")
        assert site.users()[-1] == "CORP\\alice"
        await page.goto(f"{site.url}/_calgate/sign-out")
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("link", name="Sign in as somebody else").click()
        await expect(page.get_by_label("Name", exact=True)).to_be_visible()
        assert [entry["user"] for entry in site.gate.decisions("signed in")] == ["CORP\\alice"]
        served = len(site.users())
        await enter(page, "CORP\\bob")
        await expect(page).to_have_url(f"{site.url}/")
        for path in ("/portal", "/docs/Sales", "/portal?again"):
            await page.goto(site.url + path)
        assert set(site.users()[served:]) == {"CORP\\bob"}


async def test_user_who_is_refused_lets_somebody_else_sign_in_or_returns_to_the_ticket_on_request(
    domain: Lab, tmp_path: Path, ticket_folder: Path
) -> None:
    async with (
        front(domain, tmp_path, password=INSECURE) as site,
        browser_with_ticket(domain, ticket_folder, "carol") as context,
    ):
        page = await context.new_page()
        await page.goto(f"{site.url}/docs/Sales")
        await page.get_by_role("link", name="Sign in as somebody else").click()
        await enter(page, "alice")
        await expect(page).to_have_url(f"{site.url}/docs/Sales")
        assert set(site.users()) == {"CORP\\alice"}
        await page.goto(f"{site.url}/_calgate/sign-in/?to=/portal")
        await page.get_by_role("link", name="signed in to Windows").click()
        await expect(page).to_have_url(f"{site.url}/portal")
        assert site.gate.decisions("signed in")[-1]["user"] == "CORP\\carol"
