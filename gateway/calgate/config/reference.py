"""The reference of all settings, made from the models that read the file: a JSON Schema for editors, and tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema

from calgate import plugin_loader
from calgate.config.model import Core
from calgate.config.toml_values import duration, is_duration, written
from calgate.plugin.settings import Section
from calgate.plugin_loader import Plugin

Json = dict[str, Any]

_TYPES = {"integer": "number", "number": "number", "boolean": "true or false", "object": "table", "string": "text"}


# ---------------------------------------------------------------- the schema


def schema() -> Json:
    """One JSON Schema (draft 2020-12) of the whole file, with the section of every installed plugin."""
    plugins = list(plugin_loader.usable())
    models: list[tuple[type[Section], Any]] = [(Core, "validation")]
    models += [(plugin.module.Config, "validation") for plugin in plugins]
    references, document = models_json_schema(models)
    definitions = {name: _toml(part) for name, part in document["$defs"].items()}
    root = definitions.pop(_name_of(references[(Core, "validation")]))
    choices = []
    for plugin in plugins:
        reference = references[(plugin.module.Config, "validation")]
        definition = definitions[_name_of(reference)]
        if plugin.role == "sign-on":
            definition["properties"] |= {"plugin": {"const": plugin.name, "description": "The sign-on plugin."}}
            if not plugin.is_default_for("sign_on"):
                definition["required"] = [*definition.get("required", ()), "plugin"]
            choices.append(reference)
        else:
            root["properties"][plugin.name] = {"description": definition.get("description", ""), **reference}
    definitions["Route"]["properties"]["sign_on"] |= {"anyOf": choices}
    heading: Json = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "calgate.toml"}
    result: Json = heading | root | {"$defs": definitions}
    return result


def _name_of(reference: Mapping[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


def _toml(part: Any) -> Any:
    """A part of the schema without null, which TOML does not have, and with durations as they are written."""
    if isinstance(part, list):
        return [_toml(item) for item in part]
    if not isinstance(part, dict):
        return part
    found = {key: _toml(value) for key, value in part.items() if key != "title" or isinstance(value, dict)}
    if "anyOf" in found:
        choices = [choice for choice in found.pop("anyOf") if choice != {"type": "null"}]
        found = ({"anyOf": choices} if len(choices) > 1 else choices[0]) | found
    if isinstance(found.get("default"), int | float) and is_duration(found):
        found["default"] = duration(found["default"])
    if is_duration(found):
        for bound in ("minimum", "exclusiveMinimum"):  # of the seconds, not of the text
            found.pop(bound, None)
    if "default" in found and (found["default"] is None or isinstance(found["default"], dict)):
        del found["default"]  # a section of defaults has each of them at its own key
    return found


# ---------------------------------------------------------------- the tables


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting."""

    key: str
    kind: str  # the kind of value
    default: str  # as the file would write it; "required", or "" if it is not set
    text: str


@dataclass(slots=True)
class Table:
    """One section of the file."""

    path: str  # "listen.tls", "routes[]", "licenses.NAME.session"; "" for the top of the file
    text: str
    entries: list[Entry] = field(default_factory=list)

    @property
    def heading(self) -> str:
        """As the file writes it."""
        if not self.path:
            return "The top of the file"
        return f"[[{self.path[:-2]}]]" if self.path.endswith("[]") else f"[{self.path.replace('[]', '')}]"


def tables() -> Sequence[Table]:
    """Every section, each before those inside it: the core's first, then the plugins'."""
    found = list(_tables(Core, "", "What applies to the whole gateway."))
    for plugin in sorted(plugin_loader.usable(), key=lambda one: (one.role == "sign-on", one.name)):
        path = "routes[].sign_on" if plugin.role == "sign-on" else plugin.name
        found += _tables(plugin.module.Config, path, _about(plugin))
    return found


def _about(plugin: Plugin) -> str:
    text = _sentence(plugin.module.Config.__doc__)
    if plugin.role != "sign-on":
        return text
    needs = "" if plugin.is_default_for("sign_on") else f' Needs `plugin = "{plugin.name}"`.'
    return f"{text} (plugin {plugin.name}){needs}"


def _tables(model: type[Section], path: str, text: str) -> Iterator[Table]:
    properties = _toml(model.model_json_schema())
    table = Table(path, text)
    inner: list[tuple[str, type[Section], str]] = []
    for key, setting in model.model_fields.items():
        section = section_in(setting.annotation)
        if section is None:
            table.entries.append(_entry(key, setting, properties))
        else:
            marks = "[]" if _is_list(setting.annotation) else ""
            inner.append((f"{path}.{key}{marks}".removeprefix("."), section, _sentence(setting.description)))
    chosen = (
        section_in(get_type_hints(model).get("__pydantic_extra__")) if model.model_config["extra"] == "allow" else None
    )
    if chosen is not None:
        inner.append((f"{path}.NAME", chosen, _sentence(chosen.__doc__)))
    if table.entries or not inner:
        yield table
    for place, section, about in inner:
        yield from _tables(section, place, about or _sentence(section.__doc__))


def section_in(annotation: object) -> type[Section] | None:
    """The section that an annotation is about: itself, or the first inside it."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_in(part)) is not None), None)


def _is_list(annotation: object) -> bool:
    return get_origin(annotation) in (tuple, list) or any(_is_list(part) for part in get_args(annotation))


def _entry(key: str, setting: FieldInfo, document: Json) -> Entry:
    part = document["properties"][key]
    if setting.is_required():
        default = "required"
    else:
        value = setting.get_default(call_default_factory=True)
        default = "" if value is None else written(value, is_duration=is_duration(part))
    return Entry(key, _kind(part, document.get("$defs", {})), default, _sentence(setting.description))


def _kind(part: Json, definitions: Json) -> str:
    """Returns the kind of value, in words."""
    match part:
        case {"$ref": str(reference)}:
            return _kind(definitions[reference.rpartition("/")[2]], definitions)
        case {"x-calgate": "secret"}:
            return 'text, { file = "…" } or { env = "…" }'
        case {"x-calgate": "duration"}:
            return "duration"
        case {"enum": list(choices)}:
            return " or ".join(written(choice) for choice in choices)
        case {"const": choice}:
            return written(choice)
        case {"anyOf": list(choices)}:
            return " or ".join(dict.fromkeys(_kind(choice, definitions) for choice in choices))
        case {"type": "array"}:
            return f"list of {_kind(part.get('items', {}), definitions)}"
        case {"format": "path" | "file-path"}:
            return "file"
    kind = _TYPES.get(part.get("type", ""), "any value")
    return f"{kind}{_range(part)}"


def _range(part: Mapping[str, Any]) -> str:
    least, most = part.get("minimum"), part.get("maximum")
    if least is not None and most is not None:
        return f", {least} to {most}"
    return f", at least {least}" if least is not None else ""


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())
