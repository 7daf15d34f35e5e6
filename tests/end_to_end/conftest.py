"""A gateway process with a document server, started for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from support.gateway_process import DocumentServer, Gateway, document_server, gateway, write_settings


@pytest_asyncio.fixture
async def server() -> AsyncIterator[DocumentServer]:
    """Starts a recording document server."""
    async with document_server() as running:
        yield running


@pytest_asyncio.fixture
async def gate(server: DocumentServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Starts a gateway for it, with its private store: two Named CALs, two Session CALs."""
    async with gateway(write_settings(tmp_path, server.port)) as running:
        yield running
