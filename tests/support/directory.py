"""A directory for tests that need only names."""

from collections.abc import Mapping, Sequence

from calgate.plugin.identity import Identity, Person


class People:
    """A directory in which every account of the domain CORP exists, unless its name begins with "no"."""

    async def look_up(self, identity: Identity) -> Person | None:
        if identity.domain.casefold() not in ("", "corp") or identity.account.startswith("no"):
            return None
        account = identity.account.casefold()
        return Person(account, "CORP", account, account.title(), frozenset())

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        return {group: group for group in groups}
