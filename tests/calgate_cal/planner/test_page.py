"""The page for the person who signs the purchase."""

import re
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
    for part in ("this is the cheapest mix found", "Named CAL", "Proof: planned on", "How it was worked out"):
        assert any(part in piece for piece in reader.text), part


def headline(page: str) -> list[str]:
    """The heading of the page, and the sentence under it."""
    found = re.search("<h1>(.*?)</h1><p>(.*?)</p>", page)
    assert found is not None
    return list(found.groups())


@pytest.mark.parametrize(
    ("words", "buy", "brings"),
    [
        ("", "You need 11 Session CALs.", "They keep denials below 1 %."),
        ("--session 11", "Buy nothing.", "11 Session CALs (as now) are enough: they keep denials below 1 %."),
        ("--session 20", "Buy nothing.", "11 Session CALs (9 fewer than now) are enough: they keep"),
        ("--session 10", "Buy 1 Session CAL.", "You then have 11 Session CALs (1 more than now): they keep"),
        (
            *("--named 10 --session 6 --price named=1,session=10", "Buy 2 Session CALs for 20."),
            "You then have 10 Named CALs (as now) and 8 Session CALs (2 more than now): this is the cheapest mix found",
        ),
        (
            *("--named 3 --session 12 --price named=1,session=10", "Buy nothing."),
            "3 Named CALs (as now) and 10 Session CALs (2 fewer than now) are enough: this is the cheapest mix found",
        ),
        (
            *("--session 4 --price named=1,session=10", "Buy 14 Named CALs and 5 Session CALs for 64."),
            "You then have 14 Named CALs (14 more than now) and 9 Session CALs (5 more than now): this is the",
        ),
        ("--price named=1,session=10", "You need 14 Named CALs and 9 Session CALs, for 104 in all.", "This is the"),
    ],
)
def test_page_begins_with_what_to_buy(tmp_path: Path, words: str, buy: str, brings: str) -> None:
    page = written(tmp_path, site_logs(tmp_path / "logs", 12, users=120), *words.split()).read_text()
    said = headline(page)
    assert said[0] == buy
    assert said[1].startswith(brings)


def test_page_says_which_cals_are_for_the_growth_of_use(tmp_path: Path) -> None:
    folder = site_logs(tmp_path / "logs", 26, users=120)
    words = ("--named", 10, "--session", 6, "--price", "named=1,session=10")
    said = headline(written(tmp_path, folder, *words).read_text())[1]
    assert said.endswith(
        "also as use grows. For the past, 8 Session CALs would have been enough;"
        " use grows: 9.5 % more hours expected in the next 26 weeks, and 8 x 1.095 = 8.8."
    )


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


def untidy_logs(folder: Path) -> Path:
    """Logs with every difficulty: two spellings, a gap, torn and unreadable lines, a copy, another file."""
    logs = sorted(site_logs(folder, 10, users=90).iterdir())
    for log in logs[::2]:
        log.write_text(re.sub(r"CORP\\(user\d\d)", r"\1@a-long-domain.corp.example", log.read_text()))
    for log in logs[19:24]:
        log.unlink()
    logs[2].write_text(logs[2].read_text()[:-200] + "\n" + 12 * "half\ta\tline\n")
    (folder / "Sessions_QVS9_copy.log").write_text(logs[7].read_text())
    (folder / "readme.txt").write_text("of another kind")
    return folder


@pytest.mark.browser
@pytest.mark.parametrize("are_tidy", [True, False], ids=["tidy", "untidy"])
def test_page_prints_on_two_a4_pages(tmp_path: Path, are_tidy: bool) -> None:
    from playwright.sync_api import sync_playwright

    folder = site_logs(tmp_path / "logs", 26) if are_tidy else untidy_logs(tmp_path / "logs")
    words = ["--session", 7, "--price", "named=1,session=10,document=0.4", "--what-if", "idle_timeout=15m"]
    if not are_tidy:
        words += ["--exclude", "*user05", "--what-if", "queue=on", "--what-if", "usage=50"]
    page_file = written(tmp_path, folder, *words)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        page = browser.new_page()
        page.goto(page_file.as_uri())
        pdf = page.pdf(prefer_css_page_size=True)
        browser.close()
    assert pdf.count(b"/Type /Page\n") == 2
