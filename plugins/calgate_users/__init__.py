"""People, groups and NT hashes in a file: for demonstrations and small sites.

The plugin is a directory (who is in which group) and a prover of NTLM (is the password right) in one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from calgate.contract import Services
from calgate_users.check import check
from calgate_users.commands import commands
from calgate_users.config import Config
from calgate_users.users import Users

__all__ = ["Config", "check", "commands", "role", "start"]

role = "directory"


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[Users]:
    """Yields the people of the file; raises ValueError with a line for each of its faults."""
    yield Users(config.file)
