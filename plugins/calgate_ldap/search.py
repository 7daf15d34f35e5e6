"""Searches one domain for people by the beginning of a name."""

from calgate.plugin import AccountRefused, Match, Matches
from calgate_ldap import account
from calgate_ldap.connection import Connection, Entry, escape
from calgate_ldap.domain import Domain

_NAMES = ("sAMAccountName", "userPrincipalName", "displayName", "givenName", "sn", "cn", "mail")
"""Attributes that Active Directory has an index for, so that a search by their beginnings reads little."""
_ATTRIBUTES = ("objectSid", "sAMAccountName", "userPrincipalName", "displayName", "mail", *account.STATE)
_UNREADABLE = "account-state-unreadable"


def find_people(connection: Connection, base: str, domain: Domain, text: str, most: int, now: float) -> Matches:
    """Returns up to `most` users of whom a name begins with the text. `now`: Unix time."""
    if not text.isprintable():  # no name has such a character, and Samba reads a text only up to a NUL
        return Matches([])
    entries, is_cut = connection.first(base, _filter(text, domain), _ATTRIBUTES, most)
    people = [_match(entry, domain, now) for entry in entries if not entry.missing(["objectSid", "sAMAccountName"])]
    return Matches(sorted(people, key=lambda one: one.display_name.casefold()), is_cut)


def _filter(text: str, domain: Domain) -> str:
    """Returns the filter. Computers are users too, but of another category."""
    names = [_begins(name, text) for name in _NAMES]
    before, backslash, account = text.partition("\\")
    if backslash and account and domain.is_called(before):
        names.append(_begins("sAMAccountName", account))
    account, at, realm = text.partition("@")
    if at and account and domain.dns.casefold().startswith(realm.casefold()):
        names.append(f"(sAMAccountName={escape(account)})")  # account@domain, which needs no userPrincipalName
    return f"(&(objectCategory=person)(objectClass=user)(|{''.join(names)}))"


def _begins(attribute: str, text: str) -> str:
    return f"({attribute}={escape(text)}*)"


def _match(entry: Entry, domain: Domain, now: float) -> Match:
    name = entry.text("sAMAccountName")
    return Match(
        *(entry.sid(), f"{domain.name}\\{name}", entry.text("displayName") or name),
        *(entry.text("userPrincipalName"), entry.text("mail"), _refusal(entry, name, now)),
    )


def _refusal(entry: Entry, name: str, now: float) -> str:
    if entry.missing(account.STATE):
        return _UNREADABLE
    try:
        account.refuse_unless_usable(entry, name, now)
    except AccountRefused as refusal:
        return refusal.code
    return ""
