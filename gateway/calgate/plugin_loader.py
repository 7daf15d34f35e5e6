"""Finds plugins by entry point, reads their hooks, and starts those that are configured, role by role."""

import dataclasses
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, get_args

import click

from calgate.plugin.checks import CheckContext, CommandContext, Finding
from calgate.plugin.errors import ConfigError, Unavailable
from calgate.plugin.hooks import (
    Activates,
    HasAnonymousLicenses,
    HasCheck,
    HasCommands,
    HasDefault,
    HasExplain,
    HasLicenseNames,
    HasNtlmReport,
    HasOrder,
    HasScreens,
    HasWarnings,
    PluginModule,
    Role,
)
from calgate.plugin.identity import (
    Authenticator,
    Directory,
    GroupMembers,
    Identity,
    Match,
    Matches,
    NtlmVerifier,
    PasswordChanger,
    PeopleSearch,
    Person,
)
from calgate.plugin.licensing import Allocator
from calgate.plugin.screens import ConsoleContext, Screen
from calgate.plugin.services import Services, Store
from calgate.plugin.settings import Section
from calgate.plugin.sign_in_method import SignInMethod
from calgate.plugin.sign_on import ServerSignOn, SignOn

GROUP = "calgate.plugins"
_STARTED = ("directory", "allocator", "authenticator", "sign-in")  # in this order; a sign-on is started for each route


# ---------------------------------------------------------------- what is installed


class UnusablePluginError(Exception):
    """An installed plugin cannot be imported, or is not a plugin; the message says why."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed plugin and its hooks; a hook that it lacks returns nothing.

    A hook is callable: `check` may also be a mere submodule of that name.
    """

    name: str  # of its entry point and its section
    module: PluginModule

    @property
    def role(self) -> Role:
        return self.module.role

    @property
    def package(self) -> str:
        """The top-level package, under which the plugin logs."""
        return str(self.module.__name__).partition(".")[0]  # type: ignore[attr-defined]

    @property
    def order(self) -> tuple[int, str]:
        """Sorts plugins of one role."""
        return (self.module.order if isinstance(self.module, HasOrder) else 0, self.name)

    def is_default_for(self, setting: str) -> bool:
        return isinstance(self.module, HasDefault) and self.module.default_for == setting

    def license_names(self, table: Mapping[str, object]) -> Collection[str] | None:
        """The licenses of the section, or None if they are only known once the plugin has started."""
        module = self.module
        return module.license_names(table) if isinstance(module, HasLicenseNames) else None

    def anonymous_licenses(self, table: Mapping[str, object]) -> Collection[str] | None:
        """Those of the licenses with anonymous CALs, or None if they are only known once the plugin has started."""
        module = self.module
        return module.anonymous_licenses(table) if isinstance(module, HasAnonymousLicenses) else None

    def warnings(self, section: Section) -> Sequence[str]:
        module = self.module
        return module.warnings(section) if isinstance(module, HasWarnings) and callable(module.warnings) else ()

    def commands(self, context: CommandContext) -> click.Command | None:
        module = self.module
        return module.commands(context) if isinstance(module, HasCommands) and callable(module.commands) else None

    def screens(self, context: ConsoleContext) -> Sequence[Screen]:
        module = self.module
        return module.screens(context) if isinstance(module, HasScreens) and callable(module.screens) else ()

    def explain(self, scheme: str, credentials: str) -> Sequence[Finding]:
        module = self.module
        if isinstance(module, HasExplain) and callable(module.explain):
            return module.explain(scheme, credentials)
        return ()

    def report_ntlm(self, context: CommandContext, file: Path, *, as_json: bool) -> None:
        if isinstance(self.module, HasNtlmReport):
            self.module.ntlm_report(context, file, as_json=as_json)

    async def check(self, section: Section, context: CheckContext) -> AsyncIterator[Finding]:
        if isinstance(self.module, HasCheck) and callable(self.module.check):
            async for finding in self.module.check(section, context):
                yield finding


