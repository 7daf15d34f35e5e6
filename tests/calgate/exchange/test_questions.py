"""The path of a request, where it stops halfway."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from calgate.dialect import Use
from calgate.exchange.questions import Questions
from calgate.plugin.licensing import Claimant, Lease


@pytest.mark.parametrize("served", [True, False, None])
@pytest.mark.parametrize(("reference", "polls"), [("R", False), ("R", True), ("", False)])
def test_request_that_claimed_no_cal_returns_none(served: bool | None, reference: str, polls: bool) -> None:
    settled: list[bool | None] = []
    licensing = SimpleNamespace(settle=lambda session, lease, *, served: settled.append(served))
    questions = Questions(*cast(Any, (None, None, licensing, None, None)))
    lease = Lease("demo", "named", Claimant("S-1", "DEMO\\alice", "pc"), "a", provisional=True, reference=reference)
    questions._settle(cast(Any, None), lease, polls=polls, served=served)
    claimed = reference == "R" and not polls
    assert settled == ([served] if served or claimed else [])


@pytest.mark.parametrize(
    ("method", "kind", "renews"),
    [("GET", "open", True), ("POST", "use", True), ("GET", "poll", False), ("HEAD", "open", False)],
)
async def test_cal_is_renewed_by_requests_that_use_the_document_only(method: str, kind: Any, renews: bool) -> None:
    lease = Lease("demo", "session", Claimant("S-1", "DEMO\\alice", "pc"), "a")
    noted: list[Lease] = []
    licensing = SimpleNamespace(known=lambda *_: lease, note=noted.append)
    questions = Questions(*cast(Any, (None, None, licensing, None, None)))
    request, route = SimpleNamespace(method=method), SimpleNamespace(license="demo")
    found = await questions._license(*cast(Any, (request, route, None, None, Use(kind, "a"))))
    assert found is lease
    assert noted == ([lease] if renews else [])
