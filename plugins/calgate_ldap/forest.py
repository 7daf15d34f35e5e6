"""Several domains as one directory: each has its own users and groups.

For the domains of a forest and for trusted domains. Tested with two forests that trust each other; a child domain uses
the same code and has not been tested.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from calgate.plugin import AuthenticationFailed, DelegationRights, Identity, Lockout, Matches, Person, ServiceAccount
from calgate_ldap.directory import ActiveDirectory

_OF_A_DOMAIN = "S-1-5-21-"  # well-known and built-in groups begin differently (MS-DTYP 2.4.2.4)


class Forest:
    """Fills `Directory`, `GroupHints`, `PeopleSearch`, `DomainInfo` and `DelegationInfo`.

    The first domain is the gateway's own.
    """

    def __init__(self, domains: Sequence[ActiveDirectory]) -> None:
        self._own = domains[0]
        self._domains = tuple(domains)

    async def look_up(self, identity: Identity) -> Person | None:
        """Adds the groups of other domains that the ticket names: the user's own domain does not have them."""
        for domain in self._domains:
            person = await domain.look_up(identity)
            if person is not None:
                return await self._with_groups_of_others(person, identity, domain)
        return None

    async def _with_groups_of_others(self, person: Person, identity: Identity, home: ActiveDirectory) -> Person:
        if len(self._domains) == 1 or not identity.groups:
            return person
        own = await home.domain()
        # the other domains are not queried: one that is down must not keep our own users out
        others = {sid for sid in identity.groups if sid.startswith(_OF_A_DOMAIN) and not own.holds(sid)}
        return dataclasses.replace(person, groups=person.groups | others)

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        """A name without a domain is that of the first domain that has such a group."""
        found: dict[str, str | None] = dict.fromkeys(groups)
        for domain in self._domains:
            missing = [name for name, sid in found.items() if sid is None]
            found |= await domain.resolve(missing)
        return found

    async def members_of(self, group: str) -> Sequence[str] | None:
        for domain in self._domains:
            if (found := await domain.members_of(group)) is not None:
                return found
        return None

    async def find_people(self, text: str, most: int) -> Matches:
        """Fills `PeopleSearch` with people of every domain."""
        found = [await domain.find_people(text, most) for domain in self._domains]
        people = [person for matches in found for person in matches.people]
        return Matches(people[:most], len(people) > most or any(matches.is_cut for matches in found))

    async def change_password(self, identity: Identity, old: str, new: str) -> str:
        """Fills `PasswordChanger`."""
        for domain in self._domains:
            if (reason := await domain.change_password(identity, old, new)) is not None:
                return reason
        raise AuthenticationFailed(f"ldap: no domain has an account {identity.name}")

    async def hint(self, group: str) -> str:
        hints = [await domain.hint(group) for domain in self._domains]
        return next(filter(None, hints), "")

    async def holders(self, service: str) -> Sequence[ServiceAccount]:
        """Returns the holders in every domain: an SPN has to be unique in the whole forest."""
        return [holder for domain in self._domains for holder in await domain.holders(service)]

    async def delegation(self, account: str, service: str) -> DelegationRights:
        """Returns what an account of our own domain may do; delegation across domains has not been tested."""
        return await self._own.delegation(account, service)

    async def is_sensitive(self, account: str) -> bool:
        return await self._own.is_sensitive(account)

    async def clock(self) -> float:
        return await self._own.clock()

    async def lockout(self) -> Lockout:
        return await self._own.lockout()
