"""The settings file: TOML in, frozen sections out; every fault at once, each with its key path and line.

The core's own sections are here; a plugin's section is named like its entry point and checked by its own model.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from calgate.config.line_numbers import LineNumbers
from calgate.config.model import Core, Settings
from calgate.pages.render import check_templates
from calgate.pages.settings import PagesSection
from calgate.plugin.errors import ConfigError
from calgate.plugin.settings import Section

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
    return _Reader(file, LineNumbers(text)).read(table)


class _Reader:
    """Collects faults while it reads, so that an administrator mends them all in one go."""

    def __init__(self, file: Path, lines: LineNumbers) -> None:
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
        if core is not None:
            self._check_templates(core.pages)
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

    def _check_templates(self, section: PagesSection) -> None:
        try:
            check_templates(section)
        except ValueError as error:
            self._fault(("pages",), str(error))

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
