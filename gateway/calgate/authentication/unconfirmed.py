"""Unconfirmed sessions: the client has not sent the session cookie back yet.

A client without cookies begins a session with each request. So that these do not fill the store, each is kept for a
minute at most. For one user and address only the newest few are kept: the others are in excess, and are removed in the
background.
"""

import time
from collections import defaultdict
from collections.abc import Callable

LIFE = 60.0  # seconds that a session is stored until its cookie comes back once
MOST = 16  # such sessions for one user and address

Owner = tuple[str, str]  # a person's key, and an address


class UnconfirmedSessions:
    """Counts them, by user and address."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._waiting: defaultdict[Owner, dict[str, float]] = defaultdict(dict)  # session -> when it began
        self._excess: list[str] = []

    def add(self, owner: Owner, key: str) -> str | None:
        """Adds a session; returns the oldest one of the owner where this one is too many."""
        waiting = self._waiting[owner]
        waiting[key] = self._clock()
        if len(waiting) <= MOST:
            return None
        oldest = next(iter(waiting))
        del waiting[oldest]
        self._excess.append(oldest)
        return oldest

    def remove(self, owner: Owner, key: str) -> None:
        """Forgets a session whose cookie came back."""
        waiting = self._waiting.get(owner, {})
        waiting.pop(key, None)
        if not waiting:
            self._waiting.pop(owner, None)

    def take_excess(self) -> list[str]:
        """Returns the sessions to remove from the store, each once; forgets owners whose sessions have all expired."""
        for owner, waiting in list(self._waiting.items()):
            if all(began + LIFE < self._clock() for began in waiting.values()):
                del self._waiting[owner]
        excess, self._excess = self._excess, []
        return excess
