"""The `SignOn` role: header values for a user."""

from collections.abc import Mapping

from calgate.plugin import Grant, Lease, Person
from calgate_headers.template import Encoding, Template


class Headers:
    """Fills templates with a user's names from the directory."""

    per_person = True

    def __init__(self, templates: Mapping[str, Template], encoding: Encoding) -> None:
        self._templates = dict(templates)
        self._encoding: Encoding = encoding
        self.owned = frozenset(name.lower() for name in templates)

    async def headers(self, person: Person, grant: Grant, lease: Lease | None) -> Mapping[str, str]:
        """Raises Forbidden if a name cannot be written in the encoding without changing it."""
        return {name: template.fill(person, self._encoding) for name, template in self._templates.items()}
