"""CALs by the rules of QlikView Server, counted and given out in Redis functions. README.md tells the rules."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Mapping

from calgate.plugin import Services
from calgate_cal.allocator import CalAllocator
from calgate_cal.audit import actor
from calgate_cal.commands import commands
from calgate_cal.settings import Config, warnings

__all__ = ["Config", "commands", "license_names", "role", "start", "warnings"]

role = "allocator"

logger = logging.getLogger(__name__)

_TENDED_EVERY = 5.0  # seconds; an offer is seen by who waits when his page asks next, so more often serves nobody


def license_names(table: Mapping[str, object]) -> Collection[str]:
    """Returns the names of the licenses: each is a table of the section."""
    return table.keys()


@contextlib.asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[CalAllocator]:
    """Starts the allocator, also while the store is away. It changes nothing in the store before `activate`."""
    allocator = CalAllocator(config, services.store, actor())
    tending = asyncio.create_task(_tend(allocator), name="CALs that come back")
    tending.add_done_callback(_tell_if_failed)
    try:
        yield allocator
    finally:
        while not tending.done():  # a cancellation that meets an answer is swallowed in redis-py's own timeouts
            tending.cancel()
            await asyncio.wait({tending}, timeout=0.2)


async def _tend(allocator: CalAllocator) -> None:
    await allocator.is_active.wait()
    await allocator.tend(_TENDED_EVERY)


def _tell_if_failed(tending: asyncio.Task[None]) -> None:
    """CALs are still counted rightly without it, but ended leases stay in the books, and offers wait for a claim."""
    if not tending.cancelled() and (error := tending.exception()):
        logger.error("CALs are no longer tended, restart the gateway", exc_info=error)
