"""The states of a connection to a document server, driven byte by byte without a network."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from calgate.plugin.errors import BadGateway, GatewayTimeout, RequestTimeout
from calgate.upstream.connection import Stale, UpstreamConnection
from calgate.upstream.state import State

REQUEST = b"GET / HTTP/1.1\r\nHost: docs\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
TABLE = set(re.findall(r"^    \| ([A-Z]+) +\| .*? \| ([A-Z]+) +\|$", State.__doc__ or "", re.MULTILINE))


class Transport:
    """Keeps what is written; ends the connection at the next turn of the loop, as a transport does."""

    def __init__(self, protocol: UpstreamConnection) -> None:
        self.protocol: asyncio.Protocol = protocol
        self.written = b""
        self.is_reset = False
        self.reads = True
        self._closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.is_reset = True
        self.close()

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol


class Observed(UpstreamConnection):
    """Notes each change of state, and demands that the table has it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "state" and hasattr(self, "state") and value is not self.state:
            assert (self.state.name, value.name) in TABLE
            seen.add((self.state.name, value.name))
        super().__setattr__(name, value)


seen: set[tuple[str, str]] = set()
idle: list[UpstreamConnection] = []
ended: list[UpstreamConnection] = []


def connect() -> tuple[UpstreamConnection, Transport]:
    idle.clear()
    ended.clear()
    connection = Observed(60, idle.append, ended.append)
    transport = Transport(connection)
    connection.connection_made(cast(asyncio.Transport, transport))
    return connection, transport


def exchange(*pieces: bytes, without_body: bool = False) -> tuple[UpstreamConnection, Transport]:
    """A connection that has sent a request and got these bytes."""
    connection, transport = connect()
    connection.begin(REQUEST, without_body=without_body)
    for piece in pieces:
        connection.data_received(piece)
    return connection, transport


async def result_of(connection: UpstreamConnection) -> bytes:
    """The whole body; raises where the exchange failed, after the head if part of the body had arrived."""
    await connection.head()
    body = b""
    while piece := await connection.read():
        body += piece
    return body


async def test_connection_is_idle_again_once_its_response_is_taken() -> None:
    connection, transport = exchange()
    assert (connection.state, transport.written, connection.reusable) == (State.SENT, REQUEST, False)
    connection.data_received(WHOLE[:10])
    assert connection.state is State.HEAD
    connection.data_received(WHOLE[10:-1])
    await connection.head()
    assert (connection.state, connection.status, connection.length) == (State.BODY, 200, 3)
    assert connection.take_whole() is None
    connection.data_received(WHOLE[-1:])
    assert (connection.state, connection.peek(), idle) == (State.COMPLETE, b"abc", [])
    assert connection.take_whole() == b"abc"
    assert (connection.state, connection.reusable, idle) == (State.IDLE, True, [connection])
    connection.begin(REQUEST, without_body=False)
    assert (connection.status, connection.headers, connection.peek()) == (0, [], b"")


async def test_body_is_read_in_pieces_until_it_is_complete() -> None:
    connection, _ = exchange(WHOLE[:-2])
    assert await connection.read() == b"a"
    connection.data_received(WHOLE[-2:])
    assert await connection.read() == b"bc"
    assert idle == []
    assert await connection.read() == b""
    assert idle == [connection]
    assert (connection.state, await connection.read()) == (State.IDLE, b"")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_response_without_a_body_is_complete_with_its_head(status: bytes) -> None:
    connection, _ = exchange(b"HTTP/1.1 %b\r\n\r\n" % status)
    assert connection.take_whole() == b""
    assert connection.state is State.IDLE


async def test_length_of_a_response_to_head_takes_no_bytes_of_the_next_response() -> None:
    connection, _ = exchange(WHOLE[:-3], without_body=True)
    assert (connection.state, connection.length, connection.take_whole()) == (State.COMPLETE, 3, b"")
    connection.begin(REQUEST, without_body=False)
    connection.data_received(WHOLE)
    assert connection.take_whole() == b"abc"


async def test_informational_responses_are_skipped_up_to_a_number() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
    connection, _ = exchange(early * 8, WHOLE)
    assert (connection.status, connection.headers) == (200, [(b"Content-Length", b"3")])
    connection, _ = exchange(early * 9)
    with pytest.raises(BadGateway, match="1xx"):
        await connection.head()


@pytest.mark.parametrize(
    ("sent", "error"), [(b"", Stale), (b"HTTP/1.1 2", BadGateway), (WHOLE[:-1], BadGateway), (SWITCH, BadGateway)]
)
async def test_exchange_fails_where_the_connection_ends_before_the_response(
    sent: bytes, error: type[Exception]
) -> None:
    connection, _ = exchange(*[sent] if sent else [])
    connection.connection_lost(None)
    assert (connection.state, connection.alive, ended) == (State.FAILED, False, [connection])
    with pytest.raises(error):
        await result_of(connection)


async def test_body_without_a_length_is_complete_with_a_clean_end_and_cut_short_with_a_reset() -> None:
    for reason, state in ((None, State.COMPLETE), (ConnectionResetError(), State.FAILED)):
        connection, _ = exchange(b"HTTP/1.1 200 OK\r\n\r\nabc")
        connection.connection_lost(reason)
        assert connection.state is state
        assert await connection.read() == b"abc"
    with pytest.raises(BadGateway, match="cut short"):
        await connection.read()


