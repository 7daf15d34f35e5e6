"""Takes screenshots of every screen of the console, for `make photos`: desktop and phone size, light and dark."""

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from support.demonstration import Demo, demonstration, run
from support.ports import free_port
from support.screenshots import ARGS, CHROMIUM, SCHEMES, SIZES

PICTURE = Path(__file__).parents[2] / "deploy" / "guide" / "pictures" / "console.png"  # of the README
SCREENS = (
    *("overview", "holders", "holders?find=a", "denials", "queue", "use", "log", "person?user=DEMO%5Cdave", "sessions"),
    *("why?user=DEMO%5Cdave&document=Sales.qvw", "sign-ins", "servers", "health", "settings", "changes"),
)


def console_of(demo: Demo) -> str:
    """Returns the console's address, as the demonstration printed it."""
    [url] = re.findall(r"console, open this .*\n\n  (http\S+/)", demo.said)
    return str(url)


async def open_console(page: Page, console: str) -> None:
    """Opens the first page; the console's process may still be starting."""
    for _ in range(200):
        response = await page.goto(console)
        if response is not None and response.status == 200:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(await page.content())


async def take_picture_for_readme(browser: Browser, console: str) -> None:
    """Writes the overview as it is in the README; unlike the denial page it shows the time of day."""
    context = await browser.new_context(
        http_credentials={"username": "DEMO\\admin", "password": "demo"}, viewport={"width": 1000, "height": 740}
    )
    page = await context.new_page()
    await open_console(page, console)
    await page.goto(f"{console}_calgate/admin/overview")
    await page.screenshot(path=PICTURE)
    await context.close()


async def main(folder: Path) -> None:
    """Writes the images."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        async with demonstration(Path(home) / "demo", free_port()) as demo, async_playwright() as play:
            for line in re.findall(r"^  (curl .*)$", demo.said, re.MULTILINE):
                await run(line)
            browser = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
            await take_picture_for_readme(browser, console_of(demo))
            for size, (width, height) in SIZES.items():
                for scheme in SCHEMES:
                    context = await browser.new_context(
                        http_credentials={"username": "DEMO\\admin", "password": "demo"},
                        viewport={"width": width, "height": height},
                        color_scheme=scheme,
                    )
                    page = await context.new_page()
                    await open_console(page, console_of(demo))
                    for screen in SCREENS:
                        await page.goto(f"{console_of(demo)}_calgate/admin/{screen}")
                        name = re.sub(r"\W+", "-", screen.partition("=")[0])
                        await page.screenshot(path=folder / f"console-{name}-{size}-{scheme}.png", full_page=True)
                    await context.close()
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
