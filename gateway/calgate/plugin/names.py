"""Names of users and groups as administrators and clients write them; the only parser for them."""

import re
from dataclasses import dataclass
from typing import Literal

from calgate.plugin.identity import Identity

_SID = re.compile(r"S-1(-\d{1,15}){1,16}", re.IGNORECASE)
# RFC 4514 section 3: an attribute type or an OID, then "="; neither a domain's nor an account's name has a "="
_DN = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+)\s*=")


@dataclass(frozen=True, slots=True)
class Name:
    """A parsed name. `account` is the whole text for a SID or a DN."""

    form: Literal["sid", "dn", "qualified", "upn", "bare"]  # S-1-5-…, CN=…, CORP\\name, name@realm, name
    account: str
    domain: str = ""


def parse_group(text: str) -> Name:
    """Returns the parts of a group's name: a SID, a DN, DOMAIN\\name, or a bare name, which may contain "@"."""
    if _SID.fullmatch(text):
        return Name("sid", text.upper())
    if _DN.match(text):
        return Name("dn", text)
    domain, backslash, account = text.partition("\\")
    return Name("qualified", account, domain) if backslash else Name("bare", text)


def parse_user(text: str) -> Name:
    """Returns the parts of a user's name: a SID, a DN, DOMAIN\\name, name@realm, or a bare name."""
    name = parse_group(text)
    if name.form != "bare" or "@" not in text:
        return name
    account, _, domain = text.rpartition("@")
    return Name("upn", account, domain)


def identity_of(text: str) -> Identity:
    """Returns the identity of a user whom an administrator names, for `Directory.look_up`.

    Its mechanism is "": the name was not proved. A DN stands in `account`.
    """
    name = parse_user(text)
    if name.form == "sid":
        return Identity("", "", mechanism="", sid=name.account)
    return Identity(name.domain, name.account, mechanism="")
