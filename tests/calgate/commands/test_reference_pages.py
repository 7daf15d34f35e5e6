"""Manual pages and error codes: made from the code, current, and complete."""

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from calgate.cli import main
from calgate.commands import error_reference
from calgate.commands.manual_pages import pages
from calgate.plugin.errors import refusal_codes

ROOT = Path(__file__).parents[3]
MAN = ROOT / "deploy" / "reference" / "man"


def test_manual_pages_are_current() -> None:
    made = pages(main)
    assert {file.name: file.read_text(encoding="utf-8") for file in MAN.iterdir()} == made, "run make reference"


def test_every_command_and_option_is_in_its_manual_page() -> None:
    made = pages(main)
    context = click.Context(main)
    missing = []
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        if command is None or command.hidden:
            continue
        text = made[f"calgate-{name}.1"].replace("\\-", "-")
        missing += [word for word in words_of(f"calgate {name}", command) if word not in text]
    assert missing == []


def words_of(path: str, command: click.Command) -> Iterator[str]:
    """Every command below this one, and every option."""
    yield path
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            yield from (word for word in parameter.opts if word.startswith("--"))
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from words_of(f"{path} {name}", one)


@pytest.mark.server
def test_man_formats_every_page_without_a_warning() -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    files = [*MAN.glob("*.1"), ROOT / "deploy" / "reference" / "calgate.toml.5"]
    words = ["groff", "-man", "-Tutf8", "-ww", "-z", "-rCHECKSTYLE=3", *map(str, files)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_unit_names_manual_pages_that_exist() -> None:
    text = (ROOT / "deploy" / "calgate.service").read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if line.startswith("Documentation=")]
    for word in line.removeprefix("Documentation=").split():
        name, _, section = word.removeprefix("man:").removesuffix(")").partition("(")
        assert list((ROOT / "deploy" / "reference").rglob(f"{name}.{section}")), word


# ---------------------------------------------------------------- codes


def test_chapter_of_codes_is_current() -> None:
    text = (ROOT / "deploy" / "guide" / "errors.md").read_text(encoding="utf-8")
    assert text == error_reference.page(), "run make reference"


def test_every_refusal_code_has_a_text_and_no_other() -> None:
    main.list_commands(click.Context(main))  # imports every plugin, whose refusals count
    assert set(error_reference.REFUSALS) == set(refusal_codes())


def test_chapter_that_a_code_names_exists() -> None:
    chapters = {help_.chapter for help_ in error_reference.REFUSALS.values()} - {""}
    assert {name for name in chapters if not (ROOT / "deploy" / "guide" / name).exists()} == set()


def test_every_exit_code_in_the_source_is_documented() -> None:
    documented = {*error_reference.DEFAULT_EXIT, *(code for codes in error_reference.EXITS.values() for code in codes)}
    assert set(exit_codes()) - documented == set()
    assert {1, 3} <= set(exit_codes())


def exit_codes() -> Iterator[int]:
    """Every number that the source gives to sys.exit, SystemExit or ConfigError, or names PENDING."""
    for file in (*(ROOT / "gateway").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            values: list[ast.expr] = []
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("sys.exit", "SystemExit", "ConfigError"):
                values = [*node.args, *(word.value for word in node.keywords if word.arg == "code")]
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PENDING":
                values = [node.value]
            for value in values:
                if isinstance(value, ast.Constant) and type(value.value) is int:
                    yield value.value


def test_command_with_exit_codes_of_its_own_exists() -> None:
    for path in error_reference.EXITS:
        command: click.Command | None = main
        for word in path.split()[1:]:
            assert isinstance(command, click.Group), path
            command = command.get_command(click.Context(command), word)
        assert command is not None, path
