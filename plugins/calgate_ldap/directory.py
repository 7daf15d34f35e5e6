"""The role `Directory` over one Active Directory domain."""

import difflib
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from calgate.plugin import (
    AccountRefused,
    AuthenticationFailed,
    DelegationRights,
    Identity,
    Lockout,
    Matches,
    Name,
    Person,
    ServiceAccount,
    parse_group,
    parse_user,
)
from calgate_ldap import account, delegation, domain_info, search
from calgate_ldap.cache import Cache
from calgate_ldap.connection import Connection, Entry, escape
from calgate_ldap.domain import Domain
from calgate_ldap.pool import Pool

logger = logging.getLogger(__name__)

_PERSON = ("displayName", *account.REQUIRED)
_GROUP = ("objectClass", "objectSid", "groupType")
_IN_CHAIN = "1.2.840.113556.1.4.1941"  # LDAP_MATCHING_RULE_IN_CHAIN: nested groups too
_INVALID_OLD = "00000056"  # ERROR_INVALID_PASSWORD, at the beginning of a server's message
_LOCKED_OUT = "00000775"  # ERROR_ACCOUNT_LOCKED_OUT
_SIMILAR = 500  # groups that are compared with a name that was not found; a server returns 1,000 at most
_SECURITY_ENABLED = 0x80000000  # of groupType: distribution groups never appear in tokenGroups


