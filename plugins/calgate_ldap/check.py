"""`calgate check` of the `[ldap]` section: every server by itself, the rights of the bind account, then one user."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence

from calgate.plugin import CheckContext, Finding, Refusal, identity_of, parse_user
from calgate_ldap import account
from calgate_ldap.cache import Cache
from calgate_ldap.connection import BindError, BrokenError, Connection
from calgate_ldap.directory import ActiveDirectory
from calgate_ldap.domain import Domain
from calgate_ldap.forest import Forest
from calgate_ldap.pool import Pool
from calgate_ldap.settings import Config, ServerAddress

SAMPLE = 20
"""Users whose attributes are tried: it is not enough that the bind account can read itself and administrators."""


async def check(config: Config, context: CheckContext) -> AsyncIterator[Finding]:
    """Yields a finding for each server, the bind account's rights in each domain, and one user's groups."""
    usable = []
    for domain in config.each_domain():
        found = _folded([finding async for finding in _servers(domain)])
        if any(finding.level == "ok" for finding in found):
            usable.append(domain)
        else:  # checks of other plugins query every domain
            found[-1] = dataclasses.replace(found[-1], blocks="directory")
        for finding in found:
            yield finding
    for domain in usable:
        yield await _rights(domain)
    if len(usable) == len(config.each_domain()):
        yield await _sample(usable, context.login[0] if context.login is not None else config.bind.user)


def _folded(found: Sequence[Finding]) -> list[Finding]:
    """Returns one finding for all servers that fail alike: a wrong CA is one mistake."""
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
            return  # another attempt could lock the account


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
        return Finding("fail", subject, str(error), "correct ldap.bind; the account needs read access only")
    except BrokenError as error:
        what = str(error).removeprefix(f"{address}: ")
        has_remedy = any(part in what for part in ("check ldap.ca", "ldap.base", "in the DNS"))
        return Finding("fail", subject, what, "" if has_remedy else "check the name, the port, and the firewall")
    except Refusal as refusal:
        return Finding("fail", subject, refusal.detail, _how_to_grant(config))
    took = (time.monotonic() - began) * 1000
    return Finding(
        "ok", subject, f"responds for {domain.name} ({domain.dns}), certificate good, signed in: {took:.0f} ms"
    )


# ---------------------------------------------------------------- rights


async def _rights(config: Config) -> Finding:
    pool = Pool(config)
    try:
        tried, unreadable = await pool.query(lambda connection: _unreadable(connection, config.base))
    except Refusal as refusal:
        return Finding("fail", "ldap.bind", refusal.detail, _how_to_grant(config), blocks="login")
    finally:
        pool.close()
    if not tried:
        what = f"{config.bind.user} finds no user below {config.base}"
        return Finding("fail", "ldap.bind", what, _how_to_grant(config), blocks="login")
    if unreadable:
        attributes = ", ".join(name for name in account.REQUIRED if any(name in names for names in unreadable.values()))
        what = f"{config.bind.user} cannot read {attributes} of {len(unreadable)} of {tried} users"
        return Finding("fail", "ldap.bind", f"{what}, such as {next(iter(unreadable))}", _how_to_grant(config))
    return Finding("ok", "ldap.bind", f"{config.bind.user} can read groups and account states ({tried} users tried)")


def _unreadable(connection: Connection, base: str) -> tuple[int, dict[str, list[str]]]:
    """Returns how many users were tried, and the attributes that are missing, by the DN of the user."""
    found = connection.sample(base, "(&(objectCategory=person)(objectClass=user))", ["objectSid"], SAMPLE)
    read = {one.dn: connection.read(one.dn, account.REQUIRED) for one in found}
    missing = {dn: one.missing(account.REQUIRED) if one else list(account.REQUIRED) for dn, one in read.items()}
    return len(found), {dn: names for dn, names in missing.items() if names}


def _how_to_grant(config: Config) -> str:
    """Returns the commands that grant the rights: of the property sets that hold `account.REQUIRED`, on all users."""
    sets = ("General Information", "Account Restrictions", "Remote Access Information")  # tokenGroups is in the last
    trustee = config.bind.user if parse_user(config.bind.user).form != "dn" else "ACCOUNT"
    rights = " ".join(f'"{trustee}:RP;{name};user"' for name in sets)
    return (
        f'grant it on a domain controller: dsacls "{config.base}" /I:S /G {rights};'
        " it can be a user, this machine's account or a gMSA. Or add it to Pre-Windows 2000 Compatible Access"
    )


# ---------------------------------------------------------------- one user


async def _sample(domains: Sequence[Config], user: str) -> Finding:
    pools = [Pool(config) for config in domains]
    try:
        each = [ActiveDirectory(pool, one.base, Cache(0, 0)) for pool, one in zip(pools, domains, strict=True)]
        person = await Forest(each).look_up(identity_of(user))
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
