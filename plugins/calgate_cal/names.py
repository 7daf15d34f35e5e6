"""Names of users as people write them: in the settings file, on the command line, in records."""

from collections.abc import Collection

from calgate.plugin import Claimant


def normalize(written: str) -> str:
    """Returns the one spelling of a written name: CORP\\alice, alice@corp.example, alice alone, or a SID.

    A realm is compared by its first label, which is the domain's NetBIOS name unless the domain was set up otherwise.
    """
    folded = written.strip().casefold()
    account, at, realm = folded.partition("@")
    if not at or "\\" in folded:
        return folded
    return f"{realm.partition('.')[0]}\\{account}"


def spellings(name: str, key: str) -> frozenset[str]:
    """Returns every normalized name of a user with the name CORP\\alice and this key."""
    folded = name.casefold()
    return frozenset({folded, folded.rpartition("\\")[2], key.casefold()})


def is_named(names: Collection[str], claimant: Claimant) -> bool:
    """Returns whether a claimant is among normalized names; a name without a domain means that account in any."""
    return bool(names) and not spellings(claimant.name, claimant.user).isdisjoint(names)
