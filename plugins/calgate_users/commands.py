"""`calgate users`: who is in the users file."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from calgate.plugin import CommandContext
from calgate_users import edit, ntlmv2, users_file
from calgate_users.settings import Config

T = TypeVar("T")
_settings = click.option(
    "-c",
    "--config",
    "settings",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/calgate/calgate.toml"),
    show_default=True,
    help="The settings file.",
)
_domain = click.option("--domain", help="The domain; left out: the file's first.")


def commands(desk: CommandContext) -> click.Group:
    """The group of commands; `desk` reads the settings file."""
    group = click.Group("users", help="People in the users file.")
    for command in (_add(desk), _remove(desk), _list(desk)):
        group.add_command(command)
    return group


def _users_file(desk: CommandContext, settings: Path) -> Path:
    section = desk.read(settings)
    assert isinstance(section, Config)
    return section.file


def _add(desk: CommandContext) -> click.Command:
    @click.command()
    @click.argument("name")
    @_settings
    @_domain
    @click.option("--group", "groups", multiple=True, help="A group; may be given several times.")
    @click.option("--display-name", help="The name that pages show.")
    @click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
    def add(
        name: str,
        settings: Path,
        domain: str | None,
        groups: tuple[str, ...],
        display_name: str | None,
        password_stdin: bool,
    ) -> None:
        """Add a user, or replace the one of that name."""
        file = _users_file(desk, settings)
        nt_hash = ntlmv2.nt_hash(_password(password_stdin))
        done = _or_say_why(
            lambda: edit.add(file, name, domain=domain, display_name=display_name, groups=groups, nt_hash=nt_hash)
        )
        click.echo(f"{name}: {done} in {file}")

    return add


def _remove(desk: CommandContext) -> click.Command:
    @click.command()
    @click.argument("name")
    @_settings
    @_domain
    def remove(name: str, settings: Path, domain: str | None) -> None:
        """Remove a user."""
        file = _users_file(desk, settings)
        _or_say_why(lambda: edit.remove(file, name, domain=domain))
        click.echo(f"{name}: removed from {file}")

    return remove


def _list(desk: CommandContext) -> click.Command:
    @click.command("list")
    @_settings
    @click.option("--json", "as_json", is_flag=True, help="For programs: JSON on standard output.")
    def show(settings: Path, as_json: bool) -> None:
        """Show who there is; never the hashes."""
        file = _users_file(desk, settings)
        found = _or_say_why(lambda: users_file.read(file))
        people = sorted(found.users.values(), key=lambda user: user.key)
        (_print_json if as_json else _print_table)(people)

    return show


def _password(from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    if not password:
        raise click.ClickException("an empty password is not accepted")
    return str(password)


def _or_say_why(act: Callable[[], T]) -> T:
    try:
        return act()
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _print_json(people: list[users_file.User]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "domain": user.domain,
            "name": user.name,
            "display_name": user.display_name,
            "groups": list(user.written_groups),
            "disabled": user.disabled,
        }
        for user in people
    ]
    click.echo(json.dumps(rows, ensure_ascii=False, indent=2))


def _print_table(people: list[users_file.User]) -> None:
    table = Table("User", "Name", "Groups", "")
    for user in people:
        note = "disabled" if user.disabled else ""
        table.add_row(f"{user.domain}\\{user.name}", user.display_name, ", ".join(user.written_groups), note)
    Console(markup=False, emoji=False).print(table)
