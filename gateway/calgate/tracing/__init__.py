"""`[tracing]`: OpenTelemetry, where it is wanted. Without the section neither `spans` nor what it needs is imported.

(redis-py looks by itself for the part that is about metrics, where it is installed; nothing uses it.)

What is traced is wrapped when the gateway starts: who answers requests, proves identities, knows groups, gives CALs out
and reaches document servers. So a gateway that does not trace does not ask on each request whether it should.
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
    """Tracing by the section, or None; at the end what is still queued is sent, for a few seconds at most.

    `trusted`: the proxies whose traceparent is believed.
    """
    if section is None:
        yield None
        return
    from calgate.tracing.spans import open_tracing  # here, because of all that it imports

    async with open_tracing(section, trusted) as tracing:
        yield tracing
