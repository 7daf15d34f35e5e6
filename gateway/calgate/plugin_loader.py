"""Plugins: found by entry point, configured by their section, started in the order of their roles."""

import dataclasses
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from calgate.config import known_plugins
from calgate.config.model import Settings
from calgate.plugin.errors import ConfigError
from calgate.plugin.identity import Authenticator, Directory, Identity, NtlmVerifier, Person
from calgate.plugin.licensing import Allocator
from calgate.plugin.services import Services, Store
from calgate.plugin.sign_on import SignOn

_ORDER = ("directory", "allocator", "authenticator")


@dataclass(frozen=True, slots=True)
class StartedPlugins:
    """Who plays which role."""

    directory: Directory
    allocator: Allocator | None
    authenticators: Sequence[Authenticator]
    sign_on: Mapping[int, SignOn]  # by the route's number
    services: Services


class Directories:
    """All directories as one: the first that knows somebody has the word. A file is asked before a server."""

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


@asynccontextmanager
async def start(settings: Settings, store: Store, roles: Sequence[str] = _ORDER) -> AsyncIterator[StartedPlugins]:
    """Starts the plugins of the roles wanted. Raises ConfigError (exit 1) where one cannot start as it is set up."""
    services = Services(store, settings.core.state_dir)
    allocator: Allocator | None = None
    authenticators: list[Authenticator] = []
    async with AsyncExitStack() as stack:
        for role in (role for role in _ORDER if role in roles):
            started = [
                await _enter(stack, settings, name, section, services) for name, section in _of_role(settings, role)
            ]
            if role == "directory":
                prover = next((one for one in started if isinstance(one, NtlmVerifier)), None)
                services = dataclasses.replace(services, directory=Directories(started), prover=prover)
            elif role == "allocator":
                allocator = next(iter(started), None)
            else:
                authenticators = started
        sign_on = {
            number: await _enter(stack, settings, name, section, services)
            for number, (name, section) in settings.sign_on.items()
        }
        assert services.directory is not None
        yield StartedPlugins(services.directory, allocator, authenticators, sign_on, services)


def _of_role(settings: Settings, role: str) -> Iterator[tuple[str, Any]]:
    """Sections of a role; `users` before `ldap`, since what is in a file answers at once and always."""
    names = sorted(settings.plugins, key=lambda name: (name != "users", name))
    return ((name, settings.plugins[name]) for name in names if settings.modules[name].role == role)


async def _enter(stack: AsyncExitStack, settings: Settings, name: str, section: object, services: Services) -> Any:
    try:
        return await stack.enter_async_context(settings.modules[name].start(section, services))
    except (ValueError, OSError, ImportError) as error:
        raise ConfigError([f"{settings.file}: {name}: {error}"], code=1) from error


def modules() -> Iterator[tuple[str, Any]]:
    """Every installed plugin, loaded, by section."""
    for name, point in sorted(known_plugins().items()):
        yield name, point.load()
