"""The core's sections of the settings file, frozen; `reader.py` reads them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from calgate import dialect
from calgate.access.settings import Rule
from calgate.authentication.settings import SessionSection
from calgate.endpoints.settings import ConsoleSection, ForwardAuthSection
from calgate.http.settings import Listen
from calgate.pages.settings import PagesSection
from calgate.plugin.settings import Duration, ReadableFile, Section, is_origin
from calgate.plugin_loader import Plugin
from calgate.store.settings import StoreSection
from calgate.tracing.settings import TracingSection
from calgate.upstream.settings import HealthSection


def _origin(value: str) -> str:
    if not is_origin(value):
        # without the value: an address with a user may contain a password
        raise ValueError('a document server is written like "http://qvws1:8080": scheme, host and port, and no more')
    return value.rstrip("/")


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]*", value):
        raise ValueError(f'the host of a route is a name without a port, like "bi.corp.example", not {value!r}')
    return value


def _path(value: str) -> str:
    """A path as it is compared with requests: decoded, and without anything that is refused before routing."""
    first, *inner = value.split("/")
    if first or not inner or set("%?#;\\") & set(value) or "" in inner[:-1] or {".", ".."} & set(inner):
        raise ValueError(f'the path of a route is written as people read it, like "/qlikview", not {value!r}')
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f'there is no time zone {value!r}; one is written like "Europe/Berlin"') from None
    return value


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f'an absolute path is needed, like "/var/lib/calgate", not "{path}"')
    return path


NO_ANONYMOUS_CALS = (
    'sign_in = "off" leaves no user who could hold a CAL; let browsers hold some by anonymous = {{ max = 1 }} in {0},'
    " or remove license, or sign_in"
)
"""The fault of a public route whose license has no anonymous CALs; {0} is the section of the license."""


class Route(Section):
    """One of `[[routes]]`: a public path, and the document servers behind it."""

    host: Annotated[str, AfterValidator(_host)] = ""
    """The host name that the route is for, without a port; by default any."""
    path: Annotated[str, AfterValidator(_path)] = "/"
    """The route serves this path and everything below it, in any case. The first route that fits a request serves
    it. The path goes to the document server unchanged.
    """
    upstreams: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(min_length=1)
    """The document servers, each as scheme, host and port. A session stays with one of them."""
    upstream_ca: ReadableFile | None = None
    """The certificate authority of https document servers; by default those of the system."""
    license: str | None = None
    """The license whose CALs the documents of this route need; none by default."""
    dialect: str | None = None
    """How to tell documents from requests: "qlikview", or the regular expressions below."""
    opens: str | None = None
    """A regular expression over path and query: requests that match open the document of the group `document`.
    Neither the order of the parameters nor further ones hide a document, and fields of a form count as parameters.
    """
    uses: str | None = None
    """Like `opens`, for requests that use an open document."""
    polls: str | None = None
    """Like `opens`, for requests that need a CAL but neither take nor keep one: pages that are left open send them."""
    host_header: Literal["keep", "upstream"] = "keep"
    """The Host header that the document server sees: the client's ("keep") or its own ("upstream")."""
    connect_timeout: Duration = Field(default=5.0, gt=0)
    """How long a connection to a document server may take."""
    answer_timeout: Duration = Field(default=120.0, gt=0)
    """How long a document server may take until a response begins."""
    websocket_idle: Duration = Field(default=3600.0, gt=0)
    """A WebSocket without a byte in either direction is closed after this long."""
    connections: int = Field(default=1000, ge=1)
    """Connections of each worker to each document server at most; WebSockets are not counted."""
    connections_per_user: int | None = Field(default=None, ge=1)
    """The most of these connections that the requests of one user have at once; by default half of them. Further
    requests of the user wait, so that slow uploads or downloads of one user do not keep out the others. Also the most
    WebSockets that one user has open in each worker; a further one is refused.
    """
    windows: bool = True
    """Whether the document servers run Windows: paths that Windows would resolve to another file are refused (a name
    that ends with a dot or a blank, an 8.3 name like `SALES~1.QVW`, a device like NUL, one of `: * ? " < > |`)."""
    service_workers: bool = False
    """Whether scripts of service workers are served. A service worker of the document server stays in a browser for
    every later user of it, and sees their pages."""
    health: HealthSection | None = None
    """Requests that find out whether a document server works; by default none are sent."""
    sign_in: Literal["on", "off"] = "on"
    """"off" makes the route public: nobody is signed in or challenged there, and a session cookie identifies nobody.
    Access rules apply only where a request opens or uses a document; one with `anonymous = true` must allow it.
    The route can have a license if that has `anonymous` CALs.
    """
    authorization: Literal["strip", "pass"] = "strip"
    """"pass" forwards the client's Authorization header, for an application that has credentials of its own. Never
    forwarded are Negotiate, NTLM, the schemes that users sign in by, and API tokens.
    """
    sign_on: Mapping[str, Any] | None = None
    """How the document server learns who the user is: the section of a sign-on plugin, named by its key `plugin`."""

    @model_validator(mode="after")
    def _has_a_dialect_to_count_by(self) -> Self:
        knows = dialect.choose(self.dialect, opens=self.opens, uses=self.uses, polls=self.polls, windows=self.windows)
        if self.license is not None and knows is None:
            raise ValueError(
                'a route with a license needs dialect = "qlikview", or `opens`: without either nothing takes a CAL'
            )
        return self

    @model_validator(mode="after")
    def _is_public_or_knows_the_user(self) -> Self:
        if self.sign_in == "on":
            return self
        if self.sign_on is not None:
            raise ValueError('sign_in = "off" leaves no user whom sign_on could name; remove one of the two')
        return self


