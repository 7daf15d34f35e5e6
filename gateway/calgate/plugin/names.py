"""Names of users and groups as administrators and clients write them; the only parser for them."""

import re
from dataclasses import dataclass
from typing import Literal

from calgate.plugin.identity import Identity

_SID = re.compile(r"S-1(-[0-9]{1,15}){1,16}", re.IGNORECASE)
# RFC 4514 section 3: an attribute type or an OID, then "="; neither a domain's nor an account's name has a "="
_DN = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)\s*=")


@dataclass(frozen=True, slots=True)
class Name:
    """A parsed name. `account` is the whole text for a SID or a DN."""

    form: Literal["sid", "dn", "qualified", "upn", "bare"]  # S-1-5-…, CN=…, CORP\\name, name@realm, name
    account: str
    domain: str = ""


def parse_group(text: str) -> Name:
    """Returns the parts of a group's name: a SID, a DN, DOMAIN\\name, or a bare name, which may contain "@".

    Blanks around a name or its parts do not count: no account's name begins or ends with one.
    """
    name = text.strip()
    if _SID.fullmatch(name):
        return Name("sid", name.upper())
    if _DN.match(name):
        return Name("dn", f"{name} " if name.endswith("\\") else name)  # an escaped blank at the end belongs to it
    domain, backslash, account = name.partition("\\")
    return Name("qualified", account.strip(), domain.strip()) if backslash else Name("bare", name)


def parse_user(text: str) -> Name:
    """Returns the parts of a user's name: a SID, a DN, DOMAIN\\name, name@realm, or a bare name.

    DOMAIN/name is DOMAIN\\name: neither a NetBIOS name nor an account's name may have a slash (MS-SAMR, 3.1.1.6).
    """
    name = parse_group(text)
    if name.form != "bare":
        return name
    if "@" in name.account:
        account, _, domain = name.account.rpartition("@")
        return Name("upn", account.strip(), domain.strip())
    domain, _, account = map(str.strip, name.account.partition("/"))
    return Name("qualified", account, domain) if domain and account else name


def identity_of(text: str) -> Identity:
    """Returns the identity of a user whom an administrator names, for `Directory.look_up`.

    Its mechanism is "": the name was not proved. A DN stands in `account`.
    """
    name = parse_user(text)
    if name.form == "sid":
        return Identity("", "", mechanism="", sid=name.account)
    return Identity(name.domain, name.account, mechanism="")
