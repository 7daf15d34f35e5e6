"""`[tracing]`: OpenTelemetry, where it is wanted. Without the section neither `spans` nor what it needs is imported.

(redis-py looks by itself for the part that is about metrics, where it is installed; nothing uses it.)

What is traced is wrapped when the gateway starts: who answers requests, proves identities, knows groups, gives CALs out
and reaches document servers. So a gateway that does not trace does not ask on each request whether it should.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from calgate.caller import Network
from calgate.setting import Secret, Section

if TYPE_CHECKING:
    from calgate.spans import Tracing

FIELDS = frozenset({b"traceparent", b"tracestate"})
"""Ours to say towards the document server while tracing is on (W3C Trace Context, section 3)."""


def _receiver(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path in ("", "/"):
        raise ValueError(f'a receiver of OTLP over HTTP is written like "http://otel:4318/v1/traces", not {value!r}')
    return value


class TracingSection(Section):
    """`[tracing]`: where spans go, under what name, and of how many requests."""

    endpoint: Annotated[str, AfterValidator(_receiver)]
    service: str = Field("calgate", min_length=1)
    sample: float = Field(1.0, ge=0, le=1)  # of the requests that begin a trace here
    headers: Mapping[str, Secret] = {}  # what the receiver wants to see: a key
    ca: Path | None = None

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


@asynccontextmanager
async def start(section: TracingSection | None, trusted: Sequence[Network]) -> AsyncIterator["Tracing | None"]:
    """Tracing by the section, or None; at the end what is still queued is sent, for a few seconds at most.

    `trusted`: the proxies whose traceparent is believed.
    """
    if section is None:
        yield None
        return
    from calgate.spans import open_tracing  # here, because of all that it imports

    async with open_tracing(section, trusted) as tracing:
        yield tracing