async def test_complete_response_can_be_taken_after_the_connection_ended() -> None:
    connection, _ = exchange(WHOLE)
    connection.connection_lost(None)
    assert connection.take_whole() == b"abc"
    assert (connection.state, idle) == (State.CLOSED, [])


@pytest.mark.parametrize("sent", [b"", WHOLE[:10], WHOLE[:-1]])
async def test_deadline_fails_an_exchange_and_resets_its_connection(sent: bytes) -> None:
    connection, transport = exchange(*[sent] if sent else [])
    connection.expire(GatewayTimeout("silent"))
    assert (connection.state, transport.is_reset) == (State.FAILED, True)
    with pytest.raises(GatewayTimeout):
        await result_of(connection)
    await asyncio.sleep(0)
    assert ended == [connection]


@pytest.mark.parametrize(
    "sent",
    [
        *(b"HTTP/2.0 200 OK\r\n\r\n", b"HTTP/1.1 600 ?\r\n\r\n", b"ICY 200 OK\r\n\r\n", b"HTTP/1.1 200 O\x01K\r\n\r\n"),
        *(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
        *(b"HTTP/1.1 103 Early\r\nContent-Length: 1\r\n\r\na", b"HTTP/1.1 101 Switch\r\n\r\n", b"x"),
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 300_000,
    ],
)
async def test_malformed_head_fails_the_exchange(sent: bytes) -> None:
    connection, transport = exchange(sent)
    with pytest.raises(BadGateway):
        await connection.head()
    assert (connection.state, transport.is_reset) == (State.FAILED, True)


async def test_malformed_chunk_fails_the_exchange_after_what_was_read_before_it() -> None:
    connection, _ = exchange(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"0x3\r\nabc\r\n")
    assert await connection.read() == b"abc"
    with pytest.raises(BadGateway):
        await connection.read()


@pytest.mark.parametrize("more", [WHOLE, b"x"])
async def test_bytes_after_a_response_cost_the_connection_and_not_the_response(more: bytes) -> None:
    connection, _ = exchange(WHOLE + more)
    assert connection.take_whole() == b"abc"
    assert (connection.state, idle) == (State.CLOSED, [])


async def test_bytes_on_an_idle_connection_close_it() -> None:
    connection, transport = connect()
    connection.data_received(WHOLE)
    assert (connection.reusable, transport.is_reset) == (False, False)
    await asyncio.sleep(0)
    assert (connection.state, ended) == (State.CLOSED, [connection])


async def test_response_that_says_close_leaves_no_idle_connection() -> None:
    connection, transport = exchange(WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert connection.take_whole() == b"abc"
    assert (connection.state, transport.is_closing(), idle) == (State.CLOSED, True, [])


async def test_slow_reader_pauses_reading_and_the_deadline_until_it_reads() -> None:
    connection, transport = exchange(b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n", b"a" * 300_000)
    assert (transport.reads, connection.deadline) == (False, 0.0)
    assert len(await connection.read()) == 300_000
    assert transport.reads
    assert connection.deadline > 0


async def test_response_that_comes_before_the_end_of_an_upload_costs_the_connection() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"abc"
        await asyncio.Event().wait()

    connection, transport = exchange()
    connection.send(endless(), chunked=True)
    await asyncio.sleep(0)
    assert (transport.written, connection.deadline) == (REQUEST + b"3\r\nabc\r\n", 0.0)
    connection.data_received(WHOLE)
    assert connection.take_whole() == b"abc"
    assert (connection.state, transport.is_reset, idle) == (State.CLOSED, True, [])


async def test_upload_that_fails_fails_the_exchange_with_its_own_error() -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"abc"
        raise RequestTimeout("the client stalled")

    connection, transport = exchange()
    connection.send(stalled(), chunked=False)
    with pytest.raises(RequestTimeout):
        await connection.head()
    assert (connection.state, transport.is_reset) == (State.FAILED, True)


async def test_upgraded_connection_is_handed_over_with_the_bytes_that_came_early() -> None:
    connection, transport = exchange(SWITCH + b"early")
    await connection.head()
    assert (connection.state, connection.status, transport.reads) == (State.UPGRADED, 101, False)
    other = asyncio.Protocol()
    assert connection.hand_over(other) is cast(object, transport)
    assert (connection.after_upgrade, transport.protocol, transport.reads) == (b"early", other, True)
    assert (connection.state, connection.alive, ended) == (State.CLOSED, False, [connection])


async def test_upgraded_connection_that_has_closed_is_not_handed_over() -> None:
    connection, transport = exchange(SWITCH)
    transport.close()
    with pytest.raises(BadGateway):
        connection.hand_over(asyncio.Protocol())


async def test_every_transition_of_the_table_can_happen() -> None:
    seen.clear()
    exchange(WHOLE)[0].take_whole()
    exchange(WHOLE + b"x")[0].take_whole()
    exchange(WHOLE[:-3], without_body=True)
    exchange(SWITCH)[0].hand_over(asyncio.Protocol())
    for sent in (b"", WHOLE[:10], WHOLE[:-1], SWITCH):
        exchange(*[sent] if sent else [])[0].connection_lost(None)
    connect()[0].connection_lost(None)
    assert seen == TABLE
    assert len(TABLE) == 14
