"""`calgate config`: a first file, the settings in force, the schema for editors, and a check without the network."""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from calgate import config as settings_file
from calgate.commands import first_file
from calgate.config.effective import Setting, effective_settings
from calgate.plugin.errors import ConfigError
from calgate.plugin.options import Number, config_option, json_option


@click.group()
def config() -> None:
    """The settings file: a first one, what is in force, and what can be set."""


class _HostName(click.ParamType[str]):
    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = value.strip().rstrip(".").lower()
        if not re.fullmatch(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})+", name) or name[-1].isdigit():
            self.fail(f"{value!r} is not a DNS name in full, such as corp.example", param, ctx)
        return name


class _Upstreams(click.ParamType[Sequence[str]]):
    name = "urls"

    def convert(
        self, value: str | Sequence[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Sequence[str]:
        words = value.split() if isinstance(value, str) else value
        for word in words:
            if not re.fullmatch(r"https?://[^/?#\s]+/?", word):
                self.fail(f"{word!r} is not the address of a server, such as http://qvws1.corp.example", param, ctx)
        return [word.rstrip("/") for word in words]


_COUNT = Number(0, 1_000_000)


@config.command()
@config_option
@click.argument("domain", type=_HostName())
@click.option("--host", type=_HostName(), help="The site's name in the browser's address bar.")
@click.option("--upstreams", type=_Upstreams(), help="The document servers, such as http://qvws1.corp.example.")
@click.option("--group", help="The group whose members can open documents, such as CORP\\Analysts.")
@click.option("--reader", help="The account that reads the directory, such as svc-calgate-read@corp.example.")
@click.option("--named", type=_COUNT, help="How many Named CALs were bought.")
@click.option("--session", type=_COUNT, help="How many Session CALs were bought.")
@click.option("--document", default=0, show_default=True, type=_COUNT, help="How many Document CALs were bought.")
@click.option("--usage", default=0, show_default=True, type=_COUNT, help="How many Usage CALs were bought.")
@click.option("--contact", default="", help="Shown to users who are denied, such as a mail address.")
@click.option("--dns", "server", help="The DNS server to query, ADDRESS or ADDRESS:PORT; the machine's unless given.")
def init(
    file: Path,
    domain: str,
    host: str | None,
    upstreams: Sequence[str] | None,
    group: str | None,
    reader: str | None,
    named: int | None,
    session: int | None,
    document: int,
    usage: int,
    contact: str,
    server: str | None,
) -> None:
    """Writes a first settings file for a Windows DOMAIN, such as corp.example, and prints the steps that remain.

    Finds the domain controllers in the DNS, and asks for what no option gives. An existing file is never replaced.
    """
    from calgate.commands.domain_dns import discover, resolver_of  # here, because importing dnspython takes a while

    _check_place(file)
    try:
        found = discover(domain, resolver_of(server))
    except (LookupError, ValueError) as error:
        raise ConfigError([f"config init: {error}"], 1) from error
    click.echo(f"{found.name}: domain controllers {', '.join(found.controllers)}")
    answers = first_file.Answers(
        host=host or _ask("The site's name in the browser's address bar", _HostName()),
        upstreams=upstreams or _ask("Document servers, such as http://qvws1.corp.example", _Upstreams()),
        group=group or _ask("Group whose members can open documents, such as CORP\\Analysts"),
        reader=reader or _ask("Account that reads the directory, such as svc-calgate-read@corp.example"),
        cals={
            "named": _ask("Named CALs bought", _COUNT) if named is None else named,
            "document": document,
            "session": _ask("Session CALs bought", _COUNT) if session is None else session,
            "usage": usage,
        },
        contact=contact,
    )
    try:
        first_file.write(file, first_file.text_of(found, answers, file.absolute().parent))
    except OSError as error:
        raise ConfigError([f"{file}: cannot be written: {error.strerror}"], 1) from error
    _print_steps(file, first_file.remaining_steps(found, answers, file.absolute()))


def _check_place(file: Path) -> None:
    """Raises ConfigError for a path that cannot be written, before any question."""
    folder = file.absolute().parent
    if file.exists():
        fault = "the file exists and is never replaced; give another one with -c"
    elif not folder.is_dir():
        fault = f"there is no folder {folder}; make it, or give another file with -c"
    elif not os.access(folder, os.W_OK):
        fault = f"this user cannot write into {folder}; run the command as root, or give another file with -c"
    else:
        return
    raise ConfigError([f"{file}: {fault}"], 1)


def _ask(what: str, kind: click.ParamType[Any] | None = None) -> Any:
    """Asks on the terminal. Raises ConfigError if there is neither a terminal nor piped input."""
    try:
        return click.prompt(what, type=kind)
    except click.Abort as abort:
        if sys.stdin.isatty():
            raise
        raise ConfigError(
            [
                f"config init: there is no terminal to ask on ({what}); give --host, --upstreams, --group, --reader,"
                " --named and --session"
            ],
            1,
        ) from abort


def _print_steps(file: Path, steps: Iterable[first_file.Step]) -> None:
    click.echo(f"{file}: written. What remains:")
    for number, step in enumerate(steps, 1):
        click.echo(f"{number:2}. {step.what}" + (": done" if step.is_done else f"\n    {step.how}"))


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
