"""The store of sessions and CALs: Redis or Valkey, shared by every gateway process, or a private server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from calgate.plugin.tasks import start_task
from calgate.store.client import connector
from calgate.store.connection import RedisStore
from calgate.store.embedded import EmbeddedFaultError, hand_over, private_server
from calgate.store.events import EventChannel
from calgate.store.server_binary import NoServerError
from calgate.store.settings import StoreSection
from calgate.telemetry.metrics import Metrics

__all__ = ["EmbeddedFaultError", "NoServerError", "RedisStore", "StoreSection", "hand_over", "open_store"]

_WAIT_AT_START = 2.0  # seconds: the gateway also starts when the store is unreachable


@contextlib.asynccontextmanager
async def open_store(
    section: StoreSection, state_dir: Path, metrics: Metrics | None = None
) -> AsyncIterator[RedisStore]:
    """Opens the connection, and starts the private server if the section names no other. Calls are counted.

    Also opens when the store does not respond, and recovers by itself. Raises NoServerError or EmbeddedFaultError, with
    a sentence for the administrator, if the private server cannot be started.
    """
    async with contextlib.AsyncExitStack() as stack:
        socket = await stack.enter_async_context(private_server(state_dir)) if section.embedded else None
        connect = connector(section, socket)
        event = EventChannel(lambda: connect(connections=1, retries=0), f"{section.prefix}:news")
        redis = await stack.enter_async_context(connect())
        store = RedisStore(
            redis,
            event,
            metrics or Metrics(),
            prefix=section.prefix,
            replicas=section.replicas,
            audit_keep=section.audit_keep,
        )
        stack.push_async_callback(store.finish)
        listening = start_task(event.listen(), "store: events")
        stack.push_async_callback(_cancel, listening)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.is_up.wait(), _WAIT_AT_START)
        yield store


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancels a task until it has ended: redis-py's timeouts swallow a cancellation that coincides with a reply."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.2)
