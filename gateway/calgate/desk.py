"""What a command works with: the settings file read, the store open, the directories at hand."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from calgate import config, plugins
from calgate.config import ConfigError, Settings
from calgate.contract import Services
from calgate.plugins import Cast
from calgate.setting import Section
from calgate.store import EmbeddedFaultError, NoServerError, RedisStore, open_store


@asynccontextmanager
async def opened(settings: Settings, roles: tuple[str, ...] = ("directory",)) -> AsyncIterator[tuple[RedisStore, Cast]]:
    """The store (a running gateway's, or the embedded one, started for this) and the plugins of the roles wanted."""
    logging.getLogger("calgate").setLevel(logging.ERROR)
    try:
        async with (
            open_store(settings.core.store, settings.core.state_dir) as store,
            plugins.start(settings, store, roles) as cast,
        ):
            yield store, cast
    except (EmbeddedFaultError, NoServerError) as error:
        raise ConfigError([f"{settings.file}: {error}"], code=1) from error


class PluginDesk:
    """`contract.Desk` for the plugin of one section."""

    def __init__(self, section: str) -> None:
        self._section = section

    def read(self, file: Path) -> Section:
        """The plugin's own section; raises ConfigError where the file is faulty or has no such section."""
        settings = config.read(file)
        if self._section not in settings.plugins:
            raise ConfigError([f"{file}: has no section [{self._section}], which this command is about"])
        return settings.plugins[self._section]

    @asynccontextmanager
    async def open(self, file: Path) -> AsyncIterator[tuple[Any, Services]]:
        """The section, with store and directories."""
        section = self.read(file)
        async with opened(config.read(file)) as (_, cast):
            yield section, cast.services
