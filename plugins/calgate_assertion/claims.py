"""The claims of a token about the user."""

from collections.abc import Callable, Mapping, Sequence
from string import Formatter

from calgate.plugin import Lease, Person

NOT_BEFORE = 30  # seconds that the reader's clock may be behind ours

_FIELDS: Mapping[str, Callable[[Person], str]] = {
    "domain": lambda person: person.domain,
    "account": lambda person: person.account,
    "name": lambda person: person.name,
    "display_name": lambda person: person.display_name,
    "key": lambda person: person.key,
}
_FIXED = frozenset({"iss", "aud", "sub", "exp", "nbf", "iat", "jti", "groups", "license", "lease"})


def demand_claim(name: str) -> str:
    """Raises ValueError for a claim whose value is not the administrator's to choose."""
    if not name or name in _FIXED:
        raise ValueError(f"the claim {name!r} has a meaning of its own; choose another name")
    return name


def demand_template(text: str) -> str:
    """Raises ValueError for a malformed template, with a sentence for the administrator."""
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; write a brace as {{{{ or }}}}") from error
    for _, field, spec, conversion in parts:
        if field is not None and (field not in _FIELDS or spec or conversion):
            known = ", ".join(f"{{{name}}}" for name in _FIELDS)
            raise ValueError(f"{text!r}: unknown field {{{field}}}; known are {known}")
    return text


def about(
    person: Person, groups: Sequence[str], lease: Lease | None, templates: Mapping[str, str]
) -> dict[str, object]:
    """Returns the claims about a user; `groups` are those that the reader may know of."""
    claims: dict[str, object] = {
        "sub": person.key,
        "preferred_username": person.name,
        "name": person.display_name,
        "groups": list(groups),
    }
    if lease is not None:
        claims |= {"license": lease.license, "lease": lease.kind}
    return claims | {name: _filled(text, person) for name, text in templates.items()}


def validity(now: int, lifetime: float) -> dict[str, int]:
    """Returns the claims about the token's own time."""
    return {"iat": now, "nbf": now - NOT_BEFORE, "exp": now + int(lifetime)}


def _filled(text: str, person: Person) -> str:
    return "".join(
        literal + (_FIELDS[field](person) if field is not None else "")
        for literal, field, _, _ in Formatter().parse(text)
    )
