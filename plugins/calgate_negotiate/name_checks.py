"""Which names from the wire are looked at at all.

A name in a handshake is a hint until a directory confirms it. One that could be read in two ways (a domain hidden in
the account, a character that does not show) is refused before anybody is asked: an acceptor that joins `EVIL\\` and
`alice` proves the wrong person.
"""

import unicodedata

LONGEST = 256
"""Characters in one part: userPrincipalName and sAMAccountName are shorter (MS-ADA3)."""


def check_ntlm(domain: str, account: str) -> None:
    """Raises ValueError unless both are plain; the domain may be empty, and then the account may be a UPN."""
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
    if not name or len(name) > LONGEST:
        raise ValueError(f"a name of {len(name)} characters is not accepted")
    if name != name.strip():
        raise ValueError(f"a name that begins or ends with a blank is not accepted: {name!r}")
    for character in name:
        if character in "\\/@" or unicodedata.category(character).startswith("C"):
            raise ValueError(f"a name with {character!r} in it is not accepted: {name!r}")
