"""A gateway behind another program that runs with an example from `deploy/`."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from support.gateway_process import Gateway


@dataclass
class Site:
    """A gateway behind a proxy."""

    gate: Gateway
    url: str  # the proxy's

    @property
    def session(self) -> aiohttp.ClientSession:
        """A client that accepts any certificate of the proxy."""
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting))


def replaced(example: Path, places: Mapping[str, str]) -> str:
    text = example.read_text(encoding="utf-8")
    for old, new in places.items():
        assert old in text, f"{example.name} has no {old!r} any more"
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def running(command: list[str], site: Site) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until_it_answers(site)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def until_it_answers(site: Site) -> None:
    async with asyncio.timeout(15), site.session as client:
        while True:
            try:
                async with client.get(f"{site.url}/_calgate/health") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
