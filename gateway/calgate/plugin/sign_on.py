"""How does the document server learn who you are?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@runtime_checkable
class PublishesKeys(Protocol):
    """A sign-on that signs: the gateway publishes its public keys at `/_calgate/keys`, to everybody."""

    def public_keys(self) -> Sequence[Mapping[str, str]]:
        """Returns the keys as JWK (RFC 7517), each with `kid`."""


@dataclass(frozen=True, slots=True)
class DocumentServer:
    """The document server that a request is about to be sent to."""

    name: str  # its URL, as in the settings file: https://qvws1.corp.example
    host: str  # qvws1.corp.example


@runtime_checkable
class ServerSignOn(Protocol):
    """Signs the user in at one document server, with headers that are valid there only, and for one request only."""

    owned: frozenset[str]  # lower-case header names that only the gateway may set
    exclusive: bool  # a connection to the document server carries the requests of one person as long as it is open

    async def introduce(
        self, server: DocumentServer, person: Person, grant: Grant, lease: Lease | None
    ) -> Mapping[str, str]:
        """Returns header values as `SignOn.headers` does.

        Called again each time that the request is sent: to the next server, and on another connection. Raises
        Forbidden, AccountRefused or Unavailable.
        """

    def why_rejected(self, server: DocumentServer, status: int, headers: Mapping[str, str]) -> str | None:
        """Returns the likely cause if this document server rejected the sign-on, for the log; None: it did not.

        Called for responses with status 400 and above; names of `headers` are in lower case. The client then gets a
        502, never the document server's response.
        """
