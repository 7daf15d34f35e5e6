"""`calgate cals …`: who has what, changing it, and what was decided."""

import click

from calgate.contract import Desk
from calgate_cal.commands import change, look, records


def commands(desk: Desk) -> click.Group:
    """The group `cals`."""
    group = click.Group("cals", help="Who holds which CAL, and changing it.", context_settings={"obj": desk})
    for command in (*look.COMMANDS, *change.COMMANDS, *records.COMMANDS):
        group.add_command(command)
    return group
