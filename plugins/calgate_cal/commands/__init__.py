"""`calgate cals …`: the holders of CALs, changes, decisions, and how many CALs to buy."""

import click

from calgate.plugin import CommandContext
from calgate_cal.commands import change, history, show
from calgate_cal.commands.plan import plan
from calgate_cal.commands.report import report
from calgate_cal.commands.sync import sync
from calgate_cal.commands.unused import unused


def commands(context: CommandContext) -> click.Group:
    """Makes the group `cals`."""
    group = click.Group("cals", help="CALs and their holders.", context_settings={"obj": context})
    for command in (*show.COMMANDS, *change.COMMANDS, *history.COMMANDS, report, sync, unused, plan(context)):
        group.add_command(command)
    return group
