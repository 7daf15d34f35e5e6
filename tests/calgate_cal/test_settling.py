"""Outcomes of provisional leases are sent to the store in batches."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from cal_model.license import Lab
from calgate.plugin import Unavailable
from calgate_cal.settling import Outcome, Settling


class Sender:
    """Keeps the batches; each is sent when the test allows it."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[object]]] = []
        self.may_send = asyncio.Event()
        self.error: Exception | None = None

    async def send(self, license: str, outcomes: Sequence[Outcome]) -> None:
        self.batches.append((license, [outcome.args[0] for outcome in outcomes]))
        await self.may_send.wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
def sender() -> Sender:
    return Sender()


def settle(settling: Settling, *names: str, license: str = "q") -> list[asyncio.Task[None]]:
    return [asyncio.create_task(settling.settle(Outcome(license, [name], is_lasting=False))) for name in names]


async def test_first_outcome_is_sent_at_once_and_those_that_follow_are_sent_together(sender: Sender) -> None:
    settling = Settling(sender.send, pause=0.01)
    tasks = settle(settling, "a")
    await asyncio.sleep(0.001)
    tasks += settle(settling, "b", "c")
    await asyncio.sleep(0.001)
    tasks += settle(settling, "d")
    sender.may_send.set()
    await asyncio.gather(*tasks)
    assert sender.batches == [("q", ["a"]), ("q", ["b", "c", "d"])]


async def test_each_license_has_batches_of_its_own_of_bounded_length(sender: Sender) -> None:
    sender.may_send.set()
    settling = Settling(sender.send, pause=0.0)
    tasks = settle(settling, *map(str, range(501))) + settle(settling, "x", license="other")
    await asyncio.gather(*tasks)
    assert [(license, len(names)) for license, names in sender.batches] == [("q", 500), ("q", 1), ("other", 1)]


async def test_store_that_is_away_fails_every_outcome_of_the_batch_and_not_the_next(sender: Sender) -> None:
    sender.may_send.set()
    sender.error = Unavailable("away")
    settling = Settling(sender.send, pause=0.0)
    outcomes = await asyncio.gather(*settle(settling, "a", "b"), return_exceptions=True)
    assert [type(one) for one in outcomes] == [Unavailable] * 2
    sender.error = None
    await asyncio.gather(*settle(settling, "c"))


async def test_outcome_is_sent_although_its_request_is_cancelled(sender: Sender) -> None:
    settling = Settling(sender.send, pause=0.0)
    first, second = settle(settling, "a", "b")
    await asyncio.sleep(0.001)
    first.cancel()
    sender.may_send.set()
    await second
    assert sender.batches == [("q", ["a", "b"])]
    await asyncio.gather(*settle(settling, "c"))


@pytest.mark.server
async def test_batch_settles_each_lease_by_its_own_outcome(license: Callable[..., Awaitable[Lab]]) -> None:
    lab = await license(session={"in_license": 10})
    leases = [await lab.claim(user, reference=user) for user in ("anna", "ben", "cleo", "dora", "eve")]
    outcomes = (True, False, None, True, False)
    together = zip(leases, outcomes, strict=True)
    await asyncio.gather(*(lab.allocator.settle(lease, served=served) for lease, served in together))
    whose = {holder.user: holder.state for holder in await lab.holders()}
    assert whose == {"anna": "held", "cleo": "provisional", "dora": "held"}
    assert [entry["user"] for entry in await lab.log() if entry["what"] == "taken-back"] == ["ben", "eve"]
