"""`calgate users`: lists and changes the users file."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.table import Table

from calgate.plugin import CommandContext, config_option, console, json_option
from calgate_users import edit, ntlmv2, users_file
from calgate_users.settings import Config

T = TypeVar("T")
_domain = click.option("--domain", help="The domain; by default the first in the file.")


def commands(context: CommandContext) -> click.Group:
    """The group of commands; `context` reads the settings file."""
    group = click.Group("users", help="List and change the users file.")
    for command in (_add(context), _remove(context), _list(context)):
        group.add_command(command)
    return group


def _users_file(context: CommandContext, file: Path) -> Path:
    section = context.read(file)
    assert isinstance(section, Config)
    return section.file


def _add(context: CommandContext) -> click.Command:
    @click.command()
    @click.argument("name")
    @config_option
    @_domain
    @click.option("--group", "groups", multiple=True, help="A group; can be given several times.")
    @click.option("--display-name", help="The name to show on pages.")
    @click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
    def add(
        name: str,
        file: Path,
        domain: str | None,
        groups: tuple[str, ...],
        display_name: str | None,
        password_stdin: bool,
    ) -> None:
        """Add a user, or replace the user of that name."""
        users = _users_file(context, file)
        nt_hash = ntlmv2.nt_hash(_password(password_stdin))
        done = _or_fail(
            lambda: edit.add(users, name, domain=domain, display_name=display_name, groups=groups, nt_hash=nt_hash)
        )
        click.echo(f"{name}: {done} in {users}")

    return add


def _remove(context: CommandContext) -> click.Command:
    @click.command()
    @click.argument("name")
    @config_option
    @_domain
    def remove(name: str, file: Path, domain: str | None) -> None:
        """Remove a user."""
        users = _users_file(context, file)
        _or_fail(lambda: edit.remove(users, name, domain=domain))
        click.echo(f"{name}: removed from {users}")

    return remove


def _list(context: CommandContext) -> click.Command:
    @click.command("list")
    @config_option
    @json_option
    def show(file: Path, as_json: bool) -> None:
        """List the users, without their hashes."""
        users = _users_file(context, file)
        found = _or_fail(lambda: users_file.read(users))
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


def _or_fail(act: Callable[[], T]) -> T:
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
    console().print(table)
