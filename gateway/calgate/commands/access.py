"""`calgate access explain`: the verdict of each access rule on a user."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table

from calgate import config
from calgate.access.rules import AccessRequest, Rules, Verdict
from calgate.access.settings import groups_of
from calgate.commands.context import open_services
from calgate.commands.time_argument import read_moment
from calgate.config.model import Settings
from calgate.dialect.document_names import canonical_document
from calgate.plugin.errors import BadRequest, ConfigError, Refusal
from calgate.plugin.identity import Person
from calgate.plugin.names import identity_of
from calgate.plugin.options import config_option, console, json_option


@click.group()
def access() -> None:
    """Users' access to documents, with the reasons."""


@access.command()
@click.argument("user")
@config_option
@click.option("--document", help="The document, as the URL names it.")
@click.option("--path", default="/", show_default=True, help="The path of the request.")
@click.option("--address", default="127.0.0.1", show_default=True, help="The client's address.")
@click.option("--at", default="now", show_default=True, help="When, as 2026-01-10 10:42 in the site's time zone.")
@json_option
def explain(user: str, file: Path, document: str | None, path: str, address: str, at: str, as_json: bool) -> None:
    """Shows the verdict of every rule on USER ("CORP\\alice" or "alice@corp.example"). Exit 1: refused."""
    settings = config.read(file)
    name = _document_of(settings, document) if document is not None else None
    try:
        now = read_moment(at, settings.core.timezone)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from error
    person, verdicts = asyncio.run(_explain(settings, user, path, address, name, now))
    _show_json(person, verdicts) if as_json else _show(person, verdicts)
    decided = next((verdict for verdict in verdicts if verdict.decides), None)
    if decided is None or decided.outcome != "allow":
        raise SystemExit(1)


def _document_of(settings: Settings, written: str) -> str:
    """Returns the name as requests have it. Raises ConfigError for a name that no request can have."""
    try:
        return canonical_document(written, windows=any(route.windows for route in settings.core.routes))
    except BadRequest as refusal:
        raise ConfigError([f"--document {written[:80]!r}: {refusal.detail}"], code=1) from refusal


async def _explain(
    settings: Settings, user: str, path: str, address: str, document: str | None, now: float
) -> tuple[Person, Sequence[Verdict]]:
    core = settings.core
    async with open_services(settings) as (_, plugins):
        try:
            person = await plugins.directory.look_up(identity_of(user))
            groups = await plugins.directory.resolve(groups_of(core.access))
        except Refusal as refusal:
            raise ConfigError([f"{user}: {refusal.detail}"], code=1) from refusal
    if person is None:
        raise ConfigError([f"{user}: no directory has this user; check the spelling"], code=1)
    rules = Rules(core.access, groups, core.timezone)
    return person, rules.explain(AccessRequest(person, address, path, document), now)


def _show_json(person: Person, verdicts: Sequence[Verdict]) -> None:
    rows = [
        {"rule": v.rule, "outcome": v.outcome, "why": v.why, "decides": v.decides, "on_trial": v.on_trial}
        for v in verdicts
    ]
    decided = next((v for v in verdicts if v.decides), None)
    verdict = decided.outcome if decided is not None else "deny"
    click.echo(json.dumps({"user": person.name, "key": person.key, "verdict": verdict, "rules": rows}, indent=2))


def _show(person: Person, verdicts: Sequence[Verdict]) -> None:
    table = Table(title=f"{person.name} ({person.display_name})", title_justify="left")
    for heading in ("", "rule", "verdict", "why"):
        table.add_column(heading, overflow="fold")
    for v in verdicts:
        note = " (on trial)" if v.on_trial else ""
        table.add_row("→" if v.decides else "", v.rule, v.outcome + note, v.why)
    printer = console()
    printer.print(table)
    if not any(v.decides for v in verdicts):
        printer.print("No rule matches, so the request is refused.")
