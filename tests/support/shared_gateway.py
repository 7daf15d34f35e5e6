"""One gateway for all tests of a module; only for tests that leave no state behind."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.gateway_process import DocumentServer, Gateway, answer_plainly, document_server, gateway, write_settings


@pytest.fixture
def server(shared_server: DocumentServer) -> DocumentServer:
    """Resets the module's document server and returns it."""
    shared_server.behaviour = answer_plainly
    shared_server.reads_body = True
    shared_server.seen.clear()
    return shared_server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server() -> AsyncIterator[DocumentServer]:
    """Starts the document server of the module."""
    async with document_server() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(shared_server: DocumentServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Starts the gateway of the module."""
    async with gateway(write_settings(tmp_path_factory.mktemp("shared"), shared_server.port)) as running:
        yield running
