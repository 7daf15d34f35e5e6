"""The settings file: TOML in, frozen sections out; every fault at once, each with its key path and line.

The core's own sections are here; a plugin's section is named like its entry point and checked by its own model.
"""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from calgate import dialect
from calgate.access import Rule
from calgate.balance import HealthSection
from calgate.caller import Network
from calgate.forwardauth import ForwardAuthSection
from calgate.glob import is_at_or_below
from calgate.lines import Lines
from calgate.pages import PagesSection
from calgate.session import SessionSection
from calgate.setting import Duration, Section, is_origin
from calgate.store import StoreSection
from calgate.tracing import TracingSection


class ConfigError(Exception):
    """What the operator wrote or set up does not work. One line a fault; `code` is the exit code."""

    def __init__(self, faults: Sequence[str], code: int = 2) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)
        self.code = code


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host and port, or a unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"{host}:{self.port}"


def read_address(value: object) -> Address:
    """An address as the file writes it; raises ValueError with an example."""
    if isinstance(value, Address):
        return value
    text = str(value)
    if text.startswith("unix:/"):
        return Address("", 0, text.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(
            f'an address is written like "0.0.0.0:443", "[::]:443" or "unix:/run/calgate.sock", not {text!r}'
        )
    return Address(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - what a bare ":443" means everywhere


def _addresses(value: object) -> object:
    return tuple(read_address(item) for item in (value if isinstance(value, list | tuple) else [value]))


def _network(value: object) -> Network:
    return ipaddress.ip_network(str(value))


def _origin(value: str) -> str:
    if not is_origin(value):
        # not the value itself: whoever writes a user here may have written a password beside it
        raise ValueError('a document server is written like "http://qvws1:8080": scheme, host and port, and no more')
    return value.rstrip("/")


def _method(value: str) -> str:
    if not value.isascii() or not value.isalpha() or not value.isupper():
        raise ValueError(f'a method is written in capitals, like "GET", not {value!r}')
    return value


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


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}: {path}") from error
    return path


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f'a folder is written from the root on, like "/var/lib/calgate", not "{path}"')
    return path


class Tls(Section):
    """The certificate (with its chain) and key of the listener, PEM."""

    certificate: Annotated[Path, AfterValidator(_readable)]
    key: Annotated[Path, AfterValidator(_readable)]


class Listen(Section):
    """`[listen]`: where the gateway answers, and whom it believes."""

    bind: Annotated[tuple[Address, ...], BeforeValidator(_addresses), Field(min_length=1)]
    tls: Tls | None = None
    sni: tuple[Tls, ...] = ()  # further certificates, each for the names that stand in it
    trusted_proxies: tuple[Annotated[Network, BeforeValidator(_network)], ...] = ()
    redirect_http: Annotated[Address, BeforeValidator(read_address)] | None = None
    methods: tuple[Annotated[str, AfterValidator(_method)], ...] = Field(
        default=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), min_length=1
    )
    drain: Duration = 20.0
    workers: int = Field(1, ge=1, le=64)
    proxy_protocol: bool = False  # connections of trusted_proxies begin with a PROXY header, and no others are taken
    admin: Annotated[Address, BeforeValidator(read_address)] | None = None  # /metrics, /healthz, /readyz

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.redirect_http is not None and self.tls is None:
            raise ValueError("redirect_http answers with the https address, so it needs tls")
        if self.sni and self.tls is None:
            raise ValueError("sni holds further certificates beside that of tls, which is missing")
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError("proxy_protocol needs trusted_proxies: a PROXY header is believed from them only")
        return self


class Route(Section):
    """One of `[[routes]]`: what is served from where."""

    host: Annotated[str, AfterValidator(_host)] = ""
    path: Annotated[str, AfterValidator(_path)] = "/"
    upstreams: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(min_length=1)
    upstream_ca: Annotated[Path, AfterValidator(_readable)] | None = None
    license: str | None = None
    dialect: str | None = None
    opens: str | None = None
    uses: str | None = None
    polls: str | None = None
    host_header: Literal["keep", "upstream"] = "keep"
    connect_timeout: Duration = Field(default=5.0, gt=0)
    answer_timeout: Duration = Field(default=120.0, gt=0)
    websocket_idle: Duration = Field(default=3600.0, gt=0)
    connections: int = Field(1000, ge=1)  # to each document server, of each worker
    health: HealthSection | None = None
    sign_on: Mapping[str, Any] | None = None  # checked by the model of the plugin that it names

    @model_validator(mode="after")
    def _has_a_dialect_to_count_by(self) -> Self:
        knows = dialect.choose(self.dialect, opens=self.opens, uses=self.uses, polls=self.polls)
        if self.license is not None and knows is None:
            raise ValueError('a route with a license needs dialect = "qlikview", or `opens`: else nothing takes a CAL')
        return self


def hidden_routes(routes: Sequence[Route]) -> Sequence[str]:
    """A sentence for each route that another above it leaves no requests for."""
    return [
        f"routes[{place + 1}] ({route.host}{route.path}) is never reached: routes[{above + 1}]"
        f" ({routes[above].host}{routes[above].path}) serves all of it; the narrower one belongs above"
        for place, route in enumerate(routes)
        for above in [next((n for n, other in enumerate(routes[:place]) if _serves_all_of(other, route)), None)]
        if above is not None
    ]


