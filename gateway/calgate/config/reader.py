"""The settings file: TOML in, frozen sections out; every fault at once, each with its key path and line.

The core's own sections are in `model.py`; a plugin's section is named like its entry point and checked by its own
model. No plugin is known by name: a site needs certain roles, and any plugin can fill them.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from calgate import plugin_loader
from calgate.config.line_numbers import LineNumbers
from calgate.config.model import NO_ANONYMOUS_CALS, Core, Settings
from calgate.pages.render import check_pages
from calgate.pages.settings import PagesSection
from calgate.plugin.errors import ConfigError
from calgate.plugin.settings import Section
from calgate.plugin_loader import Plugin, UnusablePluginError


def read(file: Path) -> Settings:
    """Reads a settings file. Raises ConfigError with every fault in it."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: is not UTF-8 at byte {error.start}"]) from error
    return parse(file, text)


def parse(file: Path, text: str) -> Settings:
    """Reads the text of a settings file, which may have changed on disk since. Raises ConfigError with every fault."""
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(
            [f"{file}: is not TOML that can be read: its lists or tables are nested too deeply"]
        ) from error
    except ValueError as error:  # TOMLDecodeError is one, and so are numbers that Python refuses to read
        raise ConfigError([f"{file}: is not TOML: {error}{_hint(str(error))}"]) from error
    return _Reader(file, text).read(table)


def _hint(error: str) -> str:
    """What to write instead, for the mistake that names of Windows domains invite."""
    if "Unescaped '\\'" not in error:
        return ""
    return "; write two backslashes, \"CORP\\\\name\", or single quotes, 'CORP\\name'"


KeyPath = tuple[str | int, ...]

_NEEDED = {
    "authenticator": "nobody can sign in",
    "directory": "no group can be looked up",
}


