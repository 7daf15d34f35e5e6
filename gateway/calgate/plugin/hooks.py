"""The parts of a plugin's module: three that every plugin has, and optional hooks.

`calgate.plugin_loader` is the one place that looks. A hook is a function or a value of the module with the name that
the protocol here gives it; a module without it does without.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import click

from calgate.plugin.checks import CheckContext, CommandContext, Finding
from calgate.plugin.screens import ConsoleContext, Screen
from calgate.plugin.services import Services
from calgate.plugin.settings import Section

Role = Literal["directory", "allocator", "authenticator", "sign-in", "sign-on"]
"""Plugins are started in this order. A site needs a directory, and an authenticator or a sign-in method ("sign-in"); it
has one allocator at most."""


@runtime_checkable
class PluginModule(Protocol):
    """Every plugin: what it does, its section of the settings file, and how it starts."""

    role: Role
    """The role that it is configured for; the started object may fill further ones."""

    Config: type[Section]
    """The model of its section. The section is named like the entry point; a sign-on's is a route's `sign_on`."""

    def start(self, config: Any, services: Services) -> AbstractAsyncContextManager[Any]:
        """Starts the plugin and yields the object that fills its role.

        Raises ValueError, OSError or ImportError with a sentence for the administrator if the settings cannot work.
        """


@runtime_checkable
class Activates(Protocol):
    """A started object that changes something that gateways share, such as settings in the store."""

    async def activate(self) -> None:
        """Makes the change. It is called once every part of every worker has started, so `start` must not do it:

        a reload that fails leaves everything as it was.
        """


@runtime_checkable
class HasCommands(Protocol):
    """Joins the command line."""

    def commands(self, context: CommandContext) -> click.Command:
        """Returns a command, usually a group."""


@runtime_checkable
class HasWarnings(Protocol):
    """Warns about settings that are allowed but unwise."""

    def warnings(self, config: Any) -> Sequence[str]:
        """Returns a sentence for each such setting; `calgate check` shows them."""


@runtime_checkable
class HasCheck(Protocol):
    """Takes part in `calgate check`."""

    def check(self, config: Any, context: CheckContext) -> AsyncIterator[Finding]:
        """Tries everything real that the section names.

        Directories are checked first; later plugins do not try what depends on their faults (`Finding.blocks`).
        """


@runtime_checkable
class HasExplain(Protocol):
    """Explains credentials for `calgate check --token`."""

    def explain(self, scheme: str, credentials: str) -> Sequence[Finding]:
        """Returns findings about the credentials of an Authorization header; none for a scheme of another plugin.

        The scheme is "" if the administrator left it out.
        """


@runtime_checkable
class HasNtlmReport(Protocol):
    """Reports NTLM sign-ins for `calgate check --ntlm-report`."""

    def ntlm_report(self, context: CommandContext, file: Path, *, as_json: bool) -> None:
        """Prints who signed in by NTLM, from where and how often."""


@runtime_checkable
class HasLicenseNames(Protocol):
    """Lets the settings reader check a route's `license` before anything starts; for allocators."""

    def license_names(self, table: Mapping[str, object]) -> Collection[str]:
        """Returns the licenses that the section configures. It may have faults elsewhere: it is as the file has it."""


@runtime_checkable
class HasAnonymousLicenses(Protocol):
    """Lets the settings reader check the `license` of a public route before anything starts; for allocators."""

    def anonymous_licenses(self, table: Mapping[str, object]) -> Collection[str]:
        """Returns those of `license_names` with CALs for anonymous claimants, as far as the section can be read."""


@runtime_checkable
class HasDefault(Protocol):
    """Is used by a setting that names no plugin."""

    default_for: str
    """The setting: "sign_on" makes it the plugin of a route's `sign_on` without the key `plugin`."""


@runtime_checkable
class HasOrder(Protocol):
    """Chooses its position among the plugins of its role."""

    order: int
    """Lower comes first, 0 without this hook; the name of the section decides among equals.

    The first directory that knows a user is the one that counts, so one that responds at once belongs first.
    """


@runtime_checkable
class HasScreens(Protocol):
    """Adds screens to the administrators' console."""

    def screens(self, context: ConsoleContext) -> Sequence[Screen]:
        """Returns the screens. Called once, in the console's own process, which serves no user."""
