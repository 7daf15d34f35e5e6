"""The role `Directory` over Active Directory."""

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence

from calgate.plugin import Identity, Lockout, Person, ServiceAccount
from calgate_ldap import account, domain_info
from calgate_ldap.cache import Cache
from calgate_ldap.connection import Connection, Entry, escape
from calgate_ldap.domain import Domain
from calgate_ldap.pool import Pool

_log = logging.getLogger(__name__)

_PERSON = ("objectSid", "sAMAccountName", "displayName", "primaryGroupID", "tokenGroups", *account.ATTRIBUTES)
_SID = re.compile(r"S-1(-\d{1,15}){1,16}")
_SECURITY_ENABLED = 0x80000000  # of groupType: the others never show up in tokenGroups


class ActiveDirectory:
    """Fills `Directory` for one domain, and `DomainInfo` for those who check. `now`: Unix time."""

    def __init__(self, pool: Pool, base: str, cache: Cache, now: Callable[[], float] = time.time) -> None:
        self._pool = pool
        self._base = base
        self._cache = cache
        self._now = now
        self._domain: Domain | None = None

    async def look_up(self, identity: Identity) -> Person | None:
        if identity.mechanism == "kerberos" and identity.sid is None:
            # A principal may be one account's userPrincipalName and another's sAMAccountName (CVE-2020-25717).
            _log.warning("ldap: the ticket of %s has no PAC: clear NO_AUTH_DATA_REQUIRED on our account", identity.name)
            return None
        if identity.sid is not None and not (await self.domain()).holds(identity.sid):
            return None
        key = identity.sid or identity.name.casefold()
        return await self._cache.get(key, lambda: self._pool.ask(lambda ask: self._person(ask, identity)))

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        if not groups:
            return {}
        return await self._pool.ask(lambda ask: {group: self._group(ask, group) for group in groups})

    async def holders(self, service: str) -> Sequence[ServiceAccount]:
        return await self._pool.ask(lambda ask: domain_info.read_holders(ask, self._base, service))

    async def clock(self) -> float:
        return await self._pool.ask(domain_info.read_clock)

    async def lockout(self) -> Lockout:
        return await self._pool.ask(lambda ask: domain_info.read_lockout(ask, self._base))

    async def domain(self) -> Domain:
        """What the domain is called; raises Unavailable until a server has told it once."""
        if self._domain is None:
            self._domain = await self._pool.ask(lambda ask: Domain.read(ask, self._base))
        return self._domain

    # ------------------------------------------------------------ in a thread, on one connection

    def _person(self, ask: Connection, identity: Identity) -> Person | None:
        domain = self._my_domain(ask)
        if identity.sid is not None:
            entry = ask.read(f"<SID={identity.sid}>", _PERSON) if _SID.fullmatch(identity.sid) else None
        else:
            entry = self._by_name(ask, domain, identity)
        if entry is None or entry.first("objectSid") is None:
            return None
        sid = account.sid_text(entry.first("objectSid") or b"")
        name = entry.text("sAMAccountName")
        account.refuse_unless_usable(entry, f"{domain.name}\\{name}", self._now())
        groups = {account.sid_text(group) for group in entry.attributes.get("tokengroups", ())}
        groups.add(f"{domain.sid}-{entry.number('primaryGroupID')}")
        return Person(sid, domain.name, name, entry.text("displayName") or name, frozenset(groups))

    def _by_name(self, ask: Connection, domain: Domain, identity: Identity) -> Entry | None:
        """tokenGroups is only told of one object at a time, so the name is turned into a DN first."""
        if not domain.is_called(identity.domain):
            return None
        name = escape(identity.account)
        found = ask.find(self._base, f"(&(objectClass=user)(sAMAccountName={name}))", ["objectSid"])
        return ask.read(found[0].dn, _PERSON) if len(found) == 1 else None

    def _group(self, ask: Connection, group: str) -> str | None:
        wanted = ["objectClass", "objectSid", "groupType"]
        domain, slash, name = group.rpartition("\\")
        if _SID.fullmatch(group):
            entry = ask.read(f"<SID={group}>", wanted)
        elif "=" in group and not slash:
            entry = ask.read(group, wanted)
        elif slash and not self._my_domain(ask).is_called(domain) and domain.casefold() != "builtin":
            entry = None
        else:
            found = ask.find(self._base, f"(&(objectClass=group)(sAMAccountName={escape(name)}))", wanted)
            entry = found[0] if len(found) == 1 else None
        if entry is None or b"group" not in entry.attributes.get("objectclass", ()):
            return None
        if not entry.number("groupType") & _SECURITY_ENABLED:
            _log.warning("ldap: %s is a distribution group, which gives nobody access: name a security group", group)
            return None
        return account.sid_text(entry.first("objectSid") or b"")

    def _my_domain(self, ask: Connection) -> Domain:
        if self._domain is None:
            self._domain = Domain.read(ask, self._base)
        return self._domain
