"""Manual pages of all commands, made from the command line itself: one page for each command of the first level.

`make reference` writes them into `deploy/reference/man/`.
"""

import inspect
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click

from calgate.commands.error_reference import exits


def pages(main: click.Group) -> dict[str, str]:
    """Returns every page, by its file's name: calgate.1, calgate-cals.1, …"""
    context = click.Context(main, info_name="calgate")
    commands = {
        name: command
        for name in main.list_commands(context)
        if (command := main.get_command(context, name)) is not None and not command.hidden
    }
    found = {"calgate.1": _page("calgate", main, _overview(commands))}
    for name, command in commands.items():
        found[f"calgate-{name}.1"] = _page(f"calgate {name}", command, _command(f"calgate {name}", command, context))
    return found


def _page(path: str, command: click.Command, body: Iterator[str]) -> str:
    title = path.replace(" ", "-")
    others = [".BR calgate (1),"] if path != "calgate" else []
    lines = [
        f'.TH {title.upper()} 1 "" "calgate {version("calgate")}" "User commands"',
        ".SH NAME",
        f"{_roff(title)} \\- {_roff(_short(command))}",
        *body,
        ".SH SEE ALSO",
        *others,
        ".BR calgate.toml (5)",
    ]
    return "\n".join(lines) + "\n"


def _overview(commands: dict[str, click.Command]) -> Iterator[str]:
    yield from (".SH SYNOPSIS", ".B calgate", ".I command", "[options]", ".SH DESCRIPTION")
    yield _roff("An asynchronous reverse proxy: signs a Windows domain's users in, checks their groups, finds each a")
    yield _roff("client access license (CAL), and only then opens the document server.")
    yield ".SH COMMANDS"
    for name, command in commands.items():
        yield from (".TP", f".BR calgate\\-{_roff(name)} (1)", _roff(_short(command)))
    yield from (".SH FILES", ".TP", ".I /etc/calgate/calgate.toml", "The settings file, unless \\-c names another.")


def _command(path: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    """One command, with everything below it."""
    context = click.Context(command, parent, info_name=path.rpartition(" ")[2])
    leaves = list(_leaves(path, command, context))
    yield ".SH SYNOPSIS"
    for number, (leaf, _, leaf_context) in enumerate(leaves):
        words = " ".join(leaf_context.command.collect_usage_pieces(leaf_context))
        yield from (*([".br"] if number else []), f".B {_roff(leaf)}", _roff(words))
    if isinstance(command, click.Group):
        yield from (".SH DESCRIPTION", *_help(command), ".SH COMMANDS")
        for leaf, one, leaf_context in leaves:
            yield from (f".SS {_roff(leaf)}", *_help(one), *_options(one, leaf_context), *_exits(leaf))
    else:
        yield from (".SH DESCRIPTION", *_help(command), ".SH OPTIONS", *_options(command, context))
        yield from (".SH EXIT STATUS", *_exits(path))


def _leaves(
    path: str, command: click.Command, context: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    if not isinstance(command, click.Group):
        yield path, command, context
        return
    for name in command.list_commands(context):
        one = command.get_command(context, name)
        if one is not None and not one.hidden:
            yield from _leaves(f"{path} {name}", one, click.Context(one, context, info_name=name))


def _help(command: click.Command) -> Iterator[str]:
    text = inspect.cleandoc(command.help or command.short_help or "").partition("\f")[0]
    for number, paragraph in enumerate(text.replace("\b", "").split("\n\n")):
        yield from (*([".PP"] if number else []), _roff(" ".join(paragraph.split())))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.params:  # without --help, which click adds and every command has
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            yield from (".TP", f".B {_roff(record[0])}", _roff(" ".join(record[1].split())))


def _exits(path: str) -> Iterator[str]:
    yield ".PP"
    yield _roff(f"Exit status: {' '.join(f'{code}: {text}' for code, text in exits(path).items())}")


def _short(command: click.Command) -> str:
    return command.get_short_help_str(limit=300).rstrip(".")


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "").replace("…", "...").replace("·", "|")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def write(folder: Path, main: click.Group) -> None:
    """Writes every page into the folder, and removes pages of commands that are gone."""
    folder.mkdir(exist_ok=True)
    found = pages(main)
    for stale in {file.name for file in folder.glob("*.1")} - set(found):
        (folder / stale).unlink()
    for name, text in found.items():
        (folder / name).write_text(text, encoding="utf-8")
