"""A header value with places for a person's names, and the guards that keep a name what it is.

A name that does not fit is refused: one that was cut, stripped or replaced might be somebody else's.
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

_PLACES: Mapping[str, Callable[[Person], str]] = {
    "domain": lambda person: person.domain,
    "account": lambda person: person.account,
    "name": lambda person: person.name,
    "display_name": lambda person: person.display_name,
    "key": lambda person: person.key,
}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_LITERAL = re.compile(r"[\x20-\x7e]*")
_NOT_OURS = frozenset(
    {
        *("authorization", "connection", "content-length", "cookie", "expect", "host"),
        *("keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_UNWRITABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, halves of a pair, line and paragraph ends


@dataclass(frozen=True, slots=True)
class Template:
    """Literal text and places by turns: each pair is text and the place that follows it, if one does."""

    parts: tuple[tuple[str, str | None], ...]

    def fill(self, person: Person, encoding: Encoding) -> str:
        """The value, one character a byte of the wire; raises Forbidden where it does not fit."""
        text = "".join(literal + _written(person, place, encoding) for literal, place in self.parts)
        if text != text.strip(" \t"):
            raise Forbidden("a sign-on header would lose the blank at an end of its value")
        return text


def parse(text: str) -> Template:
    """Raises ValueError, with a sentence for the administrator, for what is no template."""
    try:
        parts = [(literal, place, spec, conversion) for literal, place, spec, conversion in Formatter().parse(text)]
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; a brace itself is written {{{{ or }}}}") from error
    for literal, place, spec, conversion in parts:
        if not _LITERAL.fullmatch(literal):
            raise ValueError(f"{text!r}: only ASCII can stand between the places")
        if place is not None and (place not in _PLACES or spec or conversion):
            known = ", ".join(f"{{{name}}}" for name in _PLACES)
            raise ValueError(f"{text!r}: there is no {{{place}}} to put in; there are {known}")
    return Template(tuple((literal, place) for literal, place, _, _ in parts))


def demand_name(name: str) -> None:
    """Raises ValueError where this is no name for a sign-on header."""
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no header name")
    if name.lower() in _NOT_OURS or name.lower().startswith("proxy-"):
        raise ValueError(f"{name} has a meaning in HTTP itself and cannot tell who the user is")


def _written(person: Person, place: str | None, encoding: Encoding) -> str:
    if place is None:
        return ""
    value = _PLACES[place](person)
    _demand_fit(person, place, value)
    try:
        match encoding:
            case "utf-8":
                return value.encode("utf-8").decode("latin-1")
            case "latin-1":
                return value.encode("latin-1").decode("latin-1")
            case "percent":
                return quote(value, safe="")
    except UnicodeEncodeError as error:
        raise Forbidden(f"the {place} of {person.name!r} cannot be written in {encoding}") from error


def _demand_fit(person: Person, place: str, value: str) -> None:
    if not value:
        raise Forbidden(f"the directory has no {place} for {person.key!r}")
    if any(unicodedata.category(character) in _UNWRITABLE for character in value):
        raise Forbidden(f"the {place} of {person.name!r} has control characters")
    # CORP\alice and alice@corp would be read as other people's names with one more separator in them
    if place in {"domain", "account", "name"} and any(
        set("\\/@") & set(part) for part in (person.domain, person.account)
    ):
        raise Forbidden(f"the name {person.name!r} has a separator within it")
