"""Sessions whose cookie has not come back yet.

A client without cookies makes one with each request. So that it does not fill the store, each is kept for a minute at
most, and of one user and address only the newest few: the others are surplus, and removed in the background.
"""

import time
from collections import defaultdict
from collections.abc import Callable

LIFE = 60.0  # seconds a session is stored until its cookie comes back once
MOST = 16  # such sessions a user and address

Owner = tuple[str, str]  # a person's key, and an address


class UnconfirmedSessions:
    """Counts them, by user and address."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._waiting: defaultdict[Owner, dict[str, float]] = defaultdict(dict)  # session -> its beginning
        self._surplus: list[str] = []

    def add(self, whose: Owner, key: str) -> str | None:
        """One more; answers the session that becomes surplus by it, if one does."""
        waiting = self._waiting[whose]
        waiting[key] = self._clock()
        if len(waiting) <= MOST:
            return None
        oldest = next(iter(waiting))
        del waiting[oldest]
        self._surplus.append(oldest)
        return oldest

    def remove(self, whose: Owner, key: str) -> None:
        """Its cookie came back."""
        waiting = self._waiting.get(whose, {})
        waiting.pop(key, None)
        if not waiting:
            self._waiting.pop(whose, None)

    def take_surplus(self) -> list[str]:
        """Those to be removed from the store, since the last time; forgets those whose time is over."""
        for whose, waiting in list(self._waiting.items()):
            if all(began + LIFE < self._clock() for began in waiting.values()):
                del self._waiting[whose]
        surplus, self._surplus = self._surplus, []
        return surplus
