"""`[tracing]`: OpenTelemetry. Without the section neither `spans` nor OpenTelemetry is imported.

(redis-py itself imports OpenTelemetry's metrics API if that is installed; nothing uses it.)

When the gateway starts, the traced parts are wrapped: the request handler, authenticators, directories, the allocator
and document servers. So a gateway that does not trace spends nothing on it per request.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from calgate.plugin.settings import Network
from calgate.tracing.settings import TracingSection

if TYPE_CHECKING:
    from calgate.tracing.spans import Tracing


@asynccontextmanager
async def start(section: TracingSection | None, trusted: Sequence[Network]) -> AsyncIterator["Tracing | None"]:
    """Starts tracing, if there is a section; at the end, queued spans are sent, for a few seconds at most.

    `trusted`: the proxies whose traceparent is followed.
    """
    if section is None:
        yield None
        return
    from calgate.tracing.spans import open_tracing  # here, because it imports OpenTelemetry

    async with open_tracing(section, trusted) as tracing:
        yield tracing
