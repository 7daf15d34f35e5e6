"""Requests and responses that stay open end with their session or CAL."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from calgate.authentication import open_exchanges
from calgate.authentication.open_exchanges import Forwarding, StreamedBody
from calgate.authentication.session import EXPIRED, Session
from calgate.plugin.errors import Forbidden, Refusal, SignInNeeded
from calgate.plugin.identity import Identity
from calgate.plugin.licensing import Claimant, Lease, NoCal
from calgate.upstream.connection import UpstreamConnection
from calgate.upstream.pool import Upstream, UpstreamRequest
from support.gateway_process import document_server

LEASE = Lease("demo", "session", Claimant("S-1", "DEMO\\alice", "pc"), "a", "1")
ENDED = SignInNeeded("the session has ended")


@pytest.fixture
def session() -> Session:
    return Session("k", Identity("DEMO", "alice", "ntlm"), "S-1", "DEMO\\alice", "::1", True, 0.0)


def no_cal(lease: Lease) -> NoCal:
    return NoCal("gone", license=lease.license, document=lease.document, pools=(), code="no-cal-held")


async def forward(session: Session, *, polls: bool, began: asyncio.Event) -> None:
    with Forwarding(session, LEASE, polls=polls):
        began.set()
        await asyncio.sleep(60)


async def forwarding(session: Session, *, polls: bool = False) -> "asyncio.Task[None]":
    began = asyncio.Event()
    task = asyncio.create_task(forward(session, polls=polls, began=began))
    await began.wait()
    return task


async def test_forwarding_is_refused_when_its_session_ends(session: Session) -> None:
    task = await forwarding(session)
    session.end("ended by an administrator", ENDED)
    with pytest.raises(SignInNeeded):
        await task
    assert not session.is_open


async def test_forwarding_is_cancelled_when_its_client_disconnects_as_the_session_ends(session: Session) -> None:
    task = await forwarding(session)
    session.end("ended by an administrator", ENDED)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not session.is_open


async def test_form_that_was_sent_in_time_outlives_the_expiry_of_its_session_and_a_poll_does_not(
    session: Session,
) -> None:
    form, poll = await forwarding(session), await forwarding(session, polls=True)
    session.end(EXPIRED, ENDED)
    with pytest.raises(SignInNeeded):
        await poll
    assert not form.done()
    form.cancel()


async def test_poll_is_refused_when_its_cal_is_lost_and_a_request_that_was_licensed_is_not(session: Session) -> None:
    form, poll = await forwarding(session), await forwarding(session, polls=True)
    session.forget_leases(lambda lease: lease.id == "1", no_cal, "removed")
    with pytest.raises(NoCal):
        await poll
    assert not form.done()
    form.cancel()


async def test_cancelled_poll_closes_its_upstream_connection_though_the_response_has_arrived(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[UpstreamConnection] = []
    close, complete = UpstreamConnection.close, UpstreamConnection.on_message_complete

    def note_close(connection: UpstreamConnection) -> None:
        closed.append(connection)
        close(connection)

    def cancel_as_it_arrives(connection: UpstreamConnection) -> None:
        complete(connection)
        task.cancel()

    async def poll(upstream: Upstream) -> None:
        with Forwarding(session, LEASE, polls=True):
            await upstream.send(UpstreamRequest("GET", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None, chunked=False))

    monkeypatch.setattr(UpstreamConnection, "close", note_close)
    monkeypatch.setattr(UpstreamConnection, "on_message_complete", cancel_as_it_arrives)
    async with document_server() as server, Upstream("127.0.0.1", server.port) as upstream:
        task = asyncio.create_task(poll(upstream))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(closed) == 1


class Body:
    """A response body of two pieces, the second of which never comes."""

    length: int | None = None

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.pieces = [b"one"]

    def take_whole(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        if self.pieces:
            return self.pieces.pop()
        await self.closed.wait()
        raise ConnectionResetError

    def close(self) -> None:
        self.closed.set()


async def never(refuse: Callable[[Refusal], None]) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize("lost", ["session", "CAL"])
async def test_stream_is_reset_when_its_session_or_cal_ends(session: Session, lost: str) -> None:
    aborted, body = asyncio.Event(), Body()
    stream = StreamedBody(body, session, LEASE, aborted.set, never)
    assert await stream.read() == b"one"
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    if lost == "session":
        session.end(EXPIRED, ENDED)
    else:
        session.forget_leases(lambda lease: lease.id == "1", no_cal, "removed")
    assert aborted.is_set()
    with pytest.raises(ConnectionResetError):
        await reading
    assert not session.is_open


async def test_stream_is_reset_when_access_is_refused_meanwhile(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_exchanges, "JUDGED_AFTER", 0.0)

    async def refuse_at_once(refuse: Callable[[Refusal], None]) -> None:
        refuse(Forbidden("left the group"))

    aborted = asyncio.Event()
    stream = StreamedBody(Body(), session, None, aborted.set, refuse_at_once)
    await stream.read()
    await asyncio.wait_for(aborted.wait(), 5)
    assert not session.is_open


async def test_stream_that_is_read_to_its_end_is_forgotten(session: Session) -> None:
    body = Body()
    body.pieces = [b"", b"one"]
    stream = StreamedBody(body, session, LEASE, lambda: None, never)
    assert [await stream.read(), await stream.read()] == [b"one", b""]
    assert not session.is_open


async def test_stream_that_begins_after_its_session_has_ended_is_reset(session: Session) -> None:
    aborted = asyncio.Event()
    stream = StreamedBody(Body(), session, None, aborted.set, never)
    session.end("signed out", ENDED)
    await stream.read()
    assert aborted.is_set()
    assert not session.is_open


@pytest.mark.parametrize(
    ("reason", "outlives_expiry", "is_refused"),
    [("signed out", False, True), ("signed out", True, True), (EXPIRED, False, True), (EXPIRED, True, False)],
)
def test_exchange_that_opens_after_its_session_has_ended_is_refused(
    session: Session, reason: str, outlives_expiry: bool, is_refused: bool
) -> None:
    session.demand_not_ended(outlives_expiry=outlives_expiry)
    session.end(reason, ENDED)
    with pytest.raises(SignInNeeded) if is_refused else contextlib.nullcontext():
        session.demand_not_ended(outlives_expiry=outlives_expiry)
