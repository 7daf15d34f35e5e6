"""The channel on which gateway processes send each other events."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict

from redis.asyncio import RedisCluster
from redis.exceptions import RedisError

from calgate.plugin.services import Event
from calgate.store.client import AWAY, Connect

logger = logging.getLogger(__name__)

STORE_RECONNECTED = Event(topic="store-back", subject="")
"""Dispatched when the channel is connected (again): events published in between were missed."""

_QUIET = 5.0  # seconds without a message until the connection is probed, and again until it is closed
_LONGEST_PAUSE = 5.0
_LOST: tuple[type[Exception], ...] = (*AWAY, RedisError)


class EventChannel:
    """Keeps a subscription; `is_up` is set while it is connected."""

    def __init__(self, connect: Connect, channel: str) -> None:
        self.is_up = asyncio.Event()
        self._connect = connect
        self._channel = channel
        self._listeners: list[Callable[[Event], None]] = []

    def add(self, on_event: Callable[[Event], None]) -> None:
        self._listeners.append(on_event)

    async def listen(self) -> None:
        """Never returns: reconnects after a loss, with growing pauses of up to five seconds."""
        pause = 0.05
        while True:
            try:
                await self._listen_once()
            except _LOST as error:
                if self.is_up.is_set() or pause <= 0.05:
                    logger.warning("store: not responding; reconnecting until it does: %s", error)
            if self.is_up.is_set():
                pause = 0.05
                self.is_up.clear()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _listen_once(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(self._connect())
            if isinstance(client, RedisCluster):
                await client.initialize()  # its pubsub does not
            pubsub = await stack.enter_async_context(client.pubsub())
            await pubsub.subscribe(self._channel)
            while True:
                message = await pubsub.get_message(timeout=_QUIET)
                if message is None:
                    await pubsub.ping()
                    message = await pubsub.get_message(timeout=_QUIET)
                    if message is None:
                        raise TimeoutError("the event channel does not respond")
                if message["type"] == "subscribe":
                    logger.info("store: connected")
                    self.is_up.set()
                    self.dispatch(STORE_RECONNECTED)
                elif message["type"] == "message":
                    self._on_event(message["data"])

    def _on_event(self, data: bytes) -> None:
        try:
            message = json.loads(data)
            event = Event(topic=str(message["topic"]), subject=str(message["subject"]), reason=str(message["reason"]))
        except (ValueError, KeyError, TypeError):
            logger.warning("store: skipped a malformed message on the event channel")  # from another version or program
            return
        self.dispatch(event)

    def dispatch(self, event: Event) -> None:
        """Calls the listeners of this process."""
        for on_event in self._listeners:
            try:
                on_event(event)
            except Exception:  # a bug in one listener must not stop the others
                logger.exception("store: a listener failed on the event %s", event.topic)


def encode(event: Event) -> str:
    """Returns the event as it is sent over the channel."""
    return json.dumps(asdict(event))
