"""The access rules that are in force right now."""

import asyncio
from contextlib import suppress

from calgate.access.rules import Rules
from calgate.plugin.errors import Unavailable


class CurrentRules:
    """The access rules with their groups as last resolved; unavailable until they were resolved once."""

    def __init__(self) -> None:
        self._current: Rules | None = None
        self._resolved = asyncio.Event()

    @property
    def current(self) -> Rules:
        """Raises Unavailable before the directory has told what the groups are."""
        if self._current is None:
            raise Unavailable("the rules' groups are not resolved yet", code="rules-unresolved")
        return self._current

    @property
    def are_resolved(self) -> bool:
        return self._current is not None

    def replace(self, rules: Rules) -> None:
        """From now on these decide; grants by others are forgotten."""
        self._current = rules
        self._resolved.set()

    async def wait(self, seconds: float) -> None:
        """Until they were resolved once, but no longer than so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._resolved.wait()
