"""Options that mean the same in every command."""

from pathlib import Path

import click

config_option = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/calgate/calgate.toml"),
    show_default=True,
    help="The settings file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on standard output.")
