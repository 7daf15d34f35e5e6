"""The command line: the core's commands, and those that plugins add."""

import sys
from importlib import import_module

import click

from calgate import plugin_loader
from calgate.plugin.errors import ConfigError

# The core's commands, by the module that has each. Only the one that is needed is imported: a worker needs none of the
# others, and importing them all took as long as the rest of its start.
_MODULES = {
    "access": "calgate.commands.access",
    "changes": "calgate.commands.changes",
    "check": "calgate.commands.check",
    "config": "calgate.commands.config",
    "console-process": "calgate.console.process",
    "demo": "calgate.commands.demo",
    "pages": "calgate.commands.pages",
    "run": "calgate.commands.run",
    "sessions": "calgate.commands.sessions",
    "store": "calgate.commands.store",
    "tokens": "calgate.commands.tokens",
    "trial": "calgate.commands.run",
    "upstreams": "calgate.commands.upstreams",
    "worker": "calgate.commands.run",
}


class CommandLine(click.Group):
    """Imports commands when they are needed, and prints an operator's mistakes without a traceback.

    The core's own commands import no plugin for it: one that cannot be imported must not stop a gateway from starting.
    """

    _has_plugins = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        self.add_plugins()
        return sorted({*_MODULES, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _MODULES and cmd_name not in self.commands:
            self.add_command(getattr(import_module(_MODULES[cmd_name]), cmd_name.replace("-", "_")))
        if cmd_name not in self.commands:
            self.add_plugins()
        return super().get_command(ctx, cmd_name)

    def add_plugins(self) -> None:
        from calgate.commands.context import PluginCommandContext

        if self._has_plugins:
            return
        self._has_plugins = True
        for plugin in plugin_loader.usable():
            command = plugin.commands(PluginCommandContext(plugin.name))
            if command is not None and command.name not in {*_MODULES, *self.commands}:
                self.add_command(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            broken = "".join(f"\n{name}: {why}" for name, why in plugin_loader.unusable())
            raise click.UsageError(error.message + broken, ctx) from error

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for fault in error.faults:
                click.echo(f"calgate: {fault}", err=True)
            sys.exit(error.code)


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="calgate")
def main() -> None:
    """Signs a domain's users in, checks their groups, finds each a CAL, and only then opens the document server.

    Shell completion: eval "$(_CALGATE_COMPLETE=bash_source calgate)" (or zsh_source, fish_source).
    """
