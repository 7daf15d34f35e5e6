"""What is done with Redis or Valkey: calls functions, publishes events, and raises Unavailable for every failure."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any

from redis import exceptions as fault
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection

from calgate.plugin.errors import Unavailable
from calgate.plugin.services import Event
from calgate.plugin.values import as_text
from calgate.store.client import AWAY, REPLY_WITHIN, Client, held_connection
from calgate.store.events import STORE_RECONNECTED, EventChannel, encode
from calgate.store.move import marker_of
from calgate.store.shared_connection import Command, SharedConnection
from calgate.telemetry.metrics import Metrics, operation

_ACKNOWLEDGED_WITHIN = 1000  # milliseconds
_RELOADS = 5  # loading and calling again, in case the functions are flushed in between
_CALL_WITHIN = 4.0  # seconds, including the wait for a connection; less than a browser waits
_SCANNED = 500  # keys that one SCAN looks at
_NOT_FOUND = "Function not found"  # the server's reply to a call whose library it does not have
_AWAY_REPLIES = ("OOM", "MISCONF", "NOREPLICAS", "BUSY", "UNBLOCKED")  # error replies that redis-py has no class for


_FUNCTION = re.compile(r"register_function\W+(?:function_name\s*=\s*)?(VERSION \.\. )?'([a-z0-9_]+)'")


class RedisStore:
    """The `calgate.plugin.Store` over redis-py."""

    def __init__(
        self,
        redis: Client,
        event: EventChannel,
        metrics: Metrics,
        *,
        prefix: str,
        replicas: int,
        audit_keep: float,
    ) -> None:
        self.prefix = prefix
        self.replicas = replicas
        self.audit_keep = audit_keep
        self._redis = redis
        # None for a Cluster, where each call goes to the server that has its keys
        self._shared = SharedConnection(redis.connection_pool, REPLY_WITHIN) if isinstance(redis, Redis) else None
        self._events = event
        self._metrics = metrics
        self._libraries: dict[str, str] = {}
        self._loaded: set[str] = set()
        self._was_away = False
        self._under_way: set[asyncio.Future[Any]] = set()

    @property
    def redis(self) -> Client:
        return self._redis

    @property
    def ready(self) -> bool:
        """Whether the store responded at the last probe, a few seconds ago at most."""
        return self._events.is_up.is_set()

    async def ping(self) -> None:
        """Raises Unavailable if the store does not respond."""
        await self._counted("ping", self._redis.ping())

    def library(self, name: str, source: str) -> None:
        self._libraries[name] = source
        for is_prefixed, function in _FUNCTION.findall(source):
            self._metrics.expect_calls("store", operation(f"{name}_{function}" if is_prefixed else function))

    async def call(
        self,
        function: str,
        keys: Sequence[str],
        args: Sequence[str | int | float | bytes] = (),
        *,
        read_only: bool = False,
        lasting: Callable[[Any], bool] | None = None,
    ) -> Any:
        """Calls a function; completes even if the caller is cancelled."""
        command = ("FCALL_RO" if read_only else "FCALL", function, len(keys), *keys, *args)
        called = operation(function)
        began = perf_counter()
        if lasting is not None and self.replicas:
            work = self._with_library(lambda: self._acknowledged(command, keys[0], lasting))
            return await asyncio.shield(self._in_background(called, work, began))
        reply = self._begin(command)
        if reply is None:
            work = self._with_library(lambda: self._send(command))
            return await asyncio.shield(self._in_background(called, work, began))
        try:
            value = await asyncio.shield(reply)
        except asyncio.CancelledError:
            self._in_background(called, self._completed(command, reply), began)
            raise
        except fault.RedisError:
            return await asyncio.shield(self._in_background(called, self._completed(command, reply), began))
        self._metrics.called("store", called, "ok", perf_counter() - began)
        self._note_served()
        return value

    async def execute(self, *command: str | int | float | bytes) -> Any:
        """Executes one command and returns the reply as redis-py parses it. Raises Unavailable."""
        return await self._counted(operation(str(command[0])), self._execute(*command))

    async def execute_all(self, commands: Sequence[Sequence[str | int | float | bytes]]) -> Sequence[Any]:
        """Executes commands in one round trip (in a Cluster one for each server) and returns their replies in order."""
        if not commands:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: Sequence[Any] = await self._counted(operation(str(commands[0][0])), pipeline.execute())
        return replies

    async def scan(self, pattern: str) -> AsyncIterator[str]:
        """Yields every key that matches. Raises Unavailable.

        Each round trip has its own timeout, and the whole has none: a store that others use, too, has millions of keys.
        """
        try:
            async for key in self._redis.scan_iter(match=pattern, count=_SCANNED):
                yield as_text(key)
        except AWAY as error:
            raise self._away(error) from error

    async def publish(self, event: Event) -> None:
        await self._counted("publish", self._redis.publish(f"{self.prefix}:news", encode(event)))

    def listen(self, on_event: Callable[[Event], None]) -> None:
        self._events.add(on_event)

    async def finish(self) -> None:
        """Waits for calls, also those whose callers were cancelled, and closes the connection for calls."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        if self._shared is not None:
            await self._shared.aclose()

    def _begin(self, command: Command) -> "asyncio.Future[Any] | None":
        """Sends a call at once; None if something has to be awaited first."""
        if self._shared is None or len(self._loaded) < len(self._libraries):
            return None
        reply = self._shared.begin(command)
        if reply is not None:
            self._keep(reply)
        return reply

    async def _send(self, command: Command, *, retries: int = 1) -> Any:
        if self._shared is None:
            return await self._execute(*command)
        return await self._shared.call(command, retries=retries)

    def _in_background(self, called: str, work: Coroutine[Any, Any, Any], began: float) -> "asyncio.Task[Any]":
        """Starts a call, or goes on with one that has begun, which `finish` waits for."""
        task = asyncio.create_task(self._counted(called, work, began))
        self._keep(task)
        return task

    def _keep(self, call: "asyncio.Future[Any]") -> None:
        self._under_way.add(call)
        call.add_done_callback(self._forget)

    def _forget(self, call: "asyncio.Future[Any]") -> None:
        self._under_way.discard(call)
        if not call.cancelled():
            call.exception()  # its caller may have been cancelled: asyncio would report that nobody retrieved it

    async def _completed(self, command: Command, reply: "asyncio.Future[Any]") -> Any:
        """Returns a reply that is due. Sends the call again if its connection or the functions were lost meanwhile."""
        try:
            return await reply
        except (fault.ConnectionError, fault.ReadOnlyError):
            pass
        except fault.ResponseError as error:
            if _NOT_FOUND not in str(error):
                raise
        return await self._with_library(lambda: self._send(command, retries=0))

    async def _with_library(self, work: Callable[[], Awaitable[Any]]) -> Any:
        if len(self._loaded) < len(self._libraries):
            with contextlib.suppress(fault.ReadOnlyError):  # a replica has the libraries from its primary
                await self._load(set(self._libraries) - self._loaded)
        for _ in range(_RELOADS):
            try:
                return await work()
            except fault.ResponseError as error:
                if _NOT_FOUND not in str(error):
                    raise
            await self._load(set(self._libraries))  # after a FUNCTION FLUSH, or a failover to a server without them
        raise Unavailable("the store loses the functions that are loaded into it")

    async def _acknowledged(self, command: Sequence[Any], key: str, lasting: Callable[[Any], bool]) -> Any:
        """Sends the command and WAIT on one connection: WAIT only covers the writes of its own connection.

        (Through a pool it confirmed writes that a frozen replica never had.) A repeated call waits again.
        """
        try:
            async with held_connection(self._redis, key) as connection:
                reply = await _send(connection, command)
                if lasting(reply):
                    acknowledged = await _send(connection, ("WAIT", self.replicas, _ACKNOWLEDGED_WITHIN))
                    if acknowledged < self.replicas:
                        raise Unavailable(f"{acknowledged} of {self.replicas} replicas have acknowledged the grant")
                return reply
        except (fault.MovedError, fault.ConnectionError, fault.TimeoutError):
            if isinstance(self._redis, RedisCluster):
                await self._redis.nodes_manager.initialize()  # another server has the slot now
            raise

    async def _execute(self, *command: str | int | float | bytes) -> Any:
        return await self._redis.execute_command(*command)

    async def _load(self, names: set[str]) -> None:
        """Loads with REPLACE: the server may have an older text under the same name."""
        if await self._redis.exists(marker_of(self.prefix)):
            raise Unavailable(
                "the store has what an interrupted `calgate store move` left; repeat it with --apply --restart, or set"
                " [store] to the store from which it moved"
            )
        everywhere = {"target_nodes": RedisCluster.PRIMARIES} if isinstance(self._redis, RedisCluster) else {}
        for name in sorted(names):
            load = ("FUNCTION LOAD", "REPLACE", self._libraries[name])
            await self._redis.execute_command(*load, **everywhere)
        self._loaded |= names

    async def _counted(self, called: str, work: Awaitable[Any], began: float | None = None) -> Any:
        """`began`: when the call began, by `perf_counter`; None: now."""
        began, outcome = perf_counter() if began is None else began, "error"
        try:
            reply = await self._bounded(work, _CALL_WITHIN + began - perf_counter())
            outcome = "ok"
        except Unavailable:
            outcome = "unavailable"
            raise
        finally:
            self._metrics.called("store", called, outcome, perf_counter() - began)
        return reply

    async def _bounded(self, work: Awaitable[Any], within: float) -> Any:
        try:
            async with asyncio.timeout(within):
                reply = await work
        except AWAY as error:
            raise self._away(error) from error
        except fault.ResponseError as error:
            if str(error).startswith(_AWAY_REPLIES):
                self._was_away = True
                raise Unavailable(f"the store does not serve: {error}") from error
            raise
        self._note_served()
        return reply

    def _note_served(self) -> None:
        if self._was_away:
            self._was_away = False
            self._events.dispatch(STORE_RECONNECTED)

    def _away(self, error: Exception) -> Unavailable:
        self._was_away = True
        return Unavailable(f"the store does not respond: {error or type(error).__name__}")


async def _send(connection: AbstractConnection, command: Sequence[Any]) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()
