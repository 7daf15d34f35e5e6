"""Options that mean the same in every command, the core's and a plugin's."""

from pathlib import Path

import click

SETTINGS_FILE = Path("/etc/calgate/calgate.toml")
"""The settings file of a command that is not given one."""

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
