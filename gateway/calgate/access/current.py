"""The access rules that are in force now."""

import asyncio
from contextlib import suppress

from calgate.access.rules import Rules
from calgate.plugin.errors import Unavailable


class CurrentRules:
    """The access rules with their groups as last resolved; unavailable until the first time."""

    def __init__(self) -> None:
        self._current: Rules | None = None
        self._resolved = asyncio.Event()

    @property
    def current(self) -> Rules:
        """The rules; raises Unavailable before the directory has resolved their groups."""
        if self._current is None:
            raise Unavailable("the rules' groups are not resolved yet", code="rules-unresolved")
        return self._current

    @property
    def are_resolved(self) -> bool:
        return self._current is not None

    def replace(self, rules: Rules) -> None:
        """Puts new rules in force; sessions forget the grants of the old ones."""
        self._current = rules
        self._resolved.set()

    async def wait(self, seconds: float) -> None:
        """Waits until the rules have been resolved, for this many seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._resolved.wait()
