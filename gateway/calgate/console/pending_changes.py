"""Changes that wait until their visitor has proved again who they are."""

import time
from collections import OrderedDict
from collections.abc import Callable
from secrets import token_urlsafe

from calgate.console.pages import Question

_MOST = 200
_LIFE = 900.0  # seconds: to sign in takes a few minutes at most


class UnprovedChanges:
    """Keeps the latest changes, each for the person who requested it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[str, float, Question]] = OrderedDict()

    def keep(self, owner: str, change: Question) -> str:
        """Keeps a change; returns the key that finds it."""
        mark = token_urlsafe(9)
        self._kept[mark] = (owner, self._clock(), change)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return mark

    def find(self, mark: str, owner: str) -> Question | None:
        """Returns the change, to its owner alone, while it is recent."""
        kept_for, at, change = self._kept.get(mark, ("", 0.0, None))
        return change if kept_for == owner and self._clock() - at < _LIFE else None
