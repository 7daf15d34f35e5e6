"""The command line: the core's commands, and those that plugins add."""

import sys

import click

from calgate import plugin_loader
from calgate.commands import access, changes, check, config, demo, pages, run, sessions, store, tokens, upstreams
from calgate.commands.context import PluginCommandContext
from calgate.console.process import console_process
from calgate.plugin.errors import ConfigError


class CommandLine(click.Group):
    """Adds the plugins' commands when one is needed, and prints an operator's mistakes without a traceback.

    The core's own commands import no plugin for it: one that cannot be imported must not stop a gateway from starting.
    """

    _has_plugins = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        self.add_plugins()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands:
            self.add_plugins()
        return super().get_command(ctx, cmd_name)

    def add_plugins(self) -> None:
        if self._has_plugins:
            return
        self._has_plugins = True
        for plugin in plugin_loader.usable():
            command = plugin.commands(PluginCommandContext(plugin.name))
            if command is not None and command.name not in self.commands:
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


for _command in (
    run.run,
    run.worker,
    run.trial,
    console_process,
    demo.demo,
    check.check,
    config.config,
    access.access,
    changes.changes,
    sessions.sessions,
    store.store,
    tokens.tokens,
    upstreams.upstreams,
    pages.pages,
):
    main.add_command(_command)
