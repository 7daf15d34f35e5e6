"""Routes: which requests go to which document servers."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from calgate.dialect import Dialect
from calgate.paths import is_at_or_below
from calgate.plugin.sign_on import SignOn
from calgate.upstream.forwarder import Forwarder
from calgate.upstream.pool import Upstream


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of `[[routes]]`, ready for use."""

    number: int
    host: str
    path: str
    license: str | None
    dialect: Dialect | None
    sign_on: SignOn | None
    forwarder: Forwarder
    websocket_idle: float = 3600.0  # seconds without a byte
    windows: bool = True  # the document servers run Windows, so paths that it resolves differently are refused

    def covers(self, host: str, path: str) -> bool:
        """Whether this route serves the request; `path` matches whole segments.

        Case does not count: a server that ignores case must not be reached past the route, and past its dialect.
        """
        if self.host and host.partition(":")[0] != self.host:
            return False
        return self.path == "/" or is_at_or_below(path, self.path)


def find_route(routes: Sequence[Route], host: str, path: str) -> Route | None:
    """The first route that covers the request."""
    for route in routes:
        if route.covers(host, path):
            return route
    return None


class HostAndPath(Protocol):
    """What hidden routes are found by."""

    @property
    def host(self) -> str: ...
    @property
    def path(self) -> str: ...


class ServerSettings(Protocol):
    """What a route's settings say of its document servers."""

    @property
    def upstream_ca(self) -> Path | None: ...
    @property
    def connect_timeout(self) -> float: ...
    @property
    def answer_timeout(self) -> float: ...
    @property
    def connections(self) -> int: ...


def hidden_routes(routes: Sequence[HostAndPath]) -> Sequence[str]:
    """A sentence for each route that another above it leaves no requests for."""
    return [
        f"routes[{place + 1}] ({route.host}{route.path}) is never reached: routes[{above + 1}]"
        f" ({routes[above].host}{routes[above].path}) serves all of it; the narrower one belongs above"
        for place, route in enumerate(routes)
        for above in [next((n for n, other in enumerate(routes[:place]) if _serves_all_of(other, route)), None)]
        if above is not None
    ]


def _serves_all_of(one: HostAndPath, other: HostAndPath) -> bool:
    return one.host.lower() in ("", other.host.lower()) and is_at_or_below(other.path, one.path)


def upstream_of(route: ServerSettings, url: str, make: Callable[..., Upstream] = Upstream) -> Upstream:
    """A document server as a route's settings name it."""
    parts = urlsplit(url)
    tls = None
    if parts.scheme == "https":
        tls = ssl.create_default_context(cafile=route.upstream_ca)
    port = parts.port or (443 if tls else 80)
    return make(
        parts.hostname or "",
        port,
        tls=tls,
        connect=route.connect_timeout,
        patience=route.answer_timeout,
        connections=route.connections,
    )
