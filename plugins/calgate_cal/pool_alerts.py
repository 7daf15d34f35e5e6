"""Log events when a pool is nearly full, full, or beyond its limit."""

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

_AGAIN_AFTER = 600.0  # seconds; a full pool gives one out whenever one comes back, and each need not be told


class PoolAlerts:
    """Says each thing once in ten minutes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said: dict[tuple[str, str, str], float] = {}

    def tell(self, license: str, kind: str, out: int, limit: int) -> None:
        """After a grant, with which so many are out; 0: nothing was granted."""
        if out > limit:
            self._say(
                "overdraft", license, kind, f"{out} {kind} CALs are out, {out - limit} beyond the limit (overdraft)"
            )
        elif out and out == limit:
            self._say("full", license, kind, f"all {limit} {kind} CALs are out")
        elif out and out * 10 >= limit * 9:
            self._say("nearly", license, kind, f"{out} of {limit} {kind} CALs are out")

    def _say(self, word: str, license: str, kind: str, sentence: str) -> None:
        now = self._clock()
        if now >= self._said.get((word, license, kind), 0.0) + _AGAIN_AFTER:
            self._said[(word, license, kind)] = now
            logger.warning("license %s: %s", license, sentence)
