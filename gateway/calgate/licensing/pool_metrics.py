"""How full the pools of CALs are, for `/metrics`. The figures are the store's, not this process's."""

import asyncio
import time
from collections.abc import Callable

from calgate.plugin.errors import Unavailable
from calgate.plugin.licensing import Allocator
from calgate.telemetry.metrics import Metrics

_EVERY = 10.0  # seconds; Prometheus asks every 15 or 60


async def keep_counting(allocator: Allocator, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
    """Asks the allocator every few seconds; runs until cancelled. Told as {"at": Unix time, "pools": rows}, or {}."""
    while True:
        try:
            pools = [
                [license, pool.kind, pool.occupied, pool.limit]
                for license in allocator.licenses
                for pool in await allocator.pools(license)
            ]
        except Unavailable:
            metrics.cals = {}  # an old figure would look like a true one
        else:
            metrics.cals = {"at": clock(), "pools": pools}
        await asyncio.sleep(_EVERY)
