"""The context of a command: the settings, the store and the directories."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from calgate import config, plugin_loader
from calgate.commands.site import SettingsSite
from calgate.config.model import Settings
from calgate.dialect.logged import logged_document
from calgate.plugin.errors import ConfigError
from calgate.plugin.services import Services
from calgate.plugin.settings import Section
from calgate.plugin_loader import StartedPlugins
from calgate.store import EmbeddedFaultError, NoServerError, RedisStore, open_store


@asynccontextmanager
async def open_services(
    settings: Settings, roles: tuple[str, ...] = ("directory",)
) -> AsyncIterator[tuple[RedisStore, StartedPlugins]]:
    """Opens the store (a running gateway's, or the private one, started for the command) and starts the directories."""
    logging.getLogger("calgate").setLevel(logging.ERROR)
    try:
        async with (
            open_store(settings.core.store, settings.core.state_dir) as store,
            plugin_loader.start(settings, store, roles) as plugins,
        ):
            yield store, plugins
    except (EmbeddedFaultError, NoServerError) as error:
        raise ConfigError([f"{settings.file}: {error}"], code=1) from error


class PluginCommandContext:
    """The `calgate.plugin.CommandContext` of one plugin."""

    def __init__(self, section: str) -> None:
        self._section = section

    def read(self, file: Path) -> Section:
        """Returns the plugin's section. Raises ConfigError if the file has faults or no such section."""
        return self._section_of(config.read(file), file)

    @asynccontextmanager
    async def open(self, file: Path) -> AsyncIterator[tuple[Any, Services]]:
        """Yields the section, with the store and the directories."""
        settings = config.read(file)
        section = self._section_of(settings, file)
        async with open_services(settings) as (_, plugins):
            site = SettingsSite(settings.core, plugins.directory)
            yield section, replace(plugins.services, site=site)

    def _section_of(self, settings: Settings, file: Path) -> Section:
        if self._section not in settings.plugins:
            raise ConfigError([f"{file}: no section [{self._section}], which this command needs"])
        return settings.plugins[self._section]

    def document_of(self, method: str, target: str) -> str | None:
        """The document that a logged request opened or used, as the QlikView dialect reads it."""
        return logged_document(method, target)
