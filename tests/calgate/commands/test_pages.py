"""`calgate pages preview`: the pages, before users see them."""

from pathlib import Path

from click.testing import CliRunner

from calgate.cli import main
from support.gateway_process import write_settings


def test_preview_has_every_page_in_every_language_as_the_settings_make_it_look(tmp_path: Path) -> None:
    file = write_settings(tmp_path, 1, more='[pages]\ncompany = "Ada and Sons"')
    folder = tmp_path / "new" / "preview"
    result = CliRunner().invoke(main, ["pages", "preview", str(folder), "-c", str(file)])
    assert result.exit_code == 0, result.output
    written = {page.name: page.read_text(encoding="utf-8") for page in folder.glob("*.*.html")}
    assert len(written) == 15 * 11  # English comes twice: en-US writes times in its own way
    assert all("Ada and Sons" in text for text in written.values())
    assert '<html lang="ja"' in written["denial.ja.html"]
    assert 'name="password"' in written["sign-in-form.de.html"]
    assert "Kennwort" in written["sign-in-form.de.html"]
    index = (folder / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{name}"' in index for name in written)


def test_preview_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    file = write_settings(tmp_path, 1)
    (tmp_path / "taken").write_text("")
    result = CliRunner().invoke(main, ["pages", "preview", str(tmp_path / "taken" / "x"), "-c", str(file)])
    assert result.exit_code == 1
    assert "cannot be written" in result.output
