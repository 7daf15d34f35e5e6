"""Takes screenshots of every page, in desktop and phone size, light and dark: `make photos` writes them to .photos/.

The pages that people see most are there in every language, and the README has one of them.
"""

import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Route, sync_playwright

from calgate.pages import RenderedPage
from support.page_samples import LANGUAGES, NOW, every_page

CHROMIUM = "/usr/bin/chromium"
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
SIZES = {"desktop": (1280, 900), "phone": (360, 740)}
TRANSLATED = ("no-cal", "waiting", "sign-in-needed", "forbidden", "sign-in-form", "change-password-refused")
PICTURE = Path(__file__).parents[2] / "deploy" / "guide" / "pictures" / "denial.png"  # of the README
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


def respond(route: Route, page: RenderedPage) -> None:
    """Responds to the browser with the page and the headers that the gateway sends."""
    route.fulfill(status=page.status, headers=dict(page.headers), body=page.body)


def take_screenshots(browser: Browser, name: str, page: RenderedPage, folder: Path) -> None:
    """Writes four images of the page."""
    for size, (width, height) in SIZES.items():
        for scheme in SCHEMES:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, timezone_id="Europe/Berlin"
            )
            tab = context.new_page()
            tab.clock.set_fixed_time(NOW)
            tab.route("**/*", lambda route: respond(route, page))
            tab.goto("http://bi.corp.example/")
            tab.screenshot(path=folder / f"{name}-{size}-{scheme}.png", full_page=True)
            context.close()


def main(folder: Path, wanted: list[str]) -> None:
    """Takes screenshots of the wanted pages, or of all."""
    folder.mkdir(exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        for name, page in every_page().items():
            if not wanted or name in wanted:
                take_screenshots(browser, name, page, folder)
        for language in LANGUAGES:
            pages = every_page(language)
            for name in TRANSLATED:
                if not wanted or name in wanted:
                    take_screenshots(browser, f"{name}.{language}", pages[name], folder)
        if not wanted:
            take_picture_for_readme(browser)
        browser.close()


def take_picture_for_readme(browser: Browser) -> None:
    """Writes the denial page as it is in the README."""
    context = browser.new_context(viewport={"width": 720, "height": 600}, color_scheme="light", timezone_id="UTC")
    tab = context.new_page()
    tab.clock.set_fixed_time(NOW)
    tab.route("**/*", lambda route: respond(route, every_page("en-GB")["no-cal"]))
    tab.goto("http://bi.corp.example/")
    tab.screenshot(path=PICTURE, full_page=True)
    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
