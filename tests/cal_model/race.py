"""Many processes that race for few CALs: python -m cal_model.race STORE-URL PROCESSES SECONDS QUEUE(0|1)."""

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from cal_model.license import who
from calgate.plugin.licensing import Activity, NoCal
from calgate.store import StoreSection, open_store
from calgate_cal import Config
from calgate_cal.allocator import CalAllocator

CALS = 6
USERS = 40


def license(*, queue: bool) -> dict[str, Any]:
    """Session CALs without a minimum, so that they change hands all the time."""
    session = {"in_license": CALS, "minimum": "0s", "idle_timeout": "5m", "reclaimable_after": "off"}
    return {"session": session, "queue": queue}


async def race(url: str, until: float, queue: bool) -> None:
    """Claims as random users, is served or denied, stays a little, and releases."""
    config = Config.model_validate({"q": license(queue=queue)})
    async with open_store(StoreSection(url=url), Path(tempfile.gettempdir())) as store:
        allocator = CalAllocator(config, store, "racer")
        allocator._settling.pause = 0.0
        while time.time() < until:
            claimant = who(f"user{random.randrange(USERS)}", f"pc{os.getpid()}" if queue else "pc")
            reference = f"{os.getpid()}.{random.randrange(10**9)}"
            try:
                lease = await allocator.claim("q", claimant, "d", reference=reference)
            except NoCal as no:
                if no.place:
                    await _wait(allocator, claimant, until)
                continue
            await allocator.settle(lease, served=random.random() < 0.9)
            await asyncio.sleep(random.random() * 0.02)
            await allocator.touch([Activity(lease, time.time())])
            await allocator.release("q", claimant)


async def _wait(allocator: CalAllocator, claimant: Any, until: float) -> None:
    """Claims again as the waiting page does until there is a CAL, or stops in the middle."""
    while time.time() < until and random.random() < 0.98:
        with contextlib.suppress(NoCal):
            lease = await allocator.claim("q", claimant, "d", reference="waited")
            await allocator.settle(lease, served=True)
            break
        await asyncio.sleep(0.02)
    await allocator.release("q", claimant)


def main() -> None:
    """Forks before any event loop exists."""
    url, processes, seconds, queue = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "1"
    children = []
    until = time.time() + seconds + 0.02 * processes
    for _ in range(processes):
        child = os.fork()
        if child == 0:
            random.seed()
            signal.alarm(int(seconds) + 30)  # no child outlives the test
            code = 1
            try:
                asyncio.run(race(url, until, queue))
                code = 0
            except Exception:
                traceback.print_exc()
                raise
            finally:
                os._exit(code)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
