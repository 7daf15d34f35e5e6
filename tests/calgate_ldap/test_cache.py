"""The cache of people: lifetime, refresh, grace, and what is never cached."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from calgate.plugin.errors import AccountRefused, Unavailable
from calgate.plugin.identity import Person
from calgate_ldap.cache import Cache
from calgate_ldap.connection import UnreadableError


class Directory:
    """Returns its results one after the other; raises those that are exceptions."""

    def __init__(self, *results: Person | Exception | None) -> None:
        self.results = list(results)
        self.queries = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self) -> Person | None:
        self.queries += 1
        await self.gate.wait()
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


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


async def test_entry_is_used_for_its_lifetime_and_no_longer(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("a"), person("b"))
    assert await cache.get("k", directory.load) == person("a")
    clock.now += 60
    assert await cache.get("k", directory.load) == person("a")
    assert directory.queries == 1
    clock.now += 41
    assert await cache.get("k", directory.load) == person("b")


async def test_entry_is_refreshed_in_the_background_before_its_lifetime_ends(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("a"), person("b"))
    await cache.get("k", directory.load)
    clock.now += 80
    assert await cache.get("k", directory.load) == person("a")
    await settle()
    assert await cache.get("k", directory.load) == person("b")
    assert directory.queries == 2


async def test_simultaneous_requests_share_one_query(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("a"))
    results = await asyncio.gather(*(cache.get("k", directory.load) for _ in range(50)))
    assert set(results) == {person("a")}
    assert directory.queries == 1


async def test_cancelled_request_does_not_cancel_the_query_of_others(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("a"))
    directory.gate.clear()
    first, second = (asyncio.ensure_future(cache.get("k", directory.load)) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    directory.gate.set()
    assert await second == person("a")


async def test_unavailable_is_never_cached(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(Unavailable("down"), person("a"))
    with pytest.raises(Unavailable):
        await cache.get("k", directory.load)
    assert await cache.get("k", directory.load) == person("a")


async def test_stale_entry_is_not_used_without_grace(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("a"), Unavailable("down"))
    await cache.get("k", directory.load)
    clock.now += 101
    with pytest.raises(Unavailable):
        await cache.get("k", directory.load)


async def test_stale_entry_is_used_in_the_grace_time_only(clock: Clock) -> None:
    cache, directory = Cache(100, 50, clock), Directory(person("a"), Unavailable("down"), Unavailable("down"))
    await cache.get("k", directory.load)
    clock.now += 130
    assert await cache.get("k", directory.load) == person("a")
    clock.now += 30
    with pytest.raises(Unavailable):
        await cache.get("k", directory.load)


@pytest.mark.parametrize("later", [80, 101])
async def test_refused_account_drops_its_entry_even_in_the_grace_time(clock: Clock, later: float) -> None:
    refused = AccountRefused("disabled")
    cache = Cache(100, 1000, clock)
    directory = Directory(person("a"), refused, Unavailable("down"))
    await cache.get("k", directory.load)
    clock.now += later
    results = await asyncio.gather(cache.get("k", directory.load), return_exceptions=True)
    (result,) = results
    assert result == (person("a") if later == 80 else refused)
    await settle()
    with pytest.raises(Unavailable):
        await cache.get("k", directory.load)


async def test_unreadable_attributes_drop_the_entry_even_in_the_grace_time(clock: Clock) -> None:
    """A server responded, so the grace time does not apply; the account may be disabled by now."""
    cache = Cache(100, 1000, clock)
    directory = Directory(person("a"), UnreadableError("CN=alice", ["tokenGroups"]), Unavailable("down"))
    await cache.get("k", directory.load)
    clock.now += 101
    for error in (UnreadableError, Unavailable):
        with pytest.raises(error):
            await cache.get("k", directory.load)


async def test_unknown_user_is_queried_again(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(None, person("a"))
    assert await cache.get("k", directory.load) is None
    assert await cache.get("k", directory.load) == person("a")


async def test_forgotten_person_is_queried_again(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("a"), person("b"))
    await cache.get("k", directory.load)
    cache.forget("S-1")
    assert await cache.get("k", directory.load) == person("b")


async def test_result_from_before_a_change_is_not_kept(clock: Clock) -> None:
    cache, directory = Cache(100, 0, clock), Directory(person("before"), person("after"))
    directory.gate.clear()
    loading = asyncio.ensure_future(cache.get("k", directory.load))
    await settle()
    cache.forget("S-1")
    directory.gate.set()
    await loading
    assert await cache.get("k", directory.load) == person("after")


async def test_request_after_a_change_does_not_share_a_query_from_before_it(clock: Clock) -> None:
    """Another request is already waiting for the earlier query."""
    cache, directory = Cache(100, 0, clock), Directory(person("old"), person("new"))
    directory.gate.clear()
    before = asyncio.create_task(cache.get("k", directory.load))
    await settle()
    cache.forget("S-1")
    after = asyncio.create_task(cache.get("k", directory.load))
    await settle()
    directory.gate.set()
    assert [await before, await after] == [person("old"), person("new")]
    assert await cache.get("k", directory.load) == person("new")


async def test_people_loaded_together_are_refreshed_at_different_times(clock: Clock) -> None:
    cache = Cache(100, 0, clock)

    def loader(name: str) -> Callable[[], Awaitable[Person | None]]:
        async def load() -> Person | None:
            loaded.append(name)
            return person()

        return load

    loaded: list[str] = []
    names = [f"u{number}" for number in range(100)]
    for name in names:
        await cache.get(name, loader(name))
    loaded.clear()
    clock.now += 71
    for name in names:
        await cache.get(name, loader(name))
    await settle()
    assert 0 < len(loaded) < 100
