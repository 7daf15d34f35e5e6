"""The part of a request that is read before anything is decided about it."""

from dataclasses import dataclass

from calgate.authentication.session import GrantKey
from calgate.dialect import Use
from calgate.routes import Route


@dataclass(frozen=True, slots=True)
class Reading:
    """A request with its body, as the four questions see it. The same bytes of one client always read alike."""

    route: Route
    use: Use
    body: bytes | None  # where the dialect had to see it
    session: str  # the key of the session that its cookie names; "": none
    grant: GrantKey
