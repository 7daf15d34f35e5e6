"""The `SignOn` role: header values for a user."""

from collections.abc import Mapping

from calgate.plugin import Forbidden, Grant, Lease, NamedGroups, Person
from calgate_headers.template import Encoding, Template


class Headers:
    """Fills templates with a user's names from the directory."""

    per_person = True

    def __init__(
        self,
        templates: Mapping[str, Template],
        encoding: Encoding,
        groups: NamedGroups | None = None,
        separator: str = ",",
        limit: int = 8192,
    ) -> None:
        """`limit`: bytes of a value."""
        self._groups = groups
        self._separator = separator
        self._limit = limit
        self._templates = dict(templates)
        self._encoding: Encoding = encoding
        self.owned = frozenset(name.lower() for name in templates)

    async def headers(self, person: Person, grant: Grant, lease: Lease | None) -> Mapping[str, str]:
        """Raises Forbidden if a value cannot be written in the encoding without changing it, or exceeds the limit.

        Raises Unavailable if a group cannot be looked up.
        """
        groups = "" if self._groups is None else self._separator.join(await self._groups.of(person))
        filled = {name: template.fill(person, self._encoding, groups) for name, template in self._templates.items()}
        for name, value in filled.items():
            if value is not None and len(value) > self._limit:
                raise Forbidden(f"sign-on: {name} of {person.name} has {len(value)} bytes; raise sign_on.limit")
        return {name: value for name, value in filled.items() if value is not None}
