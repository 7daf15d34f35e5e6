"""`calgate config`: the settings in force, the schema for editors, and a check that needs no network."""

import json
from pathlib import Path

import click

from calgate import config as settings_file
from calgate.config.effective import Setting, effective_settings
from calgate.plugin.options import config_option, json_option


@click.group()
def config() -> None:
    """The settings file: what is in force, and what can be set."""


@config.command()
@config_option
@click.option("--changed", is_flag=True, help="Only what the file sets.")
@json_option
def show(file: Path, changed: bool, as_json: bool) -> None:
    """Shows every setting in force, with the line that sets it or "default". Secrets are masked."""
    settings = settings_file.read(file)
    found = [
        setting
        for setting in effective_settings(settings, file.read_text(encoding="utf-8"))
        if setting.line is not None or not changed
    ]
    if as_json:
        rows = [{"key": one.key, "value": one.value, "line": one.line} for one in found]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    key_width = max((len(one.key) for one in found), default=0)
    value_width = min(44, max((len(one.value) for one in found), default=0))
    for one in found:
        click.echo(f"{one.key:<{key_width}}  {one.value:<{value_width}}  {_source(file, one)}")


def _source(file: Path, setting: Setting) -> str:
    return "default" if setting.line is None else f"{file.name}:{setting.line}"


@config.command()
def schema() -> None:
    """Prints a JSON Schema of the settings file, for editors that complete and check TOML."""
    from calgate.config.reference import schema as make_schema  # imports every installed plugin

    click.echo(json.dumps(make_schema(), ensure_ascii=False, indent=2))


@config.command()
@config_option
def validate(file: Path) -> None:
    """Reads the file and reports every fault in it, without asking anything on the network. Exit 2: it is faulty."""
    settings_file.read(file)
    click.echo(f"{file}: no faults")
