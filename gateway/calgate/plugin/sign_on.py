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
    per_person: bool  # the headers depend on the person alone: made once for each session and route

    async def headers(self, person: Person, grant: Grant, lease: Lease | None) -> Mapping[str, str]:
        """Returns header values, in which each character is one byte (latin-1).

        Raises Forbidden if a value cannot be written in the header's encoding.
        """
