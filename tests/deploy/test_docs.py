"""Everything that the documents name exists: settings, commands, files, make targets, metrics."""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import get_args

import click
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from calgate import config
from calgate.cli import main
from calgate.telemetry.metrics import exposition

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "deploy/README.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "gateway/calgate/README.md",
    "tests/README.md",
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "deploy/guide").glob("*.md")),
)
GUIDE = [document for document in DOCUMENTS if document.startswith("deploy/guide/")]
PLUGINS = (
    *("calgate_negotiate", "calgate_negotiate.password", "calgate_ldap", "calgate_users", "calgate_headers"),
    *("calgate_delegation", "calgate_assertion", "calgate_oidc"),
)


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def test_smallest_settings_of_the_readme_have_no_fault(tmp_path: Path) -> None:
    block, _ = re.findall(r"```toml\n(.*?)```", text_of("README.md"), re.DOTALL)
    for name in ("bi.pem", "bi.key", "http.keytab", "ad-ca.pem", "ldap.secret"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    file = tmp_path / "calgate.toml"
    file.write_text(block.replace("/etc/calgate", str(tmp_path)), encoding="utf-8")
    config.read(file)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_command_that_a_document_names_exists(document: str) -> None:
    spans = re.findall(r"`calgate ([a-z-]+(?: (?:· )?[a-z][a-z-]*)*)", text_of(document))
    for words in spans:
        first, *rest = words.split()
        command = main.get_command(click.Context(main), first)
        assert command is not None, f"{document}: calgate {words}"
        subcommands = command.commands if isinstance(command, click.Group) else {}
        for word in rest if subcommands else ():
            assert word == "·" or word in subcommands, f"{document}: calgate {words}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_option_that_a_document_gives_a_command_is_one_of_its_options(document: str) -> None:
    text = text_of(document)
    lines = [*re.findall(r"^ {4}(.*)$", text, re.MULTILINE), *re.findall(r"`([^`\n]+)`", text)]
    for line in lines:
        for typed in re.findall(r"(?:^|[\s/])calgate (?!calgate)([a-z][^|;>&#]*)", line):
            command, words = command_of(typed.split())
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            given = {word.partition("=")[0].rstrip(",.)") for word in words if re.match(r"--?[a-z]", word)}
            assert given <= known | {"-h", "--help", "--version"}, f"{document}: {line}"


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that is typed, and the words after it; a group where no subcommand is named."""
    command: click.Command = main
    while words and isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            return command, words
        command, words = found, words[1:]
    return command, words


def test_option_of_its_own_is_an_option_of_some_command() -> None:
    known = set(options_of(main)) | {"--help"}
    for document in (*GUIDE, "CHANGELOG.md", "README.md", "deploy/README.md"):
        named = set(re.findall(r"`(--[a-z-]+)[^`\n]*`", text_of(document)))
        assert named - known == set(), document


def options_of(command: click.Command) -> Iterator[str]:
    """The options of a command and of all below it."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    if isinstance(command, click.Group):
        command.list_commands(click.Context(command))  # adds those of plugins
        for below in command.commands.values():
            yield from options_of(below)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_file_and_heading_that_a_document_links_exist(document: str) -> None:
    for link in re.findall(r"\]\(([^):]+)\)", text_of(document)):
        name, _, anchor = link.partition("#")
        file = (ROOT / document).parent / name if name else ROOT / document
        assert file.exists(), f"{document}: {link}"
        assert not anchor or anchor in anchors_of(file.read_text(encoding="utf-8")), f"{document}: {link}"


def anchors_of(text: str) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_contents_of_the_guide_have_every_chapter_with_its_title() -> None:
    listed = dict(
        re.findall(r"^\| \[[\w-]+\.md\]\((guide/[\w-]+\.md)\) \| (.*) \|$", text_of("deploy/README.md"), re.MULTILINE)
    )
    titles = {f"guide/{Path(page).name}": text_of(page).partition("\n")[0].removeprefix("# ") for page in GUIDE}
    assert listed == titles


@pytest.mark.parametrize("document", GUIDE)
def test_settings_of_a_chapter_are_known_to_the_schema(document: str) -> None:
    schema = json.loads(text_of("deploy/reference/calgate.schema.json"))
    for block in re.findall(r"```toml\n(.*?)```", text_of(document), re.DOTALL):
        settings = tomllib.loads(block)
        if settings.keys() & {"sources", "sinks"}:  # of another program
            continue
        faults = Draft202012Validator(schema).iter_errors(settings)
        assert [fault.message for fault in faults if fault.validator != "required"] == [], block


def test_name_with_an_underscore_in_a_chapter_is_a_setting_a_metric_a_claim_or_a_variable_of_pages_or_screens() -> None:
    places = ("gateway/calgate/pages", "gateway/calgate/telemetry", "plugins/calgate_oidc", "plugins/calgate_assertion")
    files = [path for place in places for path in (ROOT / place).rglob("*") if path.suffix in (".py", ".html")]
    named_in = ("deploy/reference/calgate.schema.json", "gateway/calgate/plugin/screens.py")
    texts = [*map(text_of, named_in), *(path.read_text(encoding="utf-8") for path in files)]
    known = set(re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", "\n".join(texts)))
    for document in GUIDE:
        named = set(re.findall(r"`((?!calgate_)[a-z]+(?:_[a-z0-9]+)+)`", text_of(document)))
        assert named - known == set(), document


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "gateway/calgate/README.md", "tests/README.md"])
def test_path_that_a_guide_for_developers_names_exists(document: str) -> None:
    spans = re.findall(r"`((?:[\w.]+/)+(?:[\w.-]+\.\w+)?|[a-z_]+\.(?:py|md|lua|toml))`", text_of(document))
    roots = (ROOT, (ROOT / document).parent, ROOT / "gateway/calgate", ROOT / "plugins/calgate_cal/lua")
    assert [
        span for span in spans if not any(any(root.glob(pattern)) for root in roots for pattern in (span, f"*/{span}"))
    ] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_target_that_a_document_names_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^ {4})make ([a-z-]+)", text_of(document), re.MULTILINE)) - targets == set()


