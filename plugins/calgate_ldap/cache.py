"""Caches people: one query serves all who wait for it, entries are refreshed early, errors are never cached."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from calgate.plugin import AccountRefused, Person, Refusal, Unavailable
from calgate_ldap.connection import UnreadableError

logger = logging.getLogger(__name__)
Load = Callable[[], Awaitable[Person | None]]
_Request = tuple[str, int]  # a key, and the number of changes announced before its query

MAX_PEOPLE = 50_000
"""People kept: about 1 KB each with ten groups."""
_REFRESH_AT = 0.75  # of the lifetime: from then on a hit also refreshes the entry in the background
_RETRY_AFTER = 5.0  # seconds until a failed refresh is tried again


@dataclass(slots=True)
class _Entry:
    person: Person
    refresh_at: float
    until: float


class Cache:
    """People by the key that they are looked up with. `clock`: monotonic seconds."""

    def __init__(self, lifetime: float, grace: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime = lifetime
        self._grace = grace
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._generation = 0
        self._loading: dict[_Request, asyncio.Task[Person | None]] = {}

    async def get(self, key: str, load: Load) -> Person | None:
        """Returns the person, from memory or `load`. Raises what `load` raises; Unavailable not in the grace time."""
        known, now = self._entries.get(key), self._clock()
        if known is not None and now < known.until:
            if now >= known.refresh_at:
                known.refresh_at = now + _RETRY_AFTER
                self._load(key, load)
            return known.person
        try:
            # shielded: a client that disconnects must not cancel the query that others wait for
            return await asyncio.shield(self._load(key, load))
        except UnreadableError:
            raise  # a server responded: the grace time is for the time when none does
        except Unavailable:
            if known is not None and now < known.until + self._grace:
                return known.person
            raise

    def forget(self, person_key: str) -> None:
        """Drops the person. The result of a query already in progress is neither kept nor shared with later callers."""
        self._generation += 1
        for key in [key for key, known in self._entries.items() if known.person.key == person_key]:
            del self._entries[key]

    async def close(self) -> None:
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)

    def _load(self, key: str, load: Load) -> "asyncio.Task[Person | None]":
        request = (key, self._generation)
        if (task := self._loading.get(request)) is None:
            task = self._loading[request] = asyncio.create_task(self._query(key, load))
            task.add_done_callback(lambda done: self._loaded(request, done))
        return task

    async def _query(self, key: str, load: Load) -> Person | None:
        generation = self._generation
        try:
            person = await load()
        except (AccountRefused, UnreadableError):
            self._entries.pop(key, None)
            raise
        if person is None:
            self._entries.pop(key, None)
        elif generation == self._generation:
            self._keep(key, person)
        return person

    def _keep(self, key: str, person: Person) -> None:
        if len(self._entries) >= MAX_PEOPLE and key not in self._entries:
            del self._entries[next(iter(self._entries))]
        now = self._clock()
        lifetime = self._lifetime * random.uniform(0.9, 1)  # noqa: S311 - spreads the refreshes of one morning
        self._entries.pop(key, None)  # so that the order is that of the queries
        self._entries[key] = _Entry(person, now + lifetime * _REFRESH_AT, now + lifetime)

    def _loaded(self, request: _Request, task: "asyncio.Task[Person | None]") -> None:
        self._loading.pop(request, None)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Refusal):
            logger.error("ldap: looking a user up failed", exc_info=error)