class ActiveDirectory:
    """Fills `Directory`, `GroupHints`, `PeopleSearch`, `DomainInfo` and `DelegationInfo` for one domain.

    `now`: Unix time.
    """

    def __init__(
        self,
        pool: Pool,
        base: str,
        cache: Cache,
        now: Callable[[], float] = time.time,
        attributes: Sequence[str] = (),
    ) -> None:
        """`attributes`: of people, in addition to those that the gateway needs."""
        self._attributes = tuple(attributes)
        self._pool = pool
        self._base = base
        self._cache = cache
        self._now = now
        self._domain: Domain | None = None
        self._hinted: set[str] = set()

    async def look_up(self, identity: Identity) -> Person | None:
        """An identity without a mechanism was typed by an administrator: a UPN, a DN and a bare name are found too."""
        if identity.mechanism == "kerberos" and identity.sid is None:
            # A principal may be one account's userPrincipalName and another's sAMAccountName (CVE-2020-25717).
            logger.warning(
                "ldap: the ticket of %s has no PAC; clear NO_AUTH_DATA_REQUIRED on the gateway's account", identity.name
            )
            return None
        if identity.sid is not None and not (await self.domain()).holds(identity.sid):
            return None
        key = identity.sid or f"{'' if identity.mechanism else 'typed:'}{identity.name.casefold()}"
        return await self._cache.get(
            key, lambda: self._pool.query(lambda connection: self._person(connection, identity))
        )

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        if not groups:
            return {}
        return await self._pool.query(lambda connection: {group: self._group(connection, group) for group in groups})

    async def members_of(self, group: str) -> Sequence[str] | None:
        """Fills `GroupMembers` with SIDs; members of another domain are not listed."""
        return await self._pool.query(lambda connection: self._members(connection, group))

    async def find_people(self, text: str, most: int) -> Matches:
        """Fills `PeopleSearch`."""
        return await self._pool.query(
            lambda connection: search.find_people(
                connection, self._base, self._own_domain(connection), text, most, self._now()
            )
        )

    async def hint(self, group: str) -> str:
        """Returns what an administrator may have meant by a group that `resolve` does not find, or ""."""
        return await self._pool.query(lambda connection: self._hint(connection, parse_group(group)))

    async def change_password(self, identity: Identity, old: str, new: str) -> str | None:
        """Like `PasswordChanger.change_password`, but returns None for an account of another domain."""
        return await self._pool.query(lambda connection: self._change_password(connection, identity, old, new))

    async def holders(self, service: str) -> Sequence[ServiceAccount]:
        return await self._pool.query(lambda connection: domain_info.read_holders(connection, self._base, service))

    async def clock(self) -> float:
        return await self._pool.query(domain_info.read_clock)

    async def lockout(self) -> Lockout:
        return await self._pool.query(lambda connection: domain_info.read_lockout(connection, self._base))

    async def delegation(self, account: str, service: str) -> DelegationRights:
        return await self._pool.query(
            lambda connection: delegation.read_rights(connection, self._base, account, service)
        )

    async def is_sensitive(self, account: str) -> bool:
        return await self._pool.query(lambda connection: delegation.read_sensitive(connection, self._base, account))

    async def domain(self) -> Domain:
        """Returns the domain's names and SID. Raises Unavailable until a server has returned them once."""
        if self._domain is None:
            self._domain = await self._pool.query(lambda connection: Domain.read(connection, self._base))
        return self._domain

    # ------------------------------------------------------------ in a thread, on one connection

    def _person(self, connection: Connection, identity: Identity) -> Person | None:
        domain = self._own_domain(connection)
        entry = self._find(connection, domain, identity)
        if entry is None:
            return None
        entry.require(["objectClass"])
        if b"user" not in entry.attributes["objectclass"]:
            return None
        entry.require(account.REQUIRED)
        name = entry.text("sAMAccountName")
        account.refuse_unless_usable(entry, f"{domain.name}\\{name}", self._now())
        groups = {*entry.sids("tokenGroups"), f"{domain.sid}-{entry.number('primaryGroupID')}"}
        attributes = {one.lower(): entry.text(one) for one in self._attributes}
        return Person(entry.sid(), domain.name, name, entry.text("displayName") or name, frozenset(groups), attributes)

    def _find(self, connection: Connection, domain: Domain, identity: Identity) -> Entry | None:
        """Returns the user's object, read by its DN or SID: a search over several objects returns no tokenGroups."""
        if identity.sid is not None:
            return connection.read(f"<SID={identity.sid}>", self._person_attributes) if _is_sid(identity.sid) else None
        if identity.mechanism == "":
            return self._find_typed(connection, domain, identity)
        return self._by_account(connection, identity.account) if domain.is_called(identity.domain) else None

    def _change_password(self, connection: Connection, identity: Identity, old: str, new: str) -> str | None:
        entry = self._find_typed(connection, self._own_domain(connection), identity)
        if entry is None:
            return None
        if not (message := connection.change_password(entry.dn, old, new)):
            return ""
        if message.startswith(_INVALID_OLD):
            raise AuthenticationFailed(f"ldap: the old password of {identity.account} is wrong ({message})")
        if message.startswith(_LOCKED_OUT):
            raise AccountRefused(f"ldap: {identity.account}: {message}", code="account-locked")
        logger.info("ldap: the domain does not accept a new password of %s: %s", identity.account, message)
        return account.password_policy(message)

    def _find_typed(self, connection: Connection, domain: Domain, identity: Identity) -> Entry | None:
        if not identity.domain and parse_user(identity.account).form == "dn":
            return connection.read(identity.account, self._person_attributes)
        is_ours = not identity.domain or domain.is_called(identity.domain)
        by_upn = self._by_upn(connection, identity.account, domain.dns if is_ours else identity.domain)
        if "." in identity.domain and by_upn is not None:
            return by_upn  # an explicit userPrincipalName comes before the implicit account@domain, as in AD itself
        # a renamed account often keeps its userPrincipalName, which then is the old name
        return (self._by_account(connection, identity.account) or by_upn) if is_ours else None

    def _by_upn(self, connection: Connection, account: str, domain: str) -> Entry | None:
        return self._only(connection, f"(userPrincipalName={escape(f'{account}@{domain}')})")

    def _by_account(self, connection: Connection, name: str) -> Entry | None:
        return self._only(connection, f"(sAMAccountName={escape(name)})")

    def _only(self, connection: Connection, filter_: str) -> Entry | None:
        """Returns the only user who matches."""
        found = connection.find(self._base, f"(&(objectClass=user){filter_})", ["objectSid"])
        return connection.read(found[0].dn, self._person_attributes) if len(found) == 1 else None

    def _group(self, connection: Connection, group: str) -> str | None:
        name = parse_group(group)
        entry = self._group_entry(connection, name)
        if entry is None:
            self._log_hint(connection, group, name)
            return None
        entry.require(["objectClass"])
        if b"group" not in entry.attributes["objectclass"]:
            return None
        entry.require(_GROUP)
        if not entry.number("groupType") & _SECURITY_ENABLED:
            logger.warning("ldap: %s is a distribution group, which grants nobody access; name a security group", group)
            return None
        return entry.sid()

    def _members(self, connection: Connection, group: str) -> list[str] | None:
        """A primary group is no memberOf: its members are found by the group's number (MS-ADTS 3.1.1.4.5.36)."""
        entry = self._group_entry(connection, parse_group(group))
        if entry is None:
            return None
        number = entry.sid().rpartition("-")[2]
        direct_or_nested = f"(memberOf:{_IN_CHAIN}:={escape(entry.dn)})"
        filter_ = f"(&(objectClass=user)(|{direct_or_nested}(primaryGroupID={number})))"
        found = connection.find_all(self._base, filter_, ["objectSid"])
        return [member.sid() for member in found]

    def _group_entry(self, connection: Connection, name: Name) -> Entry | None:
        if name.form == "sid":
            return connection.read(f"<SID={name.account}>", _GROUP)
        if name.form == "dn":
            return connection.read(name.account, _GROUP)
        if not self._is_ours(connection, name):
            return None
        filter_ = f"(&(objectClass=group)(sAMAccountName={escape(name.account)}))"
        found = connection.find(self._base, filter_, _GROUP)
        return found[0] if len(found) == 1 else None

    def _is_ours(self, connection: Connection, name: Name) -> bool:
        return name.form == "bare" or (
            name.domain.casefold() == "builtin" or self._own_domain(connection).is_called(name.domain)
        )

    def _log_hint(self, connection: Connection, group: str, name: Name) -> None:
        if group not in self._hinted and (hint := self._hint(connection, name)):
            self._hinted.add(group)
            logger.warning("ldap: no group is called %s; %s", group, hint)

    def _hint(self, connection: Connection, name: Name) -> str:
        if name.form in ("sid", "dn") or not self._is_ours(connection, name):
            return ""
        wanted = escape(name.account)
        filter_ = f"(&(objectClass=group)(|(cn={wanted})(displayName={wanted})))"
        found = connection.find(self._base, filter_, ["sAMAccountName"])
        if len(found) != 1 or not found[0].text("sAMAccountName"):
            return self._nearest(connection, name)
        called = f"{self._own_domain(connection).name}\\{found[0].text('sAMAccountName')}"
        return f'the pre-Windows 2000 name of {found[0].dn} is {called}: write "{called.replace(chr(92), chr(92) * 2)}"'

    def _nearest(self, connection: Connection, name: Name) -> str:
        """Returns the most similar name of a group with the same first letter: that much of the index is searched."""
        filter_ = f"(&(objectClass=group)(sAMAccountName={escape(name.account[:1])}*))"
        found = connection.sample(self._base, filter_, ["sAMAccountName"], _SIMILAR)
        spelled = {account.casefold(): account for entry in found if (account := entry.text("sAMAccountName"))}
        near = difflib.get_close_matches(name.account.casefold(), list(spelled), n=1)
        return f"the nearest name is {self._own_domain(connection).name}\\{spelled[near[0]]}" if near else ""

    @property
    def _person_attributes(self) -> Sequence[str]:
        return (*_PERSON, *self._attributes)

    def _own_domain(self, connection: Connection) -> Domain:
        if self._domain is None:
            self._domain = Domain.read(connection, self._base)
        return self._domain


def _is_sid(text: str) -> bool:
    return parse_group(text).form == "sid"
