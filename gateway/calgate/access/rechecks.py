"""Judges access again while an exchange stays open: group membership and `hours` can change after it began. Pure."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from calgate.plugin.access import Grant
from calgate.plugin.errors import Refusal, Unavailable

EVERY = 10.0  # seconds between two judgements; a boundary of any `hours` rule is met to the second


async def recheck(
    grant: Grant,
    judge: Callable[[], Awaitable[Grant]],
    refuse: Callable[[Refusal], None],
    *,
    waited: float = 0.0,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Runs until it is cancelled, or until `judge` raises a Refusal: then calls `refuse` with it.

    `judge` returns the new grant. If it raises Unavailable, it is called again later. `waited`: seconds
    that have passed since `grant` was made.
    """
    while True:
        left = EVERY if grant.until is None else min(EVERY, grant.until - clock())
        await sleep(max(left - waited, 0.0))
        waited = 0.0
        try:
            grant = await judge()
        except Unavailable:
            grant = Grant(grant.rule)
        except Refusal as refusal:
            refuse(refusal)
            return
