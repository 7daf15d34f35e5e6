"""Asks Active Directory for people, groups and account state.

Groups are SIDs out of tokenGroups, so nested, universal and primary groups count; account state is the computed
attribute, so a lock that has ended is none. An error is never an answer.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from calgate.contract import News, Services
from calgate_ldap.cache import Cache
from calgate_ldap.check import check
from calgate_ldap.config import Config
from calgate_ldap.directory import ActiveDirectory
from calgate_ldap.pool import Pool

__all__ = ["Config", "check", "role", "start"]

role = "directory"


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[ActiveDirectory]:
    """Yields the directory. No server need answer yet; raises ValueError where CA file or password are of no use."""
    pool = Pool(config)
    cache = Cache(config.cache, config.grace)

    def hear(news: News) -> None:
        """A person was changed or put out: what is known of him is asked anew, everywhere at once."""
        if news.topic == "person-changed":
            cache.forget(news.subject)

    services.store.listen(hear)
    try:
        yield ActiveDirectory(pool, config.base, cache)
    finally:
        await cache.close()
        pool.close()
