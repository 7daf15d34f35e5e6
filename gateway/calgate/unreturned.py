"""Sessions whose cookie has not come back yet.

A client without cookies makes one with each request. It must not fill the store, so after some its further requests are
served without a session being kept.
"""

import time
from collections import defaultdict
from collections.abc import Callable

LIFE = 60.0  # seconds a session is stored until its cookie comes back once
MOST = 16  # such sessions a user and address

Whose = tuple[str, str]  # a person's key, and an address


class Unreturned:
    """Counts them, by user and address."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._waiting: defaultdict[Whose, dict[str, float]] = defaultdict(dict)  # session -> when it is forgotten

    def has_room(self, whose: Whose) -> bool:
        """Whether one more may be kept."""
        waiting = self._waiting.get(whose)
        if waiting is None or len(waiting) < MOST:
            return True
        now = self._clock()
        for key in [key for key, until in waiting.items() if until < now]:
            del waiting[key]
        return len(waiting) < MOST

    def add(self, whose: Whose, key: str) -> None:
        self._waiting[whose][key] = self._clock() + LIFE

    def remove(self, whose: Whose, key: str) -> None:
        """Its cookie came back."""
        waiting = self._waiting.get(whose, {})
        waiting.pop(key, None)
        if not waiting:
            self._waiting.pop(whose, None)

    def tidy(self) -> None:
        """Forgets those whose time is over."""
        now = self._clock()
        for whose, waiting in list(self._waiting.items()):
            if all(until < now for until in waiting.values()):
                del self._waiting[whose]
