"""How full the pools of CALs are, for `/metrics`. The values are those of the store, not of this process."""

import asyncio
import time
from collections.abc import Callable

from calgate.plugin.errors import Unavailable
from calgate.plugin.licensing import Allocator, QueuedAllocator
from calgate.telemetry.metrics import Metrics

_EVERY = 10.0  # seconds; Prometheus usually scrapes every 15 or 60


async def keep_counting(allocator: Allocator, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
    """Reads the pools and queues every few seconds; runs until cancelled.

    Sets {"at": Unix time, "pools": rows, "waiting": rows}, or {}.
    """
    queued = allocator if isinstance(allocator, QueuedAllocator) else None
    while True:
        try:
            pools = [
                [license, pool.kind, pool.occupied, pool.limit, pool.anonymous]
                for license in allocator.licenses
                for pool in await allocator.pools(license)
            ]
            waiting = [[license, await queued.waiting(license)] for license in allocator.licenses] if queued else []
        except Unavailable:
            metrics.cals = {}  # an old value would look like a current one
        else:
            metrics.cals = {"at": clock(), "pools": pools, "waiting": waiting}
        await asyncio.sleep(_EVERY)