def test_map_of_the_core_has_every_package_and_module() -> None:
    text = text_of("gateway/calgate/README.md")
    core = ROOT / "gateway/calgate"
    packages = {f"{path.name}/" for path in core.iterdir() if (path / "__init__.py").exists()}
    modules = {path.name for path in core.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert [name for name in sorted(packages | modules) if f"`{name}`" not in text] == []


def test_table_of_metrics_has_every_metric_and_no_other() -> None:
    told = set(re.findall(r"^# TYPE (calgate_\w+)", exposition({}), re.MULTILINE))
    named = set(
        re.findall(
            r"`(calgate_\w+)`", text_of("deploy/guide/monitor.md").partition("## Metrics")[2].partition("Worth")[0]
        )
    )
    assert named == told


def test_setting_is_in_the_commented_example() -> None:
    example = text_of("deploy/calgate.toml")
    models = [config.Core, *(import_module(name).Config for name in PLUGINS)]
    models.append(import_module("calgate_cal.settings").License)
    tables = " ".join(re.findall(r"\[+([a-z_.]+)\]", example)).replace(".", " ").split()
    named = {*re.findall(r"\b([a-z_]+) = ", example), *tables}
    missing = {field for model in models for field in fields_of(model)} - named
    assert missing == set(), "not in deploy/calgate.toml"


def fields_of(model: type[BaseModel]) -> Iterator[str]:
    """The names of a model's fields, and of those of the models in them."""
    for name, field in model.model_fields.items():
        yield name
        for part in parts_of(field.annotation):
            yield from fields_of(part)


def parts_of(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from parts_of(argument)
