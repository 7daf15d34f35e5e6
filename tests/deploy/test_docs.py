"""What the documents say exists: settings, commands, files."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import get_args

import click
import pytest
from pydantic import BaseModel

from calgate import config
from calgate.cli import main
from calgate.telemetry.metrics import exposition

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "deploy/README.md", "SECURITY.md", "CHANGELOG.md")
PLUGINS = ("calgate_negotiate", "calgate_ldap", "calgate_users", "calgate_headers")


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def test_the_readmes_least_settings_have_no_fault(tmp_path: Path) -> None:
    block, _ = re.findall(r"```toml\n(.*?)```", text_of("README.md"), re.DOTALL)
    for name in ("bi.pem", "bi.key", "http.keytab", "ad-ca.pem", "ldap.secret"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    file = tmp_path / "calgate.toml"
    file.write_text(block.replace("/etc/calgate", str(tmp_path)), encoding="utf-8")
    config.read(file)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_a_document_names_is_there(document: str) -> None:
    spans = re.findall(r"`calgate ([a-z-]+(?: (?:· )?[a-z][a-z-]*)*)", text_of(document))
    for words in spans:
        first, *rest = words.split()
        command = main.get_command(click.Context(main), first)
        assert command is not None, f"{document}: calgate {words}"
        subcommands = command.commands if isinstance(command, click.Group) else {}
        for word in rest if subcommands else ():
            assert word == "·" or word in subcommands, f"{document}: calgate {words}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_links_is_there(document: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", text_of(document)):
        assert ((ROOT / document).parent / link).exists(), f"{document}: {link}"


def test_every_figure_is_in_the_table_and_no_other() -> None:
    told = set(re.findall(r"^# TYPE (calgate_\w+)", exposition({}), re.MULTILINE))
    named = set(
        re.findall(r"`(calgate_\w+)`", text_of("deploy/README.md").partition("### Figures")[2].partition("Worth")[0])
    )
    assert named == told


def test_every_setting_is_in_the_commented_example() -> None:
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
