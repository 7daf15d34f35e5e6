"""The channel on which every gateway process hears at once what another has done."""

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
"""Told when the channel stands (again): whatever was published in between was missed."""

_QUIET = 5.0  # seconds without a word until the connection is tried, and again until it is given up
_LONGEST_PAUSE = 5.0
_LOST: tuple[type[Exception], ...] = (*AWAY, RedisError)


class EventChannel:
    """Subscribes for ever; `is_up` says whether the subscription stands right now."""

    def __init__(self, connect: Connect, channel: str) -> None:
        self.is_up = asyncio.Event()
        self._connect = connect
        self._channel = channel
        self._hearers: list[Callable[[Event], None]] = []

    def add(self, on_event: Callable[[Event], None]) -> None:
        self._hearers.append(on_event)

    async def listen(self) -> None:
        """Never returns: a lost connection is sought again, slower and slower up to every five seconds."""
        pause = 0.05
        while True:
            try:
                await self._listen_once()
            except _LOST as error:
                if self.is_up.is_set() or pause <= 0.05:
                    logger.warning("the store does not answer: %s", error)
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
                        raise TimeoutError("the news connection is dead")
                if message["type"] == "subscribe":
                    logger.info("the store answers")
                    self.is_up.set()
                    self.tell(STORE_RECONNECTED)
                elif message["type"] == "message":
                    self._on_event(message["data"])

    def _on_event(self, data: bytes) -> None:
        try:
            said = json.loads(data)
            event = Event(topic=str(said["topic"]), subject=str(said["subject"]), reason=str(said["reason"]))
        except (ValueError, KeyError, TypeError):
            logger.warning("news that cannot be read were skipped")  # another version's, or a stranger's
            return
        self.tell(event)

    def tell(self, event: Event) -> None:
        """To the listeners of this process."""
        for on_event in self._hearers:
            try:
                on_event(event)
            except Exception:  # one listener's bug must not make the others deaf
                logger.exception("a listener failed on news of %s", event.topic)


def encode(event: Event) -> str:
    """As it goes over the channel."""
    return json.dumps(asdict(event))