class Log(Section):
    """`[log]`: decisions and errors, on standard error."""

    format: Literal["json", "console"] = "json"
    """The form of the lines: "json", or "console" for people."""
    level: Literal["debug", "info", "warning"] = "info"
    """The least severe lines that are written."""
    access: bool = False
    """Write a line for each request, in addition to the decisions."""


class Core(Section):
    """The sections of the core."""

    listen: Listen
    """Where the gateway listens."""
    state_dir: Annotated[Path, AfterValidator(_absolute)]
    """The folder of the private store and of keys."""
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """The time zone of `hours`, and of the times on pages and in commands, such as "Europe/Berlin"."""
    store: StoreSection = Field(default_factory=lambda: StoreSection.model_validate({}))
    """Where sessions and CALs are kept; by default a private server under `state_dir`."""
    session: SessionSection = SessionSection()
    """How long a browser stays signed in."""
    log: Log = Log()
    """The log on standard error."""
    pages: PagesSection = PagesSection()
    """The gateway's own pages."""
    access: tuple[Rule, ...] = ()
    """The access rules. The first that matches decides; if none matches, access is refused."""
    forward_auth: ForwardAuthSection | None = None
    """Lets another proxy forward requests that the gateway has granted."""
    console: ConsoleSection | None = None
    """The administrators' console; none without this section."""
    tracing: TracingSection | None = None
    """Traces by OpenTelemetry; none without this section."""
    routes: tuple[Route, ...] = Field(min_length=1)
    """The public paths, and the document servers behind them."""

    @model_validator(mode="after")
    def _console_has_its_own_origin(self) -> Self:
        console = self.console
        if console is None:
            return self
        listen = self.listen
        others = [*listen.bind, *(one for one in (listen.redirect_http, listen.admin) if one is not None)]
        overlapping = [str(one) for one in others if console.bind is not None and one.overlaps(console.bind)]
        if overlapping:
            raise ValueError(f"console.bind: {console.bind} overlaps {overlapping[0]} of listen; give it its own port")
        if console.host and any(route.host.lower() == console.host for route in self.routes):
            raise ValueError(f"console.host: a route has the host {console.host} too; the console needs its own name")
        return self


@dataclass(frozen=True, slots=True)
class Settings:
    """A settings file without faults."""

    file: Path
    text: str  # of the file when it was read
    core: Core
    plugins: Mapping[str, Section]  # by section; the sections of the plugins that the file configures
    modules: Mapping[str, Plugin]
    sign_on: Mapping[int, tuple[str, Section]]  # by the route's number: plugin and its section

    @property
    def state_dir(self) -> Path:
        return self.core.state_dir

    @property
    def has_tls(self) -> bool:
        """Whether the gateway's own listener has a certificate."""
        return self.core.listen.tls is not None

    @property
    def can_be_https(self) -> bool:
        """Whether users can reach the gateway over https: by its own certificate, or through a proxy that ends TLS."""
        return self.has_tls or bool(self.core.listen.trusted_proxies)

    @property
    def loggers(self) -> frozenset[str]:
        """The packages that log under the site's level: those of the plugins in use, ours and others."""
        return frozenset(plugin.package for plugin in self.modules.values())
