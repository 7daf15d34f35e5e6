"""`calgate check` of the `[ldap]` section: every server by itself, then a person."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence

from calgate.plugin import CheckContext, Finding, Identity, Refusal
from calgate_ldap.cache import Cache
from calgate_ldap.connection import BindError, BrokenError, Connection
from calgate_ldap.directory import ActiveDirectory
from calgate_ldap.domain import Domain
from calgate_ldap.forest import Forest
from calgate_ldap.pool import Pool
from calgate_ldap.settings import Config, ServerAddress


async def check(config: Config, survey: CheckContext) -> AsyncIterator[Finding]:
    """One finding a server, and one for the groups of the account that asks, or of the one that was named."""
    usable = []
    for domain in config.each_domain():
        found = _folded([finding async for finding in _servers(domain)])
        if any(finding.level == "ok" for finding in found):
            usable.append(domain)
        else:  # the others ask every domain
            found[-1] = dataclasses.replace(found[-1], blocks="directory")
        for finding in found:
            yield finding
    if len(usable) == len(config.each_domain()):
        yield await _sample(usable, survey.login[0] if survey.login is not None else config.bind.user)


def _folded(found: Sequence[Finding]) -> list[Finding]:
    """Servers that fail alike are one line: a wrong CA is one mistake, however many believe in another."""
    alike: dict[Finding, list[str]] = {}
    for finding in found:
        key = dataclasses.replace(finding, subject="") if finding.level == "fail" else finding
        alike.setdefault(key, []).append(finding.subject)
    return [dataclasses.replace(finding, subject=", ".join(names)) for finding, names in alike.items()]


async def _servers(config: Config) -> AsyncIterator[Finding]:
    for address in config.servers:
        finding = await asyncio.to_thread(_try, config, address)
        yield finding
        if "refuses ldap.bind" in finding.what:
            return  # once is enough: more would lock the account


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


async def _sample(domains: Sequence[Config], user: str) -> Finding:
    account, domain = _split(user)
    pools = [Pool(config) for config in domains]
    try:
        each = [ActiveDirectory(pool, one.base, Cache(0, 0)) for pool, one in zip(pools, domains, strict=True)]
        identity = Identity(domain or (await each[0].domain()).name, account, mechanism="")
        person = await Forest(each).look_up(identity)
    except Refusal as refusal:
        return Finding("fail", "groups", refusal.detail, "look at the account in the directory", blocks="login")
    finally:
        for pool in pools:
            pool.close()
    if person is None:
        below = " or ".join(config.base for config in domains)
        return Finding(
            "fail", "groups", f"{user} is not found below {below}", "check ldap.base, and the name", blocks="login"
        )
    return Finding("ok", "groups", f"{person.name} is in {len(person.groups)} groups, nested ones included")


def _split(user: str) -> tuple[str, str]:
    domain, slash, account = user.rpartition("\\")
    if slash:
        return account, domain
    account, _, domain = user.partition("@")
    return account, domain