def _serves_all_of(one: Route, other: Route) -> bool:
    return one.host.lower() in ("", other.host.lower()) and is_at_or_below(other.path, one.path)


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
    """A settings file, read and found good."""

    file: Path
    core: Core
    plugins: Mapping[str, Section]  # by section, of those whose section is there
    modules: Mapping[str, ModuleType]
    sign_on: Mapping[int, tuple[str, Section]]  # by the route's number: plugin and its section


GROUP = "calgate.plugins"


def read(file: Path) -> Settings:
    """Reads a settings file. Raises ConfigError with every fault in it."""
    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: is not UTF-8 at byte {error.start}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{file}: is not TOML: {error}"]) from error
    return _Reader(file, Lines(text)).read(table)


class _Reader:
    """Collects faults while it reads, so that an administrator mends them all in one go."""

    def __init__(self, file: Path, lines: Lines) -> None:
        self._file = file
        self._lines = lines
        self._faults: list[tuple[int, str]] = []
        self._points = {point.name: point for point in entry_points(group=GROUP)}
        self._modules: dict[str, ModuleType] = {}

    def read(self, table: dict[str, Any]) -> Settings:
        own = {name: value for name, value in table.items() if name in Core.model_fields}
        core = self._check(Core, own, ())
        plugins: dict[str, Section] = {}
        for name in table.keys() - own.keys():
            if name not in self._points or name in _SIGN_ON_ONLY:
                self._unknown((name,), [*Core.model_fields, *self._points.keys() - _SIGN_ON_ONLY])
            elif (section := self._plugin(name, table[name], (name,))) is not None:
                plugins[name] = section
        sign_on = self._read_sign_on(core) if core is not None else {}
        self._cross_check(table)
        if self._faults or core is None:
            raise ConfigError([fault for _, fault in sorted(self._faults)])
        return Settings(self._file, core, plugins, self._modules, sign_on)

    def _plugin(self, name: str, value: object, place: tuple[str | int, ...]) -> Section | None:
        module = self._modules.setdefault(name, self._points[name].load())
        section: Section | None = self._check(module.Config, value, place)
        return section

    def _read_sign_on(self, core: Core) -> dict[int, tuple[str, Section]]:
        found = {}
        for number, route in enumerate(core.routes):
            if route.sign_on is None:
                continue
            value = dict(route.sign_on)
            name = str(value.pop("plugin", "headers"))
            place = ("routes", number, "sign_on")
            if name not in self._points:
                self._fault((*place, "plugin"), f"no sign-on plugin {name!r} is installed")
            elif (section := self._plugin(name, value, place)) is not None:
                found[number] = (name, section)
        return found

    def _cross_check(self, table: Mapping[str, Any]) -> None:
        """What no section can know alone; on the raw table, so that it is told beside the sections' own faults."""
        licenses = table.get("licenses", {})
        routes = table.get("routes", ())
        for number, route in enumerate(routes if isinstance(routes, list) else ()):
            name = route.get("license") if isinstance(route, dict) else None
            if name is not None and name not in licenses:
                where = f"there is no [licenses.{name}]{_nearest(str(name), licenses)}"
                self._fault(("routes", number, "license"), where)
        if "negotiate" not in table:
            self._fault(("negotiate",), "the section [negotiate] is missing: nobody could sign in")
        if not {"ldap", "users"} & table.keys():
            self._fault(("ldap",), "neither [ldap] nor [users] is there: no groups could be known")

    # ------------------------------------------------------------ faults

    def _check(self, model: type[Any], value: object, place: tuple[str | int, ...]) -> Any:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            for fault in faults:
                path = (*place, *fault["loc"])
                if fault["type"] == "too_short" and _is_within(fault["loc"], faults):
                    continue  # what is faulty in it is told, and was not counted
                if fault["type"] == "extra_forbidden":
                    self._unknown(path, _fields_at(model, fault["loc"][:-1]))
                else:
                    self._fault(path, _sentence(fault["type"], fault["msg"]))
            return None

    def _unknown(self, path: tuple[str | int, ...], known: Sequence[str]) -> None:
        self._fault(path, f"unknown key{_nearest(str(path[-1]), known)}")

    def _fault(self, path: tuple[str | int, ...], what: str) -> None:
        line = self._lines.of(path)
        self._faults.append((line, f"{self._file}:{line}: {_dotted(path)}: {what}"))


def _is_within(place: Sequence[str | int], faults: Sequence[ErrorDetails]) -> bool:
    """Whether there is a fault below this place."""
    return any(len(fault["loc"]) > len(place) and fault["loc"][: len(place)] == place for fault in faults)


_SIGN_ON_ONLY = frozenset({"headers"})


def _sentence(kind: str, message: str) -> str:
    known = {"missing": "is missing", "too_short": "must not be empty", "tuple_type": "must be a list"}
    return known.get(kind, message.removeprefix("Value error, ").replace("Input should be", "must be"))


def _nearest(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _dotted(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _fields_at(model: object, place: Sequence[str | int]) -> list[str]:
    """The keys of the section that stands at a place inside a model (under a name of the user's own, too)."""
    for part in place:
        if isinstance(part, str) and isinstance(model, type) and issubclass(model, Section):
            fields = model.model_fields
            hint = fields[part].annotation if part in fields else get_type_hints(model).get("__pydantic_extra__")
            model = _section_in(hint)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, Section) else []


def _section_in(annotation: object) -> object:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _section_in(arg)) is not None), None)


def known_plugins() -> Mapping[str, EntryPoint]:
    """The installed plugins, by section."""
    return {point.name: point for point in entry_points(group=GROUP)}
