"""A gateway with everything switched on, for the tests of a whole module or of one test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from support.gateway_process import DocumentServer, Gateway, document_server, gateway, write_settings


@pytest_asyncio.fixture
async def server() -> AsyncIterator[DocumentServer]:
    """A recording document server."""
    async with document_server() as running:
        yield running


@pytest_asyncio.fixture
async def gate(server: DocumentServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway in front of it, with its private store: Named 2, Session 2."""
    async with gateway(write_settings(tmp_path, server.port)) as running:
        yield running
