"""`[tracing]`: the receiver of spans."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from calgate.plugin.settings import Secret, Section

FIELDS = frozenset({b"traceparent", b"tracestate"})
"""Headers that only the gateway sends to the document server while tracing is on (W3C Trace Context, section 3)."""


def _receiver(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path in ("", "/"):
        raise ValueError(f'the receiver of OTLP over HTTP is written like "http://otel:4318/v1/traces", not {value!r}')
    return value


class TracingSection(Section):
    """`[tracing]`: where spans are sent, and of how many requests."""

    endpoint: Annotated[str, AfterValidator(_receiver)]
    """Where spans are sent: OTLP over HTTP, such as "http://otel:4318/v1/traces"."""
    service: str = Field(default="calgate", min_length=1)
    """The service name of the spans."""
    sample: float = Field(default=1.0, ge=0, le=1)
    """The share of requests that are traced, from 0 to 1; a decision by a trusted proxy is followed."""
    headers: Mapping[str, Secret] = {}
    """Headers that the receiver requires, such as an API key."""
    ca: Path | None = None
    """The certificate authority of an https receiver; by default those of the system."""

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        try:
            missing = not (find_spec("opentelemetry.sdk") and find_spec("opentelemetry.exporter.otlp.proto.http"))
        except ImportError:
            missing = True
        if missing:
            raise ValueError("tracing needs packages that are not installed: pip install 'calgate[tracing]'")
        if self.ca is not None and not self.ca.is_file():
            raise ValueError(f"there is no file {self.ca}")
        return self