class _Reader:
    """Collects faults while it reads, so that an administrator can correct them all at once."""

    def __init__(self, file: Path, text: str) -> None:
        self._file = file
        self._text = text
        self._lines = LineNumbers(text)
        self._faults: list[tuple[int, str]] = []
        self._points = plugin_loader.installed()
        self._loaded: dict[str, Plugin | None] = {}  # None: it cannot be used, which is reported

    def read(self, table: dict[str, Any]) -> Settings:
        own = {name: value for name, value in table.items() if name in Core.model_fields}
        core = self._check(Core, own, ())
        plugins: dict[str, Section] = {}
        for name in sorted(table.keys() - own.keys()):
            plugin = self._plugin_of(name)
            section = self._check(plugin.module.Config, table[name], (name,)) if plugin is not None else None
            if section is not None:
                plugins[name] = section
        sign_on = self._read_sign_on(core) if core is not None else {}
        self._check_roles(table)
        self._check_licenses(table)
        if core is not None:
            self._check_pages(core.pages)
        if self._faults or core is None:
            raise ConfigError([fault for _, fault in sorted(self._faults)])
        modules = {name: plugin for name, plugin in self._loaded.items() if plugin is not None}
        return Settings(self._file, self._text, core, plugins, modules, sign_on)

    # ------------------------------------------------------------ plugins

    def _plugin_of(self, section: str) -> Plugin | None:
        """Returns the plugin of a top-level section; None, with a fault, if no plugin has that name."""
        if section not in self._points:
            sections = [one.name for one in plugin_loader.usable() if one.role != "sign-on"]
            self._unknown((section,), [*Core.model_fields, *sections])
            return None
        plugin = self._load(section, (section,))
        if plugin is not None and plugin.role == "sign-on":
            self._fault((section,), f"{section} is a sign-on: it belongs in a route, as sign_on = {{ … }}")
            return None
        return plugin

    def _load(self, name: str, path: KeyPath) -> Plugin | None:
        if name not in self._loaded:
            try:
                self._loaded[name] = plugin_loader.load(self._points[name])
            except UnusablePluginError as error:
                self._loaded[name] = None
                self._fault(path, str(error))
        return self._loaded[name]

    def _read_sign_on(self, core: Core) -> dict[int, tuple[str, Section]]:
        found = {}
        for number, route in enumerate(core.routes):
            if route.sign_on is None:
                continue
            value = dict(route.sign_on)
            path = ("routes", number, "sign_on")
            plugin = self._sign_on_plugin(value.pop("plugin", None), path)
            section = self._check(plugin.module.Config, value, path) if plugin is not None else None
            if plugin is not None and section is not None:
                found[number] = (plugin.name, section)
        return found

    def _sign_on_plugin(self, name: object, path: KeyPath) -> Plugin | None:
        if name is None:
            defaults = [plugin for plugin in plugin_loader.usable() if plugin.is_default_for("sign_on")]
            if len(defaults) == 1:
                self._loaded.setdefault(defaults[0].name, defaults[0])
                return defaults[0]
            what = (
                "no installed sign-on is the default" if not defaults else "several installed sign-ons are the default"
            )
            self._fault(path, f"{what}; name one, as plugin = …{_choice()}")
            return None
        is_installed = isinstance(name, str) and name in self._points
        plugin = self._load(str(name), (*path, "plugin")) if is_installed else None
        if plugin is not None and plugin.role == "sign-on":
            return plugin
        if plugin is not None or not is_installed:  # else it cannot be used, which is reported
            self._fault((*path, "plugin"), f"no sign-on plugin {name!r} is installed{_choice()}")
        return None

    # ------------------------------------------------------------ what no section can know alone

    def _check_roles(self, table: Mapping[str, Any]) -> None:
        """Adds a fault if a needed role has no section, or if two sections count licenses."""
        loaded = {name: self._loaded.get(name) for name in table if name in self._points}
        if None in loaded.values():
            return  # a plugin that cannot be used may be the one that is missing
        roles = [plugin.role for plugin in loaded.values() if plugin is not None]
        for role, consequence in _NEEDED.items():
            if role not in roles and not (role == "authenticator" and "sign-in" in roles):
                installed = _listed(plugin_loader.usable(), role)
                self._fault((), f"no {installed} section: {consequence}" if installed else f"no {role} is installed")
        allocators = sorted(name for name, one in loaded.items() if one is not None and one.role == "allocator")
        for name in allocators[1:]:
            self._fault((name,), f"[{allocators[0]}] already counts licenses; remove one of the two")

    def _check_licenses(self, table: Mapping[str, Any]) -> None:
        """Works on the raw table, so that a wrong license is reported together with the sections' own faults."""
        routes = table.get("routes", ())
        for number, route in enumerate(routes if isinstance(routes, list) else ()):
            name = route.get("license") if isinstance(route, dict) else None
            if isinstance(name, str):  # any other value is a fault of the route's own
                is_public = route.get("sign_in") == "off"
                self._check_license(name, ("routes", number, "license"), table, is_public=is_public)

    def _check_license(self, name: str, path: KeyPath, table: Mapping[str, Any], *, is_public: bool) -> None:
        allocator = next((one for one in self._loaded.values() if one is not None and one.role == "allocator"), None)
        if allocator is None:
            if None not in self._loaded.values():
                section = _listed(plugin_loader.usable(), "allocator")
                self._fault(
                    path, f"no {section} section: nothing gives CALs out" if section else "no allocator is installed"
                )
            return
        section = table[allocator.name]
        known = allocator.license_names(section) if isinstance(section, dict) else None
        if known is not None and name not in known:
            self._fault(path, f"there is no [{allocator.name}.{name}]{_nearest(name, known)}")
        elif is_public and isinstance(section, dict):
            anonymous = allocator.anonymous_licenses(section)
            if anonymous is not None and name not in anonymous:
                self._fault(path, NO_ANONYMOUS_CALS.format(f"[{allocator.name}.{name}]"))

    def _check_pages(self, section: PagesSection) -> None:
        try:
            check_pages(section)
        except ValueError as error:
            self._fault(("pages",), str(error))

    # ------------------------------------------------------------ faults

    def _check(self, model: type[Any], value: object, path: KeyPath) -> Any:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            for fault in faults:
                key = (*path, *fault["loc"])
                if fault["type"] == "too_short" and _is_within(fault["loc"], faults):
                    continue  # its items have faults of their own, which are reported; do not also call the list empty
                if fault["type"] == "extra_forbidden":
                    self._unknown(key, _fields_at(model, fault["loc"][:-1]))
                else:
                    self._fault(key, _sentence(fault["type"], fault["msg"]))
            return None
        except Exception as error:  # noqa: BLE001 - a plugin's validators are foreign code, and regex engines recurse
            self._fault(path, f"cannot be read: {type(error).__name__}: {str(error)[:200]}")
            return None

    def _unknown(self, path: KeyPath, known: Sequence[str]) -> None:
        self._fault(path, f"unknown key{_nearest(str(path[-1]), known)}")

    def _fault(self, path: KeyPath, what: str) -> None:
        line = self._lines.of(path)
        key = f"{_dotted(path)}: " if path else ""
        self._faults.append((line, f"{self._file}:{line}: {key}{what}"))


def _is_within(path: Sequence[str | int], faults: Sequence[ErrorDetails]) -> bool:
    """Whether there is a fault below this key."""
    return any(len(fault["loc"]) > len(path) and fault["loc"][: len(path)] == path for fault in faults)


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


def _fields_at(model: object, path: Sequence[str | int]) -> list[str]:
    """The keys of the section at a path inside a model, also below a name that the administrator chose."""
    for part in path:
        if isinstance(part, str) and isinstance(model, type) and issubclass(model, Section):
            fields = model.model_fields
            hint = fields[part].annotation if part in fields else get_type_hints(model).get("__pydantic_extra__")
            model = _section_in(hint)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, Section) else []


def _section_in(annotation: object) -> object:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _section_in(arg)) is not None), None)


def _listed(plugins: Iterable[Plugin], role: str) -> str:
    """The sections of the installed plugins of a role."""
    return " or ".join(f"[{plugin.name}]" for plugin in plugins if plugin.role == role)


def _choice() -> str:
    """The sign-on plugins that a route can name."""
    names = [plugin.name for plugin in plugin_loader.usable() if plugin.role == "sign-on"]
    return f"; there is {', '.join(names)}" if names else ""
