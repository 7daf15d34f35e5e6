"""Clients that send requests without a pause, and counts of the outcomes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from support.gateway_process import Gateway, raw


@dataclass
class Load:
    """Counts the requests of clients that send one after the other, each on a new connection."""

    succeeded: int = 0
    failed: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def load(gate: Gateway, cookie: str, clients: int = 8, *, pause: float = 0.01) -> AsyncIterator[Load]:
    counted = Load()
    stop = asyncio.Event()

    async def client() -> None:
        request = f"GET /portal HTTP/1.1\r\nHost: g\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n".encode()
        while not stop.is_set():
            try:
                answer = await raw(gate.port, request, within=20)
            except OSError as error:
                counted.failed.append(str(error))
                continue
            if answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"</h1>"):
                counted.succeeded += 1
            else:
                counted.failed.append(answer[:60].decode("latin-1") or "an empty response")
            await asyncio.sleep(pause)

    clients_ = [asyncio.create_task(client()) for _ in range(clients)]
    try:
        yield counted
    finally:
        stop.set()
        await asyncio.gather(*clients_)
