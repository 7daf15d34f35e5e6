"""Log events for a pool that is nearly full, full, or beyond its limit."""

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

_AGAIN_AFTER = 600.0  # seconds; in a full pool every CAL that comes back is granted at once


class PoolAlerts:
    """Logs each condition of a pool at most once in ten minutes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._logged: dict[tuple[str, str, str], float] = {}

    def note_grant(self, license: str, kind: str, out: int, limit: int) -> None:
        """After a grant, with which so many CALs are in use; 0: no CAL was granted."""
        if out > limit:
            self._log(
                "overdraft", license, kind, f"{out} {kind} CALs are out, {out - limit} beyond the limit (overdraft)"
            )
        elif out and out == limit:
            self._log("full", license, kind, f"all {limit} {kind} CALs are out")
        elif out and out * 10 >= limit * 9:
            self._log("nearly", license, kind, f"{out} of {limit} {kind} CALs are out")

    def _log(self, condition: str, license: str, kind: str, sentence: str) -> None:
        now = self._clock()
        if now >= self._logged.get((condition, license, kind), 0.0) + _AGAIN_AFTER:
            self._logged[(condition, license, kind)] = now
            logger.warning("license %s: %s", license, sentence)
