"""Users and reference numbers as people write them: in the settings file, on the command line, in records."""

from collections.abc import Collection

from calgate.plugin import Claimant, parse_user


def normalize(written: str) -> str:
    """Returns the one spelling of a written name: CORP\\alice, alice@corp.example, alice alone, or a SID.

    A realm or DNS name is compared by its first label, which is the domain's NetBIOS name unless the domain was set up
    otherwise.
    """
    name = parse_user(written.casefold())
    if name.form == "sid":
        return name.account.casefold()
    domain = name.domain.partition(".")[0]
    return f"{domain}\\{name.account}" if domain else name.account


def fold_reference(written: str) -> str:
    """Returns the one spelling of a reference number: users read it aloud, so neither case nor the hyphen counts."""
    return "".join(filter(str.isalnum, written)).casefold()


def spellings(name: str, key: str) -> frozenset[str]:
    """Returns every normalized name of a user with the name CORP\\alice and this key."""
    folded = name.casefold()
    domain, _, account = folded.rpartition("\\")
    return frozenset({folded, f"{domain.partition('.')[0]}\\{account}", account, key.casefold()})


def is_named(names: Collection[str], claimant: Claimant) -> bool:
    """Returns whether a claimant is among normalized names; a name without a domain is that account in any domain."""
    return bool(names) and not spellings(claimant.name, claimant.user).isdisjoint(names)
