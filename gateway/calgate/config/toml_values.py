"""Values as the settings file writes them."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from calgate.plugin.settings import Secret, Section

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def written(value: object, *, is_duration: bool = False) -> str:
    """A value in the notation of TOML; `is_duration`: it is a number of seconds that the file writes as "15m"."""
    match value:
        case float() if is_duration:
            return f'"{duration(value)}"'
        case Secret():
            return "(secret)"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"{value:g}"
        case str() | Path():
            return json.dumps(str(value), ensure_ascii=False)
        case Mapping():
            inner = ", ".join(f"{key} = {written(item)}" for key, item in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case tuple() | list() | frozenset():
            return f"[{', '.join(map(written, value))}]"
        case _:
            return json.dumps(str(value), ensure_ascii=False)


def duration(seconds: float) -> str:
    """36000.0 is "10h"; the largest unit that fits a whole number of times."""
    for unit, length in _UNITS:
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s" if seconds >= 1 or not seconds else f"{seconds * 1000:g}ms"


@lru_cache
def durations(model: type[Section]) -> frozenset[str]:
    """The fields of a section that hold a duration."""
    properties: Mapping[str, Any] = model.model_json_schema().get("properties", {})
    return frozenset(key for key, part in properties.items() if is_duration(part))


def is_duration(part: Mapping[str, Any]) -> bool:
    """Whether a part of a JSON Schema describes a duration, or a choice that includes one."""
    return "duration" in (part.get("x-calgate"), *(one.get("x-calgate") for one in part.get("anyOf", ())))
