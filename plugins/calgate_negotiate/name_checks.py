"""Refuses names from the wire that could be read in two ways.

A name in a handshake is a hint until a directory confirms it. A domain hidden in the account, or an invisible
character, is refused before the name is used: an acceptor that joins `EVIL\\` and `alice` lets the wrong person in.
"""

import unicodedata

MAX_NAME = 256
"""Characters in one part: userPrincipalName and sAMAccountName are shorter (MS-ADA3)."""


def check_ntlm(domain: str, account: str) -> None:
    """Raises ValueError unless both are plain. The domain may be empty; then the account may be a UPN."""
    if not account:
        raise ValueError("anonymous sign-in is not accepted")
    if domain:
        check_part(domain)
    elif account.count("@") == 1:
        for part in account.split("@"):
            check_part(part)
        return
    check_part(account)


def check_part(name: str) -> None:
    """Raises ValueError unless this is one plain, visible name."""
    if not name or len(name) > MAX_NAME:
        raise ValueError(f"a name of {len(name)} characters is not accepted")
    if name != name.strip():
        raise ValueError(f"a name with a blank at its beginning or end is not accepted: {name!r}")
    for character in name:
        if character in "\\/@" or unicodedata.category(character).startswith("C"):
            raise ValueError(f"a name that contains {character!r} is not accepted: {name!r}")
