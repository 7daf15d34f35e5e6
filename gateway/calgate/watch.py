"""An open WebSocket outlives what let it in: groups change, hours end. It is judged again while it is open."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from calgate.contract import Grant
from calgate.pages import words_for
from calgate.refusal import Refusal, Unavailable

EVERY = 10.0  # seconds; a boundary of any `hours` rule is met to the second


async def judge_again(
    grant: Grant,
    judge: Callable[[], Awaitable[Grant]],
    close: Callable[[int, str], None],
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Runs beside the WebSocket until cancelled, or until `judge` refuses: then closes it (1008), saying why.

    `judge` answers a new grant or raises a Refusal; Unavailable is no refusal, and it is asked again.
    """
    while True:
        left = EVERY if grant.until is None else min(EVERY, grant.until - clock())
        await sleep(max(left, 0.0))
        try:
            grant = await judge()
        except Unavailable:
            grant = Grant(grant.rule)
        except Refusal as refusal:
            close(1008, words_for(refusal).title)
            return
