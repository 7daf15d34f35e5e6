"""The request's path, where it is left in the middle."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from calgate.ask import Ask
from calgate.forwarding import Sent
from calgate.pipeline import Admission, Pipeline


class Wire:
    """A connection to the document server, with a reply that has begun."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


async def test_who_goes_away_as_the_answer_to_his_poll_arrives_leaves_no_connection_in_use() -> None:
    wire = Wire()
    arrived = asyncio.Event()

    class Arriving(Pipeline):
        def __init__(self) -> None:
            pass

        async def _forward(self, ask: Ask, admission: Admission) -> Sent:
            arrived.set()
            return cast(Sent, SimpleNamespace(wire=wire))

    session = SimpleNamespace(open_polls=set(), ended="")
    admission = SimpleNamespace(signed_in=SimpleNamespace(session=session), lease=None)
    polling = asyncio.create_task(Arriving()._forward_poll(cast(Ask, None), cast(Admission, admission)))
    await arrived.wait()
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling
    assert wire.is_closed
