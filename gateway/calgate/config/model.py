"""The settings as the core knows them: frozen sections, read from the file by `reader.py`."""

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
from calgate.endpoints.settings import ForwardAuthSection
from calgate.http.settings import Listen
from calgate.pages.settings import PagesSection
from calgate.plugin.settings import Duration, ReadableFile, Section, is_origin
from calgate.plugin_loader import Plugin
from calgate.store.settings import StoreSection
from calgate.tracing.settings import TracingSection
from calgate.upstream.settings import HealthSection


def _origin(value: str) -> str:
    if not is_origin(value):
        # not the value itself: whoever writes a user here may have written a password beside it
        raise ValueError('a document server is written like "http://qvws1:8080": scheme, host and port, and no more')
    return value.rstrip("/")


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]*", value):
        raise ValueError(f'the host of a route is a name without a port, like "bi.corp.example", not {value!r}')
    return value


def _path(value: str) -> str:
    """As it is compared: decoded, and with nothing in it that is refused before any route is asked."""
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
        raise ValueError(f'a folder is written from the root on, like "/var/lib/calgate", not "{path}"')
    return path


class Route(Section):
    """One of `[[routes]]`: what is served from where."""

    host: Annotated[str, AfterValidator(_host)] = ""
    path: Annotated[str, AfterValidator(_path)] = "/"
    upstreams: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(min_length=1)
    upstream_ca: ReadableFile | None = None
    license: str | None = None
    dialect: str | None = None
    opens: str | None = None
    uses: str | None = None
    polls: str | None = None
    host_header: Literal["keep", "upstream"] = "keep"
    connect_timeout: Duration = Field(default=5.0, gt=0)
    answer_timeout: Duration = Field(default=120.0, gt=0)
    websocket_idle: Duration = Field(default=3600.0, gt=0)
    connections: int = Field(default=1000, ge=1)  # to each document server, of each worker
    windows: bool = True
    """Whether the document servers run Windows: paths that Windows would resolve to another file are refused (a name
    that ends with a dot or a blank, an 8.3 name such as `SALES~1.QVW`, one of `: * ? " < > |`)."""
    health: HealthSection | None = None
    sign_on: Mapping[str, Any] | None = None  # checked by the model of the plugin that it names

    @model_validator(mode="after")
    def _has_a_dialect_to_count_by(self) -> Self:
        knows = dialect.choose(self.dialect, opens=self.opens, uses=self.uses, polls=self.polls)
        if self.license is not None and knows is None:
            raise ValueError('a route with a license needs dialect = "qlikview", or `opens`: else nothing takes a CAL')
        return self


class Log(Section):
    """`[log]`: the decisions and what goes wrong, on standard error."""

    format: Literal["json", "console"] = "json"
    level: Literal["debug", "info", "warning"] = "info"
    access: bool = False  # a line for each request, beside the decisions


class Core(Section):
    """The sections that are the core's own."""

    listen: Listen
    state_dir: Annotated[Path, AfterValidator(_absolute)]
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    store: StoreSection = Field(default_factory=lambda: StoreSection.model_validate({}))
    session: SessionSection = SessionSection()
    log: Log = Log()
    pages: PagesSection = PagesSection()
    access: tuple[Rule, ...] = ()
    forward_auth: ForwardAuthSection | None = None
    tracing: TracingSection | None = None
    routes: tuple[Route, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Settings:
    """A settings file without faults."""

    file: Path
    core: Core
    plugins: Mapping[str, Section]  # by section; the sections of the plugins that the file configures
    modules: Mapping[str, Plugin]
    sign_on: Mapping[int, tuple[str, Section]]  # by the route's number: plugin and its section

    @property
    def state_dir(self) -> Path:
        return self.core.state_dir

    @property
    def loggers(self) -> frozenset[str]:
        """The packages that log under the site's level: those of the plugins in use, whoever wrote them."""
        return frozenset(plugin.package for plugin in self.modules.values())
