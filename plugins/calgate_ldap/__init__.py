"""Reads users, groups and account states from Active Directory.

Groups are the SIDs of tokenGroups, so nested, universal and primary groups count. The account state is the computed
attribute, so a lock that has ended does not count. An error, or an unreadable attribute, never stands for a value.
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
    """Yields the directory, even if no server responds yet. Raises ValueError if CA file or password cannot be used."""
    pools, caches, domains = [], [], []
    for settings in config.each_domain():
        pools.append(Pool(settings))
        caches.append(Cache(config.cache, config.grace))
        domains.append(ActiveDirectory(pools[-1], settings.base, caches[-1], attributes=settings.attributes))

    def on_event(event: Event) -> None:
        """Drops a person who was changed or signed out, on every gateway at once."""
        if event.topic == "person-changed":
            for cache in caches:
                cache.forget(event.subject)

    services.store.listen(on_event)
    try:
        yield Forest(domains)
    finally:
        for cache in caches:
            await cache.close()
        for pool in pools:
            pool.close()
