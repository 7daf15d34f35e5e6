"""`calgate check` of the `[ldap]` section: every server by itself, then a person."""

import asyncio
import time
from collections.abc import AsyncIterator

from calgate.contract import Finding, Identity, Survey
from calgate.refusal import Refusal
from calgate_ldap.cache import Cache
from calgate_ldap.config import Config, ServerAddress
from calgate_ldap.connection import BindError, BrokenError, Connection
from calgate_ldap.directory import ActiveDirectory
from calgate_ldap.domain import Domain
from calgate_ldap.pool import Pool


async def check(config: Config, survey: Survey) -> AsyncIterator[Finding]:
    """One finding a server, and one a domain for the groups of the account that asks, or of the one that was named."""
    for domain in config.each_domain():
        async for finding in _domain(domain, survey):
            yield finding


async def _domain(config: Config, survey: Survey) -> AsyncIterator[Finding]:
    answering = 0
    for address in config.servers:
        finding = await asyncio.to_thread(_try, config, address)
        answering += finding.level == "ok"
        yield finding
        if "refuses ldap.bind" in finding.what:
            return  # once is enough: more would lock the account
    if answering:
        yield await _sample(config, survey.login[0] if survey.login is not None else config.bind.user)


def _try(config: Config, address: ServerAddress) -> Finding:
    subject, began = str(address), time.monotonic()
    try:
        connection = Connection(address, config.ca)
        try:
            connection.bind(config.bind.user, config.bind.password.reveal())
            domain = Domain.read(connection, config.base)
        finally:
            connection.close()
    except BindError as error:
        return Finding("fail", subject, str(error), "correct ldap.bind; the account needs no rights but to read")
    except BrokenError as error:
        what = str(error).removeprefix(f"{address}: ")
        remedy = "" if "check ldap.ca" in what or "ldap.base" in what else "check the name, the port, and the firewall"
        return Finding("fail", subject, what, remedy)
    took = (time.monotonic() - began) * 1000
    return Finding(
        "ok", subject, f"answers for {domain.name} ({domain.dns}), certificate good, signed in: {took:.0f} ms"
    )


async def _sample(config: Config, user: str) -> Finding:
    account, domain = _split(user)
    pool = Pool(config)
    try:
        directory = ActiveDirectory(pool, config.base, Cache(0, 0))
        person = await directory.look_up(Identity(domain or (await directory.domain()).name, account, mechanism=""))
    except Refusal as refusal:
        return Finding("fail", "groups", refusal.detail, "look at the account in the directory")
    finally:
        pool.close()
    if person is None:
        return Finding("fail", "groups", f"{user} is not found below {config.base}", "check ldap.base, and the name")
    return Finding("ok", "groups", f"{person.name} is in {len(person.groups)} groups, nested ones included")


def _split(user: str) -> tuple[str, str]:
    domain, slash, account = user.rpartition("\\")
    if slash:
        return account, domain
    account, _, domain = user.partition("@")
    return account, domain
