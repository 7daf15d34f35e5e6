"""Asks Active Directory for people, groups and account state.

Groups are SIDs out of tokenGroups, so nested, universal and primary groups count; account state is the computed
attribute, so a lock that has ended is none. An error is never an answer.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from calgate.plugin import Event, Services
from calgate_ldap.cache import Cache
from calgate_ldap.check import check
from calgate_ldap.directory import ActiveDirectory
from calgate_ldap.forest import Forest
from calgate_ldap.pool import Pool
from calgate_ldap.settings import Config

__all__ = ["Config", "check", "role", "start"]

role = "directory"


@asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[Forest]:
    """Yields the directory. No server need answer yet; raises ValueError where CA file or password are of no use."""
    pools, caches, domains = [], [], []
    for settings in config.each_domain():
        pools.append(Pool(settings))
        caches.append(Cache(config.cache, config.grace))
        domains.append(ActiveDirectory(pools[-1], settings.base, caches[-1]))

    def hear(event: Event) -> None:
        """A person was changed or put out: what is known of him is asked anew, everywhere at once."""
        if event.topic == "person-changed":
            for cache in caches:
                cache.forget(event.subject)

    services.store.listen(hear)
    try:
        yield Forest(domains)
    finally:
        for cache in caches:
            await cache.close()
        for pool in pools:
            pool.close()
