"""Routes: which requests go to which document servers."""

import ssl
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from calgate.dialect import Dialect
from calgate.http.origin import host_name
from calgate.paths import is_at_or_below
from calgate.plugin.sign_on import ServerSignOn, SignOn
from calgate.upstream.forwarder import Forwarder
from calgate.upstream.pool import Upstream


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of `[[routes]]`, with its parts."""

    number: int
    host: str
    path: str
    license: str | None
    dialect: Dialect | None
    sign_on: SignOn | None
    forwarder: Forwarder
    websocket_idle: float = 3600.0  # seconds without a byte
    windows: bool = True  # the document servers run Windows, so paths that it resolves differently are refused
    service_workers: bool = False  # scripts of service workers are served
    server_sign_on: ServerSignOn | None = None  # instead of `sign_on`; its requests are never sent without a task
    is_public: bool = False  # nobody is signed in
    passes_authorization: bool = False  # the application's own credentials are forwarded
    is_remembered: bool = False  # requests may be decided from memory: `has_only_remembered_settings`

    @property
    def name(self) -> str:
        """Host and path, as the settings file writes them."""
        return self.host + self.path

    def covers(self, host: str, path: str) -> bool:
        """Whether this route serves a request; `path` matches whole segments, in any case.

        Case is ignored because the document server may ignore it: no spelling may bypass the route and its dialect.
        """
        if self.host and host_name(host) != self.host:
            return False
        return self.path == "/" or is_at_or_below(path, self.path)


# The settings of a route under which what was decided once may be remembered. On a route with any other setting every
# request is decided again, until that setting is added here.
_REMEMBERED_SETTINGS = frozenset(
    {
        "host",
        "path",
        "upstreams",
        "upstream_ca",
        "license",
        "dialect",
        "opens",
        "uses",
        "polls",
        "host_header",
        "connect_timeout",
        "answer_timeout",
        "websocket_idle",
        "connections",
        "connections_per_user",
        "windows",
        "service_workers",
        "health",
        "sign_on",
    }
)


_FOUND = 4096  # hosts with paths whose route is remembered
_LONGEST_FOUND = 512  # characters of both


def has_only_remembered_settings(names: Collection[str]) -> bool:
    """Whether requests of a route that sets these settings may be decided from memory."""
    return _REMEMBERED_SETTINGS.issuperset(names)


def find_route(routes: Sequence[Route], host: str, path: str) -> Route | None:
    """Returns the first route that covers the request, None if there is none."""
    for route in routes:
        if route.covers(host, path):
            return route
    return None


def finder(routes: Sequence[Route]) -> Callable[[str, str], Route | None]:
    """Returns `find_route` for these routes, which remembers its results: a browser requests the same paths again."""
    find = partial(find_route, routes)
    remembered = lru_cache(_FOUND)(find)

    def find_remembered(host: str, path: str) -> Route | None:
        return remembered(host, path) if len(host) + len(path) <= _LONGEST_FOUND else find(host, path)

    return find_remembered


def sign_in_path(routes: Sequence[Route], host: str) -> str:
    """Returns the path of a host's route where users sign in, first of one with a license; "" if there is none."""
    name = host_name(host)
    reached = [
        route
        for route in routes
        if not route.is_public and route.host in ("", name) and find_route(routes, name, route.path) is route
    ]
    best = next((route for route in reached if route.license is not None), reached[0] if reached else None)
    return "" if best is None else best.path


class HostAndPath(Protocol):
    """The settings that decide which requests a route covers."""

    @property
    def host(self) -> str: ...
    @property
    def path(self) -> str: ...


class ServerSettings(Protocol):
    """The settings of a route that concern its document servers."""

    @property
    def upstream_ca(self) -> Path | None: ...
    @property
    def connect_timeout(self) -> float: ...
    @property
    def answer_timeout(self) -> float: ...
    @property
    def connections(self) -> int: ...
    @property
    def connections_per_user(self) -> int | None: ...


def hidden_routes(routes: Sequence[HostAndPath]) -> Sequence[str]:
    """Returns a warning for each route that can never be reached, because a route above it covers all its requests."""
    return [
        f"routes[{index + 1}] ({route.host}{route.path}) is never reached: routes[{above + 1}]"
        f" ({routes[above].host}{routes[above].path}) covers all of it; put the narrower route above the wider one"
        for index, route in enumerate(routes)
        for above in [next((n for n, other in enumerate(routes[:index]) if _covers_all_of(other, route)), None)]
        if above is not None
    ]


def _covers_all_of(one: HostAndPath, other: HostAndPath) -> bool:
    return one.host.lower() in ("", other.host.lower()) and is_at_or_below(other.path, one.path)


class PassesAuthorization(Protocol):
    """The setting of a route that concerns the client's Authorization header."""

    @property
    def authorization(self) -> str: ...


def authorization_faults(
    routes: Sequence[PassesAuthorization], sign_ons: Mapping[int, SignOn | ServerSignOn]
) -> Sequence[str]:
    """Returns a fault for each route that would forward both the client's Authorization header and the sign-on's."""
    return [
        f'routes[{number + 1}].authorization: "pass" cannot be combined with a sign_on that sets Authorization itself;'
        " remove one of the two"
        for number, sign_on in sign_ons.items()
        if routes[number].authorization == "pass" and "authorization" in {name.lower() for name in sign_on.owned}
    ]


def upstream_of(route: ServerSettings, url: str, make: Callable[..., Upstream] = Upstream) -> Upstream:
    """Makes the connection pool of a document server from a route's settings."""
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
        per_user=route.connections_per_user,
    )
