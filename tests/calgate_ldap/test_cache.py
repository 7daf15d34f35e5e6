"""What is known of people, and for how long."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from calgate.plugin.errors import AccountRefused, Unavailable
from calgate.plugin.identity import Person
from calgate_ldap.cache import Cache


class Directory:
    """Answers with the next of what it was given; an exception is raised."""

    def __init__(self, *answers: Person | Exception | None) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(self) -> Person | None:
        self.asked += 1
        await self.gate.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def person(*groups: str) -> Person:
    return Person("S-1", "CORP", "alice", "Alice", frozenset(groups))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_an_answer_serves_for_its_lifetime_and_not_longer(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("a"), person("b"))
    assert await cache.get("k", directory.ask) == person("a")
    clock.now += 60
    assert await cache.get("k", directory.ask) == person("a")
    assert directory.asked == 1
    clock.now += 41
    assert await cache.get("k", directory.ask) == person("b")


async def test_it_is_refreshed_unseen_before_it_ends(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("a"), person("b"))
    await cache.get("k", directory.ask)
    clock.now += 80
    assert await cache.get("k", directory.ask) == person("a")
    await settle()
    assert await cache.get("k", directory.ask) == person("b")
    assert directory.asked == 2


async def test_many_who_wait_ask_once(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("a"))
    answers = await asyncio.gather(*(cache.get("k", directory.ask) for _ in range(50)))
    assert set(answers) == {person("a")}
    assert directory.asked == 1


async def test_who_goes_away_does_not_take_the_answer_from_the_others(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("a"))
    directory.gate.clear()
    first, second = (asyncio.ensure_future(cache.get("k", directory.ask)) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    directory.gate.set()
    assert await second == person("a")


async def test_unavailable_is_never_remembered(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(Unavailable("down"), person("a"))
    with pytest.raises(Unavailable):
        await cache.get("k", directory.ask)
    assert await cache.get("k", directory.ask) == person("a")


async def test_without_grace_nothing_stale_is_served(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("a"), Unavailable("down"))
    await cache.get("k", directory.ask)
    clock.now += 101
    with pytest.raises(Unavailable):
        await cache.get("k", directory.ask)


async def test_grace_serves_while_nobody_answers_and_then_ends(clock: Clock) -> None:
    cache, directory = Cache(100, 50, clock), Directory(person("a"), Unavailable("down"), Unavailable("down"))
    await cache.get("k", directory.ask)
    clock.now += 130
    assert await cache.get("k", directory.ask) == person("a")
    clock.now += 30
    with pytest.raises(Unavailable):
        await cache.get("k", directory.ask)


@pytest.mark.parametrize("later", [80, 101])
async def test_a_refused_account_is_refused_from_the_refresh_on_even_in_grace(clock: Clock, later: float) -> None:
    refused = AccountRefused("disabled")
    cache = Cache(100, 1000, clock)
    directory = Directory(person("a"), refused, Unavailable("down"))
    await cache.get("k", directory.ask)
    clock.now += later
    answers = await asyncio.gather(cache.get("k", directory.ask), return_exceptions=True)
    (answer,) = answers
    assert answer == (person("a") if later == 80 else refused)
    await settle()
    with pytest.raises(Unavailable):
        await cache.get("k", directory.ask)


async def test_nobody_is_asked_for_again(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(None, person("a"))
    assert await cache.get("k", directory.ask) is None
    assert await cache.get("k", directory.ask) == person("a")


async def test_a_person_that_is_forgotten_is_asked_for_again(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("a"), person("b"))
    await cache.get("k", directory.ask)
    cache.forget("S-1")
    assert await cache.get("k", directory.ask) == person("b")


async def test_an_answer_from_before_the_change_is_not_kept(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("before"), person("after"))
    directory.gate.clear()
    asking = asyncio.ensure_future(cache.get("k", directory.ask))
    await settle()
    cache.forget("S-1")
    directory.gate.set()
    await asking
    assert await cache.get("k", directory.ask) == person("after")


async def test_who_asks_after_the_change_does_not_get_an_answer_from_before_it(clock: Clock) -> None:
    """Another request may wait already for what the directory was asked before."""
    cache, directory = Cache(100, 0, clock), Directory(person("old"), person("new"))
    directory.gate.clear()
    before = asyncio.create_task(cache.get("k", directory.ask))
    await settle()
    cache.forget("S-1")
    after = asyncio.create_task(cache.get("k", directory.ask))
    await settle()
    directory.gate.set()
    assert [await before, await after] == [person("old"), person("new")]
    assert await cache.get("k", directory.ask) == person("new")


async def test_people_who_signed_in_together_are_not_refreshed_together(clock: Clock) -> None:
    cache = Cache(100, 0, clock)

    def asker(name: str) -> Callable[[], Awaitable[Person | None]]:
        async def ask() -> Person | None:
            asked.append(name)
            return person()

        return ask

    asked: list[str] = []
    names = [f"u{number}" for number in range(100)]
    for name in names:
        await cache.get(name, asker(name))
    asked.clear()
    clock.now += 71
    for name in names:
        await cache.get(name, asker(name))
    await settle()
    assert 0 < len(asked) < 100
