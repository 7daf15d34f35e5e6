"""`calgate cals …`: who has what, changing it, and what was decided."""

import click

from calgate.plugin import CommandContext
from calgate_cal.commands import change, history, show


def commands(context: CommandContext) -> click.Group:
    """The group `cals`."""
    group = click.Group("cals", help="Who holds which CAL, and changing it.", context_settings={"obj": context})
    for command in (*show.COMMANDS, *change.COMMANDS, *history.COMMANDS):
        group.add_command(command)
    return group
