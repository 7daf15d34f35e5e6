"""Leases as the gateway claims, remembers and reports them."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from calgate.authentication.session import Session
from calgate.licensing.leases import Licensing
from calgate.plugin.identity import Identity
from calgate.plugin.licensing import Activity, Allocator, Claimant, Lease, LicenseInfo, Lost, Pool
from calgate.telemetry.metrics import Metrics


class Slow:
    """An allocator that takes its time, as a store does."""

    def __init__(self) -> None:
        self.licenses = {"demo": LicenseInfo()}
        self.called, self.may_reply = asyncio.Event(), asyncio.Event()
        self.touched: list[Lease] = []
        self.pools_read = 0
        self.settled: asyncio.Queue[tuple[Lease, bool | None]] = asyncio.Queue()

    async def claim(self, license: str, claimant: Claimant, document: str, *, reference: str) -> Lease:
        self.called.set()
        await self.may_reply.wait()
        return Lease(license, "named", claimant, document, "1", provisional=True, reference=reference)

    async def held(self, license: str, claimant: Claimant, document: str) -> Lease:
        return Lease(license, "named", claimant, document, "1", provisional=document == "asked-for")

    async def touch(self, activity: Sequence[Activity]) -> Sequence[Lost]:
        self.called.set()
        await self.may_reply.wait()
        self.touched += [use.lease for use in activity]
        return ()

    async def pools(self, license: str) -> Sequence[Pool]:
        self.pools_read += 1
        return [Pool("session", 6, self.pools_read)]

    async def settle(self, lease: Lease, *, served: bool | None) -> None:
        self.settled.put_nowait((lease, served))


def session_of_alice() -> Session:
    return Session("k", Identity("DEMO", "alice", "ntlm"), "S-1", "DEMO\\alice", "::1", True, 0.0)


async def test_claim_is_given_back_when_its_client_disconnects_meanwhile() -> None:
    allocator = Slow()
    licensing = Licensing(cast(Allocator, allocator), cast(Any, None), {}, Metrics())
    request = SimpleNamespace(target=SimpleNamespace(path="/docs/a"), reference="R", address="::1", ms=1.0)
    session = session_of_alice()
    person = SimpleNamespace(key="S-1", name="DEMO\\alice", groups=frozenset())
    claiming = asyncio.create_task(licensing.claim(cast(Any, request), session, cast(Any, person), "demo", "a"))
    await allocator.called.wait()
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    allocator.may_reply.set()
    lease, served = await asyncio.wait_for(allocator.settled.get(), 20)
    assert (lease.reference, served) == ("R", False)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/qlikview/health", "exempt"),
        ("/QlikView/Health/deep", "exempt"),
        ("/qlikview/healthy/opendoc.htm", "named"),
        ("/qlikview", "named"),
    ],
)
async def test_exempt_path_is_a_folder_in_any_case_and_no_prefix(path: str, kind: str) -> None:
    allocator = Slow()
    allocator.licenses = {"demo": LicenseInfo(exempt_paths=("/qlikview/health",))}
    allocator.may_reply.set()
    licensing = Licensing(cast(Allocator, allocator), cast(Any, None), {}, Metrics())
    request = SimpleNamespace(target=SimpleNamespace(path=path), reference="R", address="::1", ms=1.0)
    person = SimpleNamespace(key="S-1", name="DEMO\\alice", groups=frozenset())
    lease = await licensing.claim(cast(Any, request), session_of_alice(), cast(Any, person), "demo", "a")
    assert lease.kind == kind


async def test_lease_that_is_provisional_for_another_request_is_not_remembered() -> None:
    """The other request may be open on another worker; a use noted here would make the CAL permanent."""
    licensing = Licensing(cast(Allocator, Slow()), cast(Any, None), {}, Metrics())
    session = session_of_alice()
    person = SimpleNamespace(key="S-1", name="DEMO\\alice", groups=frozenset())
    for document in ("asked-for", "had"):
        await licensing.demand_held(session, cast(Any, person), "demo", document)
    assert licensing.known(session, "demo", "asked-for") is None
    assert licensing.known(session, "demo", "had") is not None


async def test_report_that_is_broken_off_as_the_process_ends_is_made_again_whole() -> None:
    allocator = Slow()
    licensing = Licensing(cast(Allocator, allocator), cast(Any, None), {}, Metrics())
    leases = [Lease("demo", "session", Claimant("S-1", "alice", "pc"), "a", str(number)) for number in range(700)]
    for lease in leases:
        licensing.note(lease)
    reporting = asyncio.create_task(licensing.report_once())
    await allocator.called.wait()
    reporting.cancel()
    await asyncio.wait({reporting})
    allocator.may_reply.set()
    allocator.touched.clear()
    await licensing.finish()
    assert allocator.touched == leases


async def test_pools_are_read_from_the_store_every_five_seconds_however_many_pages_look() -> None:
    allocator, now = Slow(), 0.0
    licensing = Licensing(cast(Allocator, allocator), cast(Any, None), {}, Metrics(), clock=lambda: now)
    seen = []
    for now in (1.0, 2.0, 5.9, 6.0, 7.0):  # noqa: B007 - the clock reads it
        seen += [pool.occupied for pool in await licensing.pools("demo")]
    assert seen == [1, 1, 1, 2, 2]
    assert await licensing.pools("another") == ()
    assert allocator.pools_read == 2
