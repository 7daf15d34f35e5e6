"""The command line: what is common to all commands, and the plugins' own commands among them."""

import sys
from typing import cast

import click

from calgate import plugin_loader
from calgate.commands import access, check, demo, run, sessions, upstreams
from calgate.commands.context import PluginCommandContext
from calgate.plugin.errors import ConfigError


class _Faults(click.Group):
    """Prints what the operator did wrong as plain lines, never as a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for fault in error.faults:
                click.echo(f"calgate: {fault}", err=True)
            sys.exit(error.code)


@click.group(cls=_Faults, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="calgate")
def main() -> None:
    """Signs a domain's users in, checks their groups, finds each a CAL, and only then opens the document server.

    Shell completion: eval "$(_CALGATE_COMPLETE=bash_source calgate)" (or zsh_source, fish_source).
    """


for command in (run.run, run.worker, demo.demo, check.check, access.access, sessions.sessions, upstreams.upstreams):
    main.add_command(command)
for name, module in plugin_loader.modules():
    if hasattr(module, "commands"):
        main.add_command(cast(click.Command, module.commands(PluginCommandContext(name))))
