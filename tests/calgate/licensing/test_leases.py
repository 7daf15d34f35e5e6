"""CALs as the gateway asks for them."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from calgate.licensing.leases import Licensing
from calgate.plugin.licensing import Activity, Allocator, Claimant, Lease, LicenseInfo, Lost
from calgate.telemetry.metrics import Metrics


class Slow:
    """An allocator that takes its time, as a store does."""

    def __init__(self) -> None:
        self.licenses = {"demo": LicenseInfo()}
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self.touched: list[Lease] = []
        self.settled: asyncio.Queue[tuple[Lease, bool | None]] = asyncio.Queue()

    async def claim(self, license: str, claimant: Claimant, document: str, *, reference: str) -> Lease:
        self.asked.set()
        await self.answers.wait()
        return Lease(license, "named", claimant, document, "1", provisional=True, reference=reference)

    async def held(self, license: str, claimant: Claimant, document: str) -> Lease:
        return Lease(license, "named", claimant, document, "1", provisional=document == "asked-for")

    async def touch(self, activity: Sequence[Activity]) -> Sequence[Lost]:
        self.asked.set()
        await self.answers.wait()
        self.touched += [use.lease for use in activity]
        return ()

    async def settle(self, lease: Lease, *, served: bool | None) -> None:
        self.settled.put_nowait((lease, served))


async def test_who_goes_away_while_he_is_given_a_cal_gives_it_back() -> None:
    allocator = Slow()
    licensing = Licensing(cast(Allocator, allocator), cast(Any, None), {}, Metrics())
    ask = SimpleNamespace(target=SimpleNamespace(path="/docs/a"), reference="R", address="::1", ms=1.0)
    session = SimpleNamespace(address="::1", is_browser=True, key="k", leases={})
    person = SimpleNamespace(key="S-1", name="DEMO\\alice", groups=frozenset())
    claiming = asyncio.create_task(licensing.claim(cast(Any, ask), cast(Any, session), cast(Any, person), "demo", "a"))
    await allocator.asked.wait()
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    allocator.answers.set()
    lease, served = await asyncio.wait_for(allocator.settled.get(), 1)
    assert (lease.reference, served) == ("R", False)


async def test_what_is_provisional_for_another_request_is_not_remembered_as_had() -> None:
    """The other may be under way on another worker; a use noted here would make the CAL the user's for good."""
    licensing = Licensing(cast(Allocator, Slow()), cast(Any, None), {}, Metrics())
    session = SimpleNamespace(address="::1", is_browser=True, key="k", leases={})
    person = SimpleNamespace(key="S-1", name="DEMO\\alice", groups=frozenset())
    for document in ("asked-for", "had"):
        await licensing.demand_held(cast(Any, session), cast(Any, person), "demo", document)
    assert list(session.leases) == [("demo", "had")]


async def test_a_report_that_is_broken_off_as_the_process_ends_is_made_again_whole() -> None:
    allocator = Slow()
    licensing = Licensing(cast(Allocator, allocator), cast(Any, None), {}, Metrics())
    leases = [Lease("demo", "session", Claimant("S-1", "alice", "pc"), "a", str(number)) for number in range(700)]
    for lease in leases:
        licensing.note(lease)
    reporting = asyncio.create_task(licensing.report_once())
    await allocator.asked.wait()
    reporting.cancel()
    await asyncio.wait({reporting})
    allocator.answers.set()
    allocator.touched.clear()
    await licensing.finish()
    assert allocator.touched == leases
