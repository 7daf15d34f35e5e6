"""How does the document server learn who you are?"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from calgate.plugin.access import Grant
from calgate.plugin.identity import Person
from calgate.plugin.licensing import Lease


@runtime_checkable
class SignOn(Protocol):
    """Tells the document server who the user is."""

    owned: frozenset[str]  # lower-case header names that only the gateway may set
    per_person: bool  # the person alone decides: asked once a session and route, not for each request

    async def headers(self, person: Person, grant: Grant, lease: Lease | None) -> Mapping[str, str]:
        """Header values, one character a byte of the wire (latin-1). Raises Forbidden where a name does not fit."""
