"""Callers that want the same result share one call."""

import asyncio

import pytest

from calgate.authentication.shared_calls import SharedCalls
from calgate.plugin.errors import Unavailable


class Calls:
    """Counts its calls; each ends when the test says so."""

    def __init__(self) -> None:
        self.count = 0
        self.may_end = asyncio.Event()

    async def one(self) -> int:
        self.count += 1
        number = self.count
        await self.may_end.wait()
        return number

    async def failing(self) -> int:
        await self.one()
        raise Unavailable("away")


async def test_callers_of_one_key_share_a_call_and_those_of_another_do_not() -> None:
    calls = Calls()
    shared: SharedCalls[int] = SharedCalls()
    waiting = asyncio.gather(*(shared.result(key, calls.one) for key in ("a", "a", "b", "a")))
    await asyncio.sleep(0)
    calls.may_end.set()
    assert await waiting == [1, 1, 2, 1]
    assert await shared.result("a", calls.one) == 3


async def test_call_goes_on_without_a_caller_that_is_cancelled() -> None:
    calls = Calls()
    shared: SharedCalls[int] = SharedCalls()
    first, second = (asyncio.create_task(shared.result("a", calls.one)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    calls.may_end.set()
    assert await second == 1
    assert first.cancelled()


async def test_failure_reaches_all_callers_and_is_not_kept() -> None:
    calls = Calls()
    calls.may_end.set()
    shared: SharedCalls[int] = SharedCalls()
    outcomes = await asyncio.gather(*(shared.result("a", calls.failing) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in outcomes] == [Unavailable] * 3
    assert calls.count == 1
    assert await shared.result("a", calls.one) == 2


async def test_failure_that_nobody_waits_for_any_more_is_not_reported() -> None:
    calls = Calls()
    shared: SharedCalls[int] = SharedCalls()
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    caller = asyncio.create_task(shared.result("a", calls.failing))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    calls.may_end.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert reported == []
