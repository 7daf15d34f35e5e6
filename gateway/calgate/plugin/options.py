"""Options and output that are the same in every command, the core's and a plugin's."""

import re
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

SETTINGS_FILE = Path("/etc/calgate/calgate.toml")
"""The settings file of a command that is not given one."""
_WITHOUT_TERMINAL = 1000  # columns

config_option = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=SETTINGS_FILE,
    show_default=True,
    help="The settings file.",
)
"""Decorates a command with -c FILE."""

json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on standard output.")
"""Decorates a command with --json."""


class Number(click.IntRange):
    """A whole number in plain digits: `int` also reads digits of other scripts, and 1_000."""

    name = "integer range"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, str) and not re.fullmatch("-?[0-9]{1,18}", value):
            self.fail(f"{value!r} is not a whole number in the digits 0 to 9.", param, ctx)
        return super().convert(value, param, ctx)


def read_time(text: str, form: str) -> datetime:
    """Returns a time in a form of `strptime`, in plain digits. Raises ValueError."""
    if not text.isascii():
        raise ValueError(f"not a time in the digits 0 to 9: {text!r}")
    return datetime.strptime(text, form)


def console() -> "Console":
    """Returns the console for a command's tables: it folds lines on a terminal, and never in a pipe or a file."""
    from rich.console import Console  # here: settings import this package, and need no console

    return Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else _WITHOUT_TERMINAL)
