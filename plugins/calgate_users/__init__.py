"""Users, groups and NT hashes in a file: for demonstrations and small sites.

The plugin is a directory (which groups a user is in) and an NTLM verifier (whether the password is right) in one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from calgate.plugin import Services
from calgate_users.check import check
from calgate_users.commands import commands
from calgate_users.directory import UsersDirectory
from calgate_users.settings import Config

__all__ = ["Config", "check", "commands", "order", "role", "start"]

role = "directory"
order = -1  # before a server: a file responds at once and always


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[UsersDirectory]:
    """Yields the directory of the file's users. Raises ValueError with a line for each fault of the file."""
    yield UsersDirectory(config.file)
