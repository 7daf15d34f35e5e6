"""The request's path, where it is left in the middle."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from calgate.http.request import Request
from calgate.pipeline import Admission, Pipeline
from calgate.plugin.licensing import Claimant, Lease
from calgate.upstream.forwarder import UpstreamResponse


class UpstreamConnection:
    """A connection to the document server, with a reply that has begun."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


async def test_who_goes_away_as_the_answer_to_his_poll_arrives_leaves_no_connection_in_use() -> None:
    connection = UpstreamConnection()
    arrived = asyncio.Event()

    class Arriving(Pipeline):
        def __init__(self) -> None:
            pass

        async def _forward(self, request: Request, admission: Admission) -> UpstreamResponse:
            arrived.set()
            return cast(UpstreamResponse, SimpleNamespace(connection=connection))

    session = SimpleNamespace(open_polls=set(), ended="")
    admission = SimpleNamespace(signed_in=SimpleNamespace(session=session), lease=None)
    polling = asyncio.create_task(Arriving()._forward_poll(cast(Request, None), cast(Admission, admission)))
    await arrived.wait()
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling
    assert connection.is_closed


@pytest.mark.parametrize("served", [True, False, None])
@pytest.mark.parametrize(("reference", "polls"), [("R", False), ("R", True), ("", False)])
def test_a_request_that_took_no_cal_takes_none_back(served: bool | None, reference: str, polls: bool) -> None:
    told: list[bool | None] = []
    licensing = SimpleNamespace(settle=lambda session, lease, *, served: told.append(served))
    pipeline = Pipeline([], *cast(Any, (None, None, licensing, None, None)))
    lease = Lease("demo", "named", Claimant("S-1", "DEMO\\alice", "pc"), "a", provisional=True, reference=reference)
    pipeline._settle(cast(Any, None), lease, polls=polls, served=served)
    took = reference == "R" and not polls
    assert told == ([served] if served or took else [])
