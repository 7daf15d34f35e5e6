"""Templates of header values with fields for a user's names.

A name that cannot be written is refused: truncated, stripped or replaced, it could be another user's.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Literal
from urllib.parse import quote

from calgate.plugin import Forbidden, Person

Encoding = Literal["utf-8", "latin-1", "percent"]

_FIELDS: Mapping[str, Callable[[Person], str]] = {
    "domain": lambda person: person.domain,
    "account": lambda person: person.account,
    "name": lambda person: person.name,
    "display_name": lambda person: person.display_name,
    "key": lambda person: person.key,
}
_GROUPS = "groups"
_ATTRIBUTE = re.compile(r"attributes\.[A-Za-z][A-Za-z0-9-]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_LITERAL = re.compile(r"[\x20-\x7e]*")
_RESERVED = frozenset(
    {
        *("authorization", "connection", "content-length", "cookie", "expect", "host"),
        *("keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_UNWRITABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, surrogates, line and paragraph separators


@dataclass(frozen=True, slots=True)
class Template:
    """Pairs of literal text and the field that follows it (None after the last text)."""

    parts: tuple[tuple[str, str | None], ...]

    @property
    def names_groups(self) -> bool:
        return any(field == _GROUPS for _, field in self.parts)

    def fill(self, person: Person, encoding: Encoding, groups: str = "") -> str | None:
        """Returns the value, one character for each byte on the wire.

        None: the user has no such attribute, or is in none of the groups, so there is no header. Raises Forbidden if a
        value cannot be written, or the directory does not know the attribute.
        """
        values = [_value(person, field, groups) for _, field in self.parts if field is not None]
        if any(not value for field, value in values if _is_optional(field)):
            return None
        text = "".join(literal + _written(person, field, encoding, groups) for literal, field in self.parts)
        if text != text.strip(" \t"):
            raise Forbidden("sign-on: the header would lose the blank at the beginning or end of its value")
        return text


def parse(text: str) -> Template:
    """Raises ValueError for a malformed template, with a sentence for the administrator."""
    try:
        parts = [(literal, field, spec, conversion) for literal, field, spec, conversion in Formatter().parse(text)]
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; write a brace as {{{{ or }}}}") from error
    for literal, field, spec, conversion in parts:
        if not _LITERAL.fullmatch(literal):
            raise ValueError(f"{text!r}: only ASCII is allowed outside the fields")
        is_known = field is None or field in _FIELDS or field == _GROUPS or _ATTRIBUTE.fullmatch(field) is not None
        if not is_known or spec or conversion:
            known = ", ".join(f"{{{name}}}" for name in (*_FIELDS, _GROUPS, "attributes.mail"))
            raise ValueError(f"{text!r}: unknown field {{{field}}}; known are {known}")
    return Template(tuple((literal, field) for literal, field, _, _ in parts))


def demand_name(name: str) -> None:
    """Raises ValueError if this cannot be the name of a sign-on header."""
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name")
    if name.lower() in _RESERVED or name.lower().startswith("proxy-"):
        raise ValueError(f"{name} has a meaning in HTTP itself, so it cannot name the user")


def _is_optional(field: str) -> bool:
    return field not in _FIELDS


def _value(person: Person, field: str, groups: str) -> tuple[str, str]:
    """Returns the field, and its value for this user."""
    if field in _FIELDS:
        return field, _FIELDS[field](person)
    if field == _GROUPS:
        return field, groups
    name = field.partition(".")[2]
    value = person.attributes.get(name.lower())
    if value is None:
        raise Forbidden(f"sign-on: nothing is known of the attribute {name} of {person.name!r}; name it in [ldap]")
    return field, value


def _written(person: Person, field: str | None, encoding: Encoding, groups: str) -> str:
    if field is None:
        return ""
    _, value = _value(person, field, groups)
    _demand_fit(person, field, value)
    try:
        match encoding:
            case "utf-8":
                return value.encode("utf-8").decode("latin-1")
            case "latin-1":
                return value.encode("latin-1").decode("latin-1")
            case "percent":
                return quote(value, safe="")
    except UnicodeEncodeError as error:
        raise Forbidden(f"sign-on: the {field} of {person.name!r} cannot be written in {encoding}") from error


def _demand_fit(person: Person, field: str, value: str) -> None:
    if not value:
        raise Forbidden(f"sign-on: the directory has no {field} for {person.key!r}")
    if any(unicodedata.category(character) in _UNWRITABLE for character in value):
        raise Forbidden(f"sign-on: the {field} of {person.name!r} has control characters")
    # with another separator in it, CORP\alice or alice@corp could be read as another user's name
    if field in {"domain", "account", "name"} and any(
        set("\\/@") & set(part) for part in (person.domain, person.account)
    ):
        raise Forbidden(f"sign-on: the name {person.name!r} contains a separator")
