"""Bodies of a gigabyte in both directions, with slow readers: the gateway buffers almost nothing."""

import asyncio

import pytest

from support.gateway_process import DocumentServer, Exchange, Gateway, cookie_of, memory_of, raw

GIGABYTE = 1 << 30
PIECE = b"\0" * (1 << 20)


async def sample(gate: Gateway, samples: list[int]) -> None:
    """Samples the workers' memory every second, beginning now."""
    while True:
        samples.append(memory_of(gate))
        await asyncio.sleep(1)


@pytest.mark.alone
async def test_gigabyte_response_is_not_buffered_for_a_slow_reader(gate: Gateway, server: DocumentServer) -> None:
    async def send(exchange: Exchange) -> None:
        exchange.writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {GIGABYTE}\r\n\r\n".encode())
        for _ in range(GIGABYTE // len(PIECE)):
            exchange.writer.write(PIECE)
            await exchange.writer.drain()

    cookie = await cookie_of(gate, "alice")
    server.behaviour = send
    before = memory_of(gate)
    samples: list[int] = []
    sampling = asyncio.create_task(sample(gate, samples))
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port, limit=1 << 20)
    writer.write(f"GET /big HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    received = 0
    while received < GIGABYTE:
        piece = await reader.read(1 << 20)
        assert piece
        received += len(piece)
        if received % (128 << 20) < len(piece):
            await asyncio.sleep(0.3)  # a slow reader: the rest of the body must wait at the document server
    sampling.cancel()
    writer.close()
    assert received == GIGABYTE
    assert max(samples) - before < 10 << 20, f"{before} -> {samples}"


@pytest.mark.alone
async def test_gigabyte_upload_is_not_buffered_for_a_slow_server(gate: Gateway, server: DocumentServer) -> None:
    arrived = 0

    async def take(exchange: Exchange) -> None:
        nonlocal arrived
        while arrived < GIGABYTE:
            piece = await exchange.reader.read(1 << 20)
            if not piece:
                return
            arrived += len(piece)
            if arrived % (128 << 20) < len(piece):
                await asyncio.sleep(0.3)
        await exchange.answer(b"taken")

    cookie = await cookie_of(gate, "alice")
    server.behaviour = take
    server.reads_body = False
    before = memory_of(gate)
    samples: list[int] = []
    sampling = asyncio.create_task(sample(gate, samples))
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(f"POST /big HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\nContent-Length: {GIGABYTE}\r\n\r\n".encode())
    for _ in range(GIGABYTE // len(PIECE)):
        writer.write(PIECE)
        await writer.drain()
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    sampling.cancel()
    writer.close()
    assert arrived == GIGABYTE
    assert max(samples) - before < 10 << 20, f"{before} -> {samples}"


async def test_chunked_upload_arrives_complete(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(f"POST /up HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for piece in (b"one", b"two" * 1000, b"three"):
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert server.seen[-1].body == b"one" + b"two" * 1000 + b"three"
    assert server.seen[-1].values("transfer-encoding") == ["chunked"]
    assert server.seen[-1].values("content-length") == []
    writer.close()


async def test_response_before_the_end_of_the_upload_is_delivered(gate: Gateway, server: DocumentServer) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(b"too large", status="413 Content Too Large", fields=["Connection: close"])
        exchange.writer.write_eof()
        while await exchange.reader.read(
            1 << 20
        ):  # closing with unread bytes would reset the connection and lose the response
            pass

    cookie = await cookie_of(gate, "alice")
    server.behaviour = refuse
    server.reads_body = False
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(f"POST /up HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\nContent-Length: 50000000\r\n\r\n".encode())
    writer.write(b"x" * 1_000_000)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_concurrent_responses_reach_their_own_requests(gate: Gateway, server: DocumentServer) -> None:
    """Each response sets a new cookie, which is written to the store before the response is forwarded."""

    async def own(exchange: Exchange) -> None:
        number = exchange.path.partition("?")[2]
        await exchange.answer(f"this is for {number}".encode(), fields=[f"Set-Cookie: c{number}=1", f"X-For: {number}"])

    cookie = await cookie_of(gate, "alice")
    server.behaviour = own
    tail = f"HTTP/1.1\r\nHost: g\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n"
    for start in range(0, 200, 40):
        numbers = range(start, start + 40)
        answers = await asyncio.gather(*(raw(gate.port, f"GET /own?{n} {tail}".encode()) for n in numbers))
        for number, answer in zip(numbers, answers, strict=True):
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"X-For: %d\r\n" % number in answer
            assert answer.endswith(b"\r\n\r\nthis is for %d" % number)


async def test_connection_serves_another_request_after_an_early_response(gate: Gateway, server: DocumentServer) -> None:
    """The rest of the upload is read and discarded once, and then the next request is served."""

    async def at_once(exchange: Exchange) -> None:
        await exchange.answer(b"taken", fields=["Date: now"])
        while exchange.path == "/up" and await exchange.reader.read(1 << 20):
            pass

    cookie = await cookie_of(gate, "alice")
    server.behaviour = at_once
    server.reads_body = False
    tail = f" HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\n"
    for size in (100_000, 10 << 20):
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(f"POST /up{tail}Content-Length: {size}\r\n\r\n".encode() + b"half")
        answer = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\ntaken"
        assert await asyncio.wait_for(reader.readexactly(len(answer)), 5) == answer
        writer.write(b"x" * (size - 4) + f"GET /portal{tail}\r\n".encode())
        assert await asyncio.wait_for(reader.readexactly(len(answer)), 5) == answer
        writer.close()
