"""`calgate pages`: shows the gateway's own pages before a user sees them."""

import time
from collections.abc import Iterable
from html import escape
from pathlib import Path

import click

from calgate import config
from calgate.pages import Pages
from calgate.pages.preview import preview as every_page
from calgate.plugin.errors import ConfigError
from calgate.plugin.options import config_option


@click.group()
def pages() -> None:
    """The pages that people see when they sign in, wait or are refused."""


@pages.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@config_option
def preview(folder: Path, file: Path) -> None:
    """Writes every page in every language into FOLDER, with sample values, as the settings file makes them look.

    Open FOLDER/index.html in a browser. Nothing needs to run for it, and nothing is changed.
    """
    core = config.read(file).core
    made = Pages(core.pages, embed_in=core.session.embed_in, timezone=core.timezone)
    names: dict[str, list[str]] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, tag, body in every_page(made, time.time()):
            (folder / f"{name}.{tag}.html").write_bytes(body)
            names.setdefault(name, []).append(tag)
        (folder / "index.html").write_text(_index(names.items()), encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{folder}: cannot be written: {error.strerror}"], code=1) from error
    click.echo(f"{sum(map(len, names.values()))} pages: {folder / 'index.html'}")


def _index(names: Iterable[tuple[str, Iterable[str]]]) -> str:
    rows = "\n".join(
        f"<tr><th scope=row>{escape(name)}</th><td>"
        + " ".join(f'<a href="{escape(name)}.{tag}.html" lang="{tag}">{tag}</a>' for tag in tags)
        + "</td></tr>"
        for name, tags in names
    )
    head = '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Pages</title>\n'
    return f"{head}<table>\n{rows}\n</table>\n</html>\n"
