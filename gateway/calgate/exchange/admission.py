"""A request that may be forwarded."""

from dataclasses import dataclass

from calgate.authentication.session import Session
from calgate.authentication.sign_in import SignedIn
from calgate.plugin.access import Grant
from calgate.plugin.identity import Person
from calgate.plugin.licensing import Lease
from calgate.routes import Route


@dataclass(slots=True, eq=False)  # not frozen: that costs 1.5 µs a request
class Admission:
    """A request that may be forwarded: all four questions have been answered in its favor."""

    route: Route
    signed_in: SignedIn
    person: Person
    grant: Grant
    lease: Lease | None
    sign_on: bytes  # headers as they are sent
    body: bytes | None  # where the dialect had to see it
    polls: bool  # a long poll: may block for minutes, and does not count as using the document

    @property
    def session(self) -> Session:
        return self.signed_in.session
