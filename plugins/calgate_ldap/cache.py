"""What is known of people, for a while: asked once for many who wait, refreshed unseen, never made of errors."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from calgate.plugin import AccountRefused, Person, Refusal, Unavailable

_log = logging.getLogger(__name__)
Ask = Callable[[], Awaitable[Person | None]]
_Question = tuple[str, int]  # a key, and how many changes were heard of before it was asked

MOST = 50_000
"""People kept: about 1 KB each with ten groups."""
_EARLY = 0.75  # of the lifetime, after which an answer that serves is asked for anew in the background
_AGAIN = 5.0  # seconds until the next attempt at that


@dataclass(slots=True)
class _Known:
    person: Person
    refresh_at: float
    until: float


class Cache:
    """People by the key that they are looked up with. `clock`: seconds that only go forward."""

    def __init__(self, lifetime: float, grace: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime = lifetime
        self._grace = grace
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._generation = 0
        self._asking: dict[_Question, asyncio.Task[Person | None]] = {}

    async def get(self, key: str, ask: Ask) -> Person | None:
        """The person, from memory or by `ask`; raises what `ask` raises, Unavailable only once nothing serves."""
        known, now = self._known.get(key), self._clock()
        if known is not None and now < known.until:
            if now >= known.refresh_at:
                known.refresh_at = now + _AGAIN
                self._ask(key, ask)
            return known.person
        try:
            # shielded: the others who wait for the same answer do not lose it when one client goes away
            return await asyncio.shield(self._ask(key, ask))
        except Unavailable:
            if known is not None and now < known.until + self._grace:
                return known.person
            raise

    def forget(self, person_key: str) -> None:
        """The next question about this person is asked anew; an answer that is on its way is not kept, nor shared."""
        self._generation += 1
        for key in [key for key, known in self._known.items() if known.person.key == person_key]:
            del self._known[key]

    async def close(self) -> None:
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def _ask(self, key: str, ask: Ask) -> "asyncio.Task[Person | None]":
        question = (key, self._generation)
        if (task := self._asking.get(question)) is None:
            task = self._asking[question] = asyncio.create_task(self._learn(key, ask))
            task.add_done_callback(lambda done: self._asked(question, done))
        return task

    async def _learn(self, key: str, ask: Ask) -> Person | None:
        generation = self._generation
        try:
            person = await ask()
        except AccountRefused:
            self._known.pop(key, None)
            raise
        if person is None:
            self._known.pop(key, None)
        elif generation == self._generation:
            self._keep(key, person)
        return person

    def _keep(self, key: str, person: Person) -> None:
        if len(self._known) >= MOST and key not in self._known:
            del self._known[next(iter(self._known))]
        now = self._clock()
        lifetime = self._lifetime * random.uniform(0.9, 1)  # noqa: S311 - spreads the refreshes of one morning
        self._known.pop(key, None)  # so that the order is that of the answers
        self._known[key] = _Known(person, now + lifetime * _EARLY, now + lifetime)

    def _asked(self, question: _Question, task: "asyncio.Task[Person | None]") -> None:
        self._asking.pop(question, None)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Refusal):
            _log.error("ldap: looking somebody up failed", exc_info=error)
