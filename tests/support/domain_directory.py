"""The directory plugin in front of the lab's domain controller."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from calgate.plugin.identity import Identity
from calgate_ldap import Config
from calgate_ldap.cache import Cache
from calgate_ldap.directory import ActiveDirectory
from calgate_ldap.pool import Pool
from support.domain import BASE, DOMAIN, SERVICE_PASSWORD, Lab


@asynccontextmanager
async def directory(lab: Lab, **more: Any) -> AsyncIterator[ActiveDirectory]:
    settings: dict[str, Any] = {
        "servers": [f"ldaps://dc1.{DOMAIN}"],
        "ca": lab.ca,
        "bind": {"user": f"gateway@{DOMAIN}", "password": SERVICE_PASSWORD},
        "base": BASE,
    }
    lifetime, clock = more.pop("lifetime", 300), more.pop("clock", time.monotonic)
    config = Config(**(settings | more))
    pool = Pool(config, clock)
    try:
        yield ActiveDirectory(pool, config.base, Cache(lifetime, 0), attributes=config.attributes)
    finally:
        pool.close()


def named(account: str) -> Identity:
    return Identity("CORP", account, "ntlm")
