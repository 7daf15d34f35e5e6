"""The page for whoever signs the purchase."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from calgate_cal import commands
from support.screenshots import ARGS, CHROMIUM
from support.visits import SMALL, NoContext, site_logs


class Reader(HTMLParser):
    """Collects the elements and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def written(folder: Path, *words: object) -> Path:
    """The page of a plan."""
    file = folder / "plan.html"
    result = CliRunner().invoke(commands(NoContext()), ["plan", *map(str, words), "--html", str(file)])
    assert result.exit_code == 0, result.output
    return file


def test_page_has_the_answer_three_pictures_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    folder = site_logs(tmp_path / "logs", 12)
    text = written(tmp_path, folder, "--session", 7, "--price", "named=1,session=10").read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.tags.count("svg") == 3
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert not {"src", "href", "onload", "onclick"} & reader.attributes
    assert "url(" not in text
    for part in (": the cheapest mix found", "Named CAL", "proof: planned on", "How it was worked out"):
        assert any(part in piece for piece in reader.text), part


def test_names_are_escaped_and_can_be_left_out(tmp_path: Path) -> None:
    table = (SMALL / "D_month.csv").read_text().replace(",u1,", ",<script>alert(1)</script>,")
    (tmp_path / "t.csv").write_text(table)
    page = written(tmp_path, tmp_path / "t.csv", "--exclude", "u2").read_text()
    assert "<script" not in page
    folder = site_logs(tmp_path / "logs", 12)
    for file in folder.iterdir():
        file.write_text(file.read_text().replace("CORP\\user00", "CORP\\<i>user00"))
    page = written(tmp_path, folder, "--price", "named=1,session=10").read_text()
    assert ("CORP\\&lt;i&gt;user00" in page, "<i>" in page) == (True, False)
    assert "user00" not in written(tmp_path, folder, "--price", "named=1,session=10", "--names", "none").read_text()


@pytest.mark.browser
def test_page_prints_on_two_a4_pages(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    folder = site_logs(tmp_path / "logs", 26)
    words = ("--session", 7, "--price", "named=1,session=10", "--what-if", "idle_timeout=15m")
    page_file = written(tmp_path, folder, *words)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        page = browser.new_page()
        page.goto(page_file.as_uri())
        pdf = page.pdf(prefer_css_page_size=True)
        browser.close()
    assert pdf.count(b"/Type /Page\n") == 2
