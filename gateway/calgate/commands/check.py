"""`calgate check`: tries everything that the settings name, and explains what it finds."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from calgate import config, plugin_loader
from calgate.commands import checks as checking
from calgate.commands.context import PluginCommandContext
from calgate.config.model import Settings
from calgate.plugin.checks import Finding
from calgate.plugin.errors import ConfigError
from calgate.plugin.options import config_option, console, json_option

_MARKS = {
    "ok": Text("ok", "green"),
    "note": Text("note", "blue"),
    "untried": Text("not tried", "dim"),
    "warn": Text("warning", "yellow"),
    "fail": Text("FAILS", "red"),
}


@click.command()
@config_option
@click.option("--host", "hosts", multiple=True, help="A public host name, where the routes name none. Several allowed.")
@click.option("--as", "user", help="Also sign in as this user from end to end; prompts for the password.")
@click.option("--password-stdin", is_flag=True, help="Read that password from standard input.")
@click.option(
    "--token", help="Only explain this token: the value of an Authorization header, with or without its scheme."
)
@click.option("--ntlm-report", is_flag=True, help="Only show who still signs in by NTLM, from where and how often.")
@json_option
def check(
    file: Path,
    hosts: Sequence[str],
    user: str | None,
    password_stdin: bool,
    token: str | None,
    ntlm_report: bool,
    as_json: bool,
) -> None:
    """Tries everything real that the settings file names. Exit 1: something fails. Exit 2: the file is faulty."""
    if ntlm_report:
        _report_ntlm(file, as_json)
        return
    if token is not None:
        findings = explain(token)
    else:
        login = (user, _password(password_stdin)) if user is not None else None
        try:
            settings = config.read(file)
        except ConfigError as error:
            if not as_json:
                raise
            _print_json([Finding("fail", "settings", fault) for fault in error.faults])
            raise SystemExit(error.code) from error
        findings = asyncio.run(_all(settings, hosts, login))
    _print_json(findings) if as_json else _print(findings)
    if any(finding.level == "fail" for finding in findings):
        raise SystemExit(1)


async def _all(settings: Settings, hosts: Sequence[str], login: tuple[str, str] | None) -> list[Finding]:
    return [finding async for finding in checking.check(settings, hosts, login)]


def _report_ntlm(file: Path, as_json: bool) -> None:
    for plugin in plugin_loader.usable():
        plugin.report_ntlm(PluginCommandContext(plugin.name), file, as_json=as_json)


def explain(token: str) -> list[Finding]:
    """Returns the plugins' findings about the credentials of an Authorization header, with or without the scheme."""
    scheme, _, credentials = token.strip().rpartition(" ")
    found = [one for plugin in plugin_loader.usable() for one in plugin.explain(scheme.strip(), credentials)]
    return found or [Finding("fail", "token", "no plugin can read it", "copy the whole value of the header")]


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise click.UsageError("--as: there is no terminal to ask for the password; give --password-stdin")
    return str(click.prompt("Password (Enter: try no sign-in)", hide_input=True, default="", show_default=False))


def _print_json(findings: Sequence[Finding]) -> None:
    rows = [{"level": f.level, "subject": f.subject, "what": f.what, "remedy": f.remedy} for f in findings]
    click.echo(json.dumps(rows, ensure_ascii=False, indent=2))


def _print(findings: Sequence[Finding]) -> None:
    table = Table(show_lines=False)
    for heading in ("", "what", "found"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        text = finding.what + (f"\n→ {finding.remedy}" if finding.remedy else "")
        table.add_row(_MARKS[finding.level], finding.subject, text)
    console().print(table)  # brackets occur in names and IPv6 addresses
