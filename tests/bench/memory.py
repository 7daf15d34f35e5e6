"""The memory of an idle kept connection, plain and over TLS, after one signed-in request on each."""

import asyncio
import contextlib
import resource
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.results import Result
from end_to_end.test_run import certificate
from support.gateway_process import Gateway, cookie_of, curl, document_server, gateway, workers_of, write_settings

PLAIN, TLS = 10_000, 2_000
AT_ONCE = 100


def measure() -> Iterator[Result]:
    """Opens connections from several loopback addresses, sends a request on each, and measures the worker."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield Result(f"memory: idle connection, plain, of {PLAIN}", asyncio.run(_cost(PLAIN, tls=False)), "KB", goal=20)
        yield Result(f"memory: idle connection, TLS, of {TLS}", asyncio.run(_cost(TLS, tls=True)), "KB", goal=50)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _cost(count: int, *, tls: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        listen, context = "", None
        cookie_options: tuple[str, ...] = ()
        if tls:
            pem, key = certificate(here)
            listen = f'tls = {{ certificate = "{pem}", key = "{key}" }}'
            context = ssl.create_default_context(cafile=pem)
            cookie_options = ("--cacert", str(pem))
        async with document_server() as server, gateway(write_settings(here, server.port, listen=listen)) as gate:
            cookie = await _cookie(gate, cookie_options)
            return await _open(gate, count, cookie, context)


async def _cookie(gate: Gateway, options: tuple[str, ...]) -> str:
    if not options:
        return await cookie_of(gate, "alice")
    reply = await curl(f"{gate.url}/portal", *options, user="alice")
    return reply.values("set-cookie")[0].partition(";")[0]


async def _open(gate: Gateway, count: int, cookie: str, context: ssl.SSLContext | None) -> float:
    request = f"GET /portal HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\n\r\n".encode()
    (worker,) = workers_of(gate)

    async def one(number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        source = (f"127.0.{1 + number // 5000}.1", 0)
        name = "127.0.0.1" if context else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", gate.port, ssl=context, server_hostname=name, local_addr=source
        )
        writer.write(request)
        await reader.readuntil(b"</h1>")
        return reader, writer

    kept = [await one(number) for number in range(AT_ONCE)]  # the first connections also make what all share
    before = _resident(worker)
    for start in range(AT_ONCE, count, AT_ONCE):
        kept += await asyncio.gather(*(one(number) for number in range(start, start + AT_ONCE)))
    await asyncio.sleep(1)
    cost = (_resident(worker) - before) / (count - AT_ONCE) / 1024
    for _, writer in kept:
        with contextlib.suppress(OSError):
            writer.transport.abort()
    return cost


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024
