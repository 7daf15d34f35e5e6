"""The kinds of values in a settings file; plugins build their own sections from them."""

import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    Strict,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_LONGEST = 36_500 * 86_400.0  # seconds: still a valid time once the store adds it to its clock
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Section(BaseModel):
    """A section of the settings file: frozen once read; unknown keys are refused.

    The docstring under a field is its description for administrators.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Takes no text for a number or a switch: `queue = "no"` would be true in many a language."""
        for field in cls.model_fields.values():
            if field.annotation in (int, bool):
                field.metadata.append(Strict())
        cls.model_rebuild(force=True)


def parse_duration(text: object) -> float:
    """Returns the seconds of "15m", "30s", "1h30m", "7d". Raises ValueError with an example of what is accepted."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw])", text) if isinstance(text, str) else []
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f'a duration is written like "30s", "15m", "1h30m" or "7d", not {text!r}')
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _duration(value: object) -> object:
    seconds = value if isinstance(value, float) else parse_duration(value)
    if not 0 <= seconds <= _LONGEST:  # also refuses NaN
        raise ValueError(f"a duration is not negative and at most 100 years, not {value!r}")
    return seconds


_DurationText = Annotated[
    str,
    Field(
        pattern=r"^(\d+(\.\d+)?(ms|[smhdw]))+$",
        examples=["30s", "15m", "7d"],
        json_schema_extra={"x-calgate": "duration"},
    ),
]
Duration = Annotated[float, BeforeValidator(_duration, json_schema_input_type=_DurationText)]
"""Seconds, written as "15m" in the file."""


def is_origin(value: str) -> bool:
    """Whether this is an http or https scheme and a host, with or without a port, and nothing more."""
    try:
        parts = urlsplit(value)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0  # raises if it is not a port
            and "@" not in parts.netloc
            and not (parts.path.strip("/") or parts.query or parts.fragment)
            and not re.search(r"[\s;,'\"*]", value)
            and value.isascii()  # browsers send a name with other characters as xn--…
        )
    except ValueError:
        return False


class Secret:
    """A password or key, written as a string, `{ file = "…" }` or `{ env = "…" }`; never shown by repr or in a log."""

    __slots__ = ("_source",)

    def __init__(self, source: str | dict[str, str]) -> None:
        self._source = source

    def reveal(self) -> str:
        """Returns the secret, read again (its file may be rotated). Raises OSError or KeyError if it is missing."""
        if isinstance(self._source, str):
            return self._source
        if "file" in self._source:
            return Path(self._source["file"]).read_text(encoding="utf-8").rstrip("\r\n")
        return os.environ[self._source["env"]]

    @property
    def file(self) -> Path | None:
        """The file that holds the secret; None if it is in the settings or the environment."""
        return Path(self._source["file"]) if isinstance(self._source, dict) and "file" in self._source else None

    def __repr__(self) -> str:
        return "Secret(…)"

    @classmethod
    def _parse(cls, value: Any) -> "Secret":
        if isinstance(value, Secret):
            return value
        table = isinstance(value, dict) and len(value) == 1 and set(value) <= {"file", "env"}
        if not (isinstance(value, str) or (table and all(isinstance(v, str) for v in value.values()))):
            raise ValueError('a secret is a string, { file = "…" } or { env = "…" }')
        secret = cls(value)
        try:
            is_empty = not secret.reveal()
        except OSError as error:
            raise ValueError(f"the secret's file cannot be read: {error.strerror}: {error.filename}") from error
        except KeyError as error:
            raise ValueError(f"the environment has no variable {error.args[0]}") from error
        if is_empty:
            raise ValueError("the secret is empty")
        return secret

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._parse)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describes what the file holds, for editors and the reference; never the secret."""
        table = {"type": "object", "additionalProperties": False, "minProperties": 1, "maxProperties": 1}
        names = {"file": {"type": "string"}, "env": {"type": "string"}}
        return {"anyOf": [{"type": "string", "minLength": 1}, table | {"properties": names}], "x-calgate": "secret"}


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}: {path}") from error
    return path


ReadableFile = Annotated[Path, AfterValidator(_readable)]
"""A file that can be read when the settings are."""


def _network(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = str(value)
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'a network is written like "10.0.0.0/8" or "fd00::/8", not {text!r}') from None
    one = f"{text.partition('/')[0]}/{meant.max_prefixlen}"
    raise ValueError(f'{text!r} has host bits: write "{meant}" for the network, or "{one}" for the one address')


Network = Annotated[IPv4Network | IPv6Network, PlainValidator(_network, json_schema_input_type=str)]
"""Addresses of one network, in CIDR notation."""