def installed() -> Mapping[str, EntryPoint]:
    """The entry points of the installed plugins, by section; nothing is imported."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def load(point: EntryPoint) -> Plugin:
    """Imports an installed plugin. Raises UnusablePluginError."""
    try:
        module = point.load()
    except Exception as error:  # foreign code: any exception is the plugin's fault
        raise UnusablePluginError(
            f"the plugin {point.value} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, PluginModule) or module.role not in get_args(Role):
        raise UnusablePluginError(f"{point.value} is not a plugin: it needs a role, Config and start")
    return Plugin(point.name, module)


def usable() -> Iterator[Plugin]:
    """Every installed plugin that can be imported. A broken one that no setting uses stops nothing."""
    for point in installed().values():
        try:
            yield load(point)
        except UnusablePluginError:
            continue


def unusable() -> Iterator[tuple[str, str]]:
    """The installed plugins that cannot be used, by section, and why."""
    for name, point in installed().items():
        try:
            load(point)
        except UnusablePluginError as error:
            yield name, str(error)


# ---------------------------------------------------------------- what is started


class PluginSettings(Protocol):
    """The part of a settings file about plugins (`calgate.config.Settings`)."""

    @property
    def file(self) -> Path: ...
    @property
    def state_dir(self) -> Path: ...
    @property
    def has_tls(self) -> bool: ...
    @property
    def can_be_https(self) -> bool: ...
    @property
    def plugins(self) -> Mapping[str, Section]: ...
    @property
    def modules(self) -> Mapping[str, Plugin]: ...
    @property
    def sign_on(self) -> Mapping[int, tuple[str, Section]]: ...


@dataclass(frozen=True, slots=True)
class StartedPlugins:
    """The started plugins, by role."""

    directory: Directory
    allocator: Allocator | None
    authenticators: Sequence[Authenticator]
    sign_in_methods: Mapping[str, SignInMethod]  # by section
    sign_on: Mapping[int, SignOn | ServerSignOn]  # by the route's number
    services: Services
    activating: Sequence[Activates] = ()

    async def activate(self) -> None:
        """Lets the plugins change what gateways share; called once everything has started."""
        for plugin in self.activating:
            await plugin.activate()


class Directories:
    """All directories as one: the first that knows a user or a group decides."""

    def __init__(self, directories: Sequence[Directory]) -> None:
        self.members = tuple(directories)

    async def look_up(self, identity: Identity) -> Person | None:
        for directory in self.members:
            if (person := await directory.look_up(identity)) is not None:
                return person
        return None

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        found: dict[str, str | None] = dict.fromkeys(groups)
        for directory in self.members:
            missing = [name for name, key in found.items() if key is None]
            if missing:
                found |= await directory.resolve(missing)
        return found

    async def members_of(self, group: str) -> Sequence[str] | None:
        """Fills `GroupMembers`. A group of a directory that cannot list its members is Unavailable, never empty."""
        for directory in self.members:
            if isinstance(directory, GroupMembers):
                if (found := await directory.members_of(group)) is not None:
                    return found
            elif (await directory.resolve([group]))[group] is not None:
                raise Unavailable(f"the directory of {group} cannot list the members of a group")
        return None


class SearchableDirectories(Directories):
    """Directories of which one at least can be searched for people."""

    async def find_people(self, text: str, most: int) -> Matches:
        """Fills `PeopleSearch`. A name that two directories know is the first one's, as in `look_up`."""
        found: dict[str, Match] = {}
        is_cut = False
        for directory in self.members:
            if isinstance(directory, PeopleSearch):
                matches = await directory.find_people(text, most)
                is_cut |= matches.is_cut
                for one in matches.people:
                    found.setdefault(one.name.casefold(), one)
        return Matches([*found.values()][:most], is_cut or len(found) > most)


def as_one(directories: Sequence[Directory]) -> Directories:
    """Returns the directories as one, which can be searched for people if one of them can."""
    can_search = any(isinstance(one, PeopleSearch) for one in directories)
    return SearchableDirectories(directories) if can_search else Directories(directories)


@asynccontextmanager
async def start(
    settings: PluginSettings, store: Store, roles: Sequence[str] = _STARTED
) -> AsyncIterator[StartedPlugins]:
    """Starts the plugins of the given roles. Raises ConfigError (exit 1) if one cannot start with its settings."""
    services = Services(store, settings.state_dir, has_tls=settings.has_tls, can_be_https=settings.can_be_https)
    allocator: Allocator | None = None
    authenticators: list[Authenticator] = []
    sign_in_methods: dict[str, SignInMethod] = {}
    activating: list[Activates] = []
    async with AsyncExitStack() as stack:
        for role in (role for role in _STARTED if role in roles):
            by_section = {
                name: await _enter(stack, settings, name, section, services)
                for name, section in _of_role(settings, role)
            }
            started = list(by_section.values())
            activating += [one for one in started if isinstance(one, Activates)]
            if role == "directory":
                verifier = next((one for one in started if isinstance(one, NtlmVerifier)), None)
                changer = next((one for one in started if isinstance(one, PasswordChanger)), None)
                services = dataclasses.replace(
                    services, directory=as_one(started), ntlm_verifier=verifier, password_changer=changer
                )
            elif role == "allocator":
                allocator = next(iter(started), None)
            elif role == "authenticator":
                authenticators = started
            else:
                sign_in_methods = by_section
                authenticators += [one for one in started if isinstance(one, Authenticator)]
        sign_on = {
            number: await _enter(stack, settings, name, section, services)
            for number, (name, section) in settings.sign_on.items()
        }
        assert services.directory is not None
        yield StartedPlugins(
            services.directory, allocator, authenticators, sign_in_methods, sign_on, services, activating
        )


def with_siblings(services: Services, settings: PluginSettings, name: str) -> Services:
    """Returns the services of one plugin, with the sections of the other plugins of its package."""
    package = settings.modules[name].package
    siblings = {key: one for key, one in settings.plugins.items() if settings.modules[key].package == package}
    return dataclasses.replace(services, siblings=siblings)


def _of_role(settings: PluginSettings, role: str) -> Iterator[tuple[str, Section]]:
    """The configured sections of a role, in the order that their plugins want."""
    names = sorted(settings.plugins, key=lambda name: settings.modules[name].order)
    return ((name, settings.plugins[name]) for name in names if settings.modules[name].role == role)


async def _enter(
    stack: AsyncExitStack, settings: PluginSettings, name: str, section: Section, services: Services
) -> Any:
    services = with_siblings(services, settings, name)
    try:
        return await stack.enter_async_context(settings.modules[name].module.start(section, services))
    except (ValueError, OSError, ImportError) as error:
        raise ConfigError([f"{settings.file}: {name}: {error}"], code=1) from error
