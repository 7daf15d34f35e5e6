"""Every setting in force: its value, and the line of the file that sets it. Secrets are masked."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from calgate.config.line_numbers import LineNumbers
from calgate.config.model import Settings
from calgate.config.toml_values import durations, written
from calgate.plugin.settings import Section

KeyPath = tuple[str | int, ...]

_PASSWORD_IN_URL = re.compile(r"(?<=//)([^@/:]*):[^@/]*(?=@)")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as the gateway uses it."""

    key: str  # "listen.bind", "routes[1].path"
    value: str  # as the file would write it
    line: int | None  # of the file; None: the file does not set it, so this is its default


def effective_settings(settings: Settings, text: str) -> Iterator[Setting]:
    """Every setting of the core and of the plugins in use. `text`: the file that `settings` were read from."""
    lines = LineNumbers(text)
    for path, value, is_set in _all(settings):
        yield Setting(dotted(path), _PASSWORD_IN_URL.sub(r"\1:(secret)", value), lines.of(path) if is_set else None)


def dotted(path: Sequence[str | int]) -> str:
    """A key as error messages name it: lists are counted from 1."""
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _all(settings: Settings) -> Iterator[tuple[KeyPath, str, bool]]:
    for path, value, is_set in _walk(settings.core, ()):
        # the raw table of a sign-on may hold secrets; its section, below, knows which values are
        if not (path[0] == "routes" and path[-1] == "sign_on"):
            yield path, value, is_set
    for number, (plugin, section) in sorted(settings.sign_on.items()):
        yield ("routes", number, "sign_on", "plugin"), written(plugin), False
        yield from _walk(section, ("routes", number, "sign_on"))
    for name, section in sorted(settings.plugins.items()):
        yield from _walk(section, (name,))


def _walk(section: Section, above: KeyPath, *, is_written: bool = True) -> Iterator[tuple[KeyPath, str, bool]]:
    """Yields the settings below a section. `is_written`: the file has this section."""
    chosen = section.__pydantic_extra__ or {}  # under names that the administrator chose
    values = {name: getattr(section, name) for name in type(section).model_fields} | dict(chosen)
    for key, value in values.items():
        path, is_set = (*above, key), is_written and (key in section.model_fields_set or key in chosen)
        if isinstance(value, Section):
            yield from _walk(value, path, is_written=is_set)
        elif isinstance(value, tuple) and value and all(isinstance(item, Section) for item in value):
            for number, item in enumerate(value):
                yield from _walk(item, (*path, number), is_written=is_set)
        elif value is not None or is_set:
            yield path, written(value, is_duration=key in durations(type(section))), is_set
