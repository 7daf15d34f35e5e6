"""The part of `calgate check` about delegation: what the domain allows, and a real ticket in a user's name.

A KDC refuses with the same code (BADOPTION) for every unmet condition, so the conditions are read from the directory.
"""

import asyncio
from collections.abc import AsyncIterator

from calgate.plugin import CheckContext, DelegationInfo, DomainInfo, Finding, Identity, Person, Refusal, identity_of
from calgate_delegation.open_tickets import open_tickets
from calgate_delegation.settings import Config

_PROTECTED_USERS = "-525"  # the group's number in every domain


async def check(config: Config, context: CheckContext) -> AsyncIterator[Finding]:
    """Checks each document server's SPN and the right to delegate to it, and then a ticket for the user of --as."""
    broken = ""
    for service in dict.fromkeys(config.service_on(server.host) for server in context.servers):
        if "directory" in context.blocked:
            yield Finding("untried", service, f"not compared with the directory: see {context.blocked['directory']}")
            continue
        finding = await _allowed(config, service, context)
        broken = broken or (finding.subject if finding.level == "fail" else "")
        yield finding
        yield await _ticket(config, service, context, broken)


async def _allowed(config: Config, service: str, context: CheckContext) -> Finding:
    info = context.registry
    if not isinstance(info, DelegationInfo) or not isinstance(info, DomainInfo):
        return Finding("untried", service, "no directory shows what the domain allows", "configure [ldap]")
    try:
        holders = await info.holders(service)
        if len(holders) != 1:
            return _not_one_holder(service, [holder.name for holder in holders])
        account, _, realm = config.account.partition("@")
        assert context.services.directory is not None
        if await context.services.directory.look_up(Identity(realm, account, "delegation")) is None:
            remedy = "set sign_on.account to the logon name of the account whose keys are in the keytab"
            return Finding("fail", service, f"no directory has the gateway's account {config.account}", remedy)
        rights = await info.delegation(account, service)
    except Refusal as refusal:
        return Finding("fail", service, f"no reply about it: {refusal.detail}", "check the domain controllers")
    if rights.by_service:
        what = f"the account that holds it, {holders[0].name}, allows {account} (resource-based; Samba refuses it)"
        return Finding("ok", service, what)
    if rights.is_listed and rights.any_protocol:
        return Finding("ok", service, f'{account} may delegate to it, by "any authentication protocol"')
    if rights.is_listed:
        what = f'{account} may delegate to it by "Kerberos only", which the KDC refuses for this sign-on'
        return Finding("fail", service, what, 'select "use any authentication protocol" on the tab Delegation')
    return Finding("fail", service, f"the domain lets {account} delegate nobody to it", _how_to_allow(account, service))


def _not_one_holder(service: str, names: list[str]) -> Finding:
    if not names:
        remedy = f"run `setspn -S {service} ACCOUNT`, or set sign_on.service to the name that the server runs under"
        return Finding("fail", service, "no account holds it", remedy)
    what = f"{', '.join(sorted(names))} hold it, so the KDC issues no ticket"
    return Finding("fail", service, what, f"remove it from all but one: setspn -D {service} ACCOUNT")


def _how_to_allow(account: str, service: str) -> str:
    return (
        f"Set-ADUser {account} -Add @{{'msDS-AllowedToDelegateTo'='{service}'}} and select \"use any authentication"
        f' protocol"; or set -PrincipalsAllowedToDelegateToAccount {account} on the account of the document server'
    )


async def _ticket(config: Config, service: str, context: CheckContext, broken: str) -> Finding:
    subject = f"ticket for {service}"
    if context.login is None:
        return Finding("note", subject, "none was requested", "give --as USER to request one in this user's name")
    if broken:
        return Finding("untried", subject, f"see {broken}")
    assert context.services.directory is not None
    user = context.login[0]
    try:
        person = await context.services.directory.look_up(identity_of(user))
        if person is None:
            return Finding("fail", subject, f"no directory has {user}", "correct the name")
        size = await asyncio.to_thread(_request, config, person, service, context)
    except Refusal as refusal:
        remedy = await _why_not(config, user, context)
        return Finding("fail", subject, refusal.detail, remedy or "see the findings above")
    return Finding("ok", subject, f"the KDC issues one in the name of {person.name} ({size} bytes in the header)")


def _request(config: Config, person: Person, service: str, context: CheckContext) -> int:
    with open_tickets(config, context.services.state_dir) as tickets:
        token = tickets.token(tickets.impersonate(person.account), person.account, service)
    return len(token) * 4 // 3


async def _why_not(config: Config, user: str, context: CheckContext) -> str:
    """Returns why the user's account prevents delegation, "" if no reason is known."""
    assert context.services.directory is not None
    try:
        person = await context.services.directory.look_up(identity_of(user))
        if person is None:
            return ""
        if isinstance(context.registry, DelegationInfo) and await context.registry.is_sensitive(person.account):
            return (
                f'{person.name} cannot be delegated: clear "account is sensitive and cannot be delegated", or leave the'
                " account as it is"
            )
    except Refusal:
        return ""
    if any(group.endswith(_PROTECTED_USERS) for group in person.groups):
        return f"{person.name} cannot be delegated, being in Protected Users: remove them from it, or leave them there"
    return ""
