"""Which of the groups that a setting names a user is in."""

import time
from collections.abc import Callable, Mapping, Sequence

from calgate.plugin.errors import Unavailable
from calgate.plugin.identity import Directory, Person

_REFRESH = 300.0  # seconds until the names are resolved again: a group may be renamed, or made again


class NamedGroups:
    """Tells in which of some groups a user is. The names are resolved when they are needed, and again later."""

    def __init__(self, names: Sequence[str], directory: Directory | None, now: Callable[[], float] = time.monotonic):
        """`names`: as an administrator writes them."""
        self._names = tuple(dict.fromkeys(names))
        self._directory = directory
        self._now = now
        self._resolved: Mapping[str, str] = {}
        self._fresh_until = 0.0

    async def of(self, person: Person) -> Sequence[str]:
        """Returns the names of the groups that the user is in, as the setting has them and in its order.

        Raises Unavailable if the directory does not respond or has no such group: a list without it would be wrong.
        """
        if self._names and self._now() >= self._fresh_until:
            await self._resolve()
        return [name for name in self._names if self._resolved[name] in person.groups]

    async def _resolve(self) -> None:
        assert self._directory is not None
        found = await self._directory.resolve(self._names)
        missing = [name for name in self._names if found.get(name) is None]
        if missing:
            raise Unavailable(
                f"sign-on: no directory has the group {', '.join(missing)}; correct `groups`", code="rules-unresolved"
            )
        self._resolved = {name: key for name, key in found.items() if key is not None}
        self._fresh_until = self._now() + _REFRESH
