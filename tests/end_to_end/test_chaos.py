"""Network faults: resets, vanished clients, slow clients, unfinished handshakes."""

import asyncio
import contextlib
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from support.gateway_process import (
    DocumentServer,
    Exchange,
    Gateway,
    NtlmClient,
    cookie_of,
    curl,
    gateway,
    memory_of,
    raw,
    workers_of,
    write_settings,
)
from support.load import load
from support.waiting import until

REPLY = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
HALF_OPEN = 2000


async def test_response_reset_at_any_byte_is_never_complete(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    request = f"GET /cut HTTP/1.1\r\nHost: g\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n".encode()

    for cut in range(len(REPLY)):

        async def cut_short(exchange: Exchange, cut: int = cut) -> None:
            exchange.writer.write(REPLY[:cut])
            await exchange.writer.drain()
            if cut % 2:
                exchange.writer.transport.abort()
            exchange.writer.close()

        server.behaviour = cut_short
        answer = await raw(gate.port, request)
        whole = answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"0\r\n\r\n")
        assert not whole, (cut, answer)
        assert not answer or answer.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 200 ")), (cut, answer)
    server.behaviour = Exchange.answer
    assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status == 200


async def test_disconnected_clients_leave_nothing_behind(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")

    async def endless(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            exchange.writer.write(b"x" * 65536)
            await exchange.writer.drain()

    server.behaviour = endless
    for number in range(30):
        _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        upload = "Content-Length: 1000000\r\n" if number % 2 else ""
        method = "POST" if number % 2 else "GET"
        writer.write(f"{method} /endless HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\n{upload}\r\n".encode() + b"half")
        await asyncio.sleep(0.02)
        writer.transport.abort()
    await until(lambda: not server.connections or all(task.done() for task in server.connections), 20)
    server.behaviour = Exchange.answer
    assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status == 200


@pytest.mark.alone
async def test_two_thousand_unfinished_handshakes_delay_nobody_and_are_freed(gate: Gateway) -> None:
    client = NtlmClient("alice")
    first = f"GET / HTTP/1.1\r\nHost: g\r\nAuthorization: NTLM {client.first()}\r\n\r\n".encode()
    before = memory_of(gate)
    open_ones = []
    for _ in range(HALF_OPEN // 50):
        batch = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", gate.port) for _ in range(50)))
        for reader, writer in batch:
            writer.write(first)
            open_ones.append((reader, writer))
        await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in batch))
    held = memory_of(gate) - before
    assert held < HALF_OPEN * 50_000, f"{held / HALF_OPEN:.0f} bytes each"
    assert (await curl(f"{gate.url}/portal", user="alice")).status == 200
    for _, writer in open_ones:
        writer.transport.abort()
    await asyncio.sleep(1)
    again = [await curl(f"{gate.url}/portal", user="bob") for _ in range(4)]
    assert [reply.status for reply in again] == [200] * 4


@pytest.mark.alone
async def test_slow_clients_do_not_delay_others(gate: Gateway) -> None:
    """Heads and bodies that arrive byte by byte (slowloris) occupy one connection each and delay nobody else."""
    cookie = await cookie_of(gate, "alice")
    stop = asyncio.Event()

    async def send_slowly(start: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(start)
        while not stop.is_set():
            writer.write(b"x")
            await asyncio.sleep(0.2)
        writer.transport.abort()

    head = b"GET / HTTP/1.1\r\nHost: g\r\nX-Slow: "
    body = f"POST /up HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\nContent-Length: 100000\r\n\r\n".encode()
    slow_clients = [asyncio.create_task(send_slowly(start)) for start in (head, body) for _ in range(100)]
    await asyncio.sleep(0.5)
    for _ in range(10):
        reply = await asyncio.wait_for(curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}"), 5)
        assert reply.status == 200
    stop.set()
    await asyncio.gather(*slow_clients)


@pytest.mark.parametrize("times", [5, pytest.param(60, marks=pytest.mark.long)])
async def test_reload_each_second_under_load_fails_no_request(
    server: DocumentServer, tmp_path: Path, times: int
) -> None:
    async with gateway(write_settings(tmp_path, server.port, listen="workers = 2")) as gate:
        cookie = await cookie_of(gate, "alice")
        async with load(gate, cookie, clients=4) as counted:
            await until(lambda: counted.succeeded > 20)
            for _ in range(times):
                gate.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(1)
            taken_over = [line for line in gate.decisions() if line["event"] == "settings reloaded"]
            await until(lambda: any(line["event"] == "settings reloaded" for line in gate.decisions()))
        assert counted.failed == []
        assert counted.succeeded > 20 + times
        assert len(taken_over) <= times


async def test_killed_worker_is_always_replaced(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_settings(tmp_path, server.port, listen="workers = 1")) as gate:
        cookie = await cookie_of(gate, "alice")

        def is_replaced(victim: int) -> bool:
            return workers_of(gate) not in ([], [victim])

        for _ in range(3):
            (victim,) = workers_of(gate)
            os.kill(victim, signal.SIGKILL)
            await until(partial(is_replaced, victim))
            with contextlib.suppress(TimeoutError):
                reply = await asyncio.wait_for(curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}"), 20)
            assert reply.status == 200, "the new worker serves the connections that waited in the parent's socket"
