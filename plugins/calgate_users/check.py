"""`calgate check` of the `[users]` section."""

import asyncio
from collections.abc import AsyncIterator

from calgate.plugin import CheckContext, Finding
from calgate_users import users_file
from calgate_users.settings import Config


async def check(config: Config, context: CheckContext) -> AsyncIterator[Finding]:
    """Yields a finding for each fault of the file, or the number of users in it."""
    try:
        people = await asyncio.to_thread(users_file.read, config.file)
    except OSError as error:
        yield Finding("fail", "users", f"{config.file} cannot be read: {error.strerror}", users_file.remedy(error))
    except users_file.UsersFileError as error:
        for line in str(error).splitlines():
            yield Finding("fail", "users", line)
    else:
        yield Finding("ok", "users", f"{len(people.users)} users, {len(people.groups)} groups in {config.file}")
