"""Makes redis-py clients: of one server, through Sentinels, or of a Cluster."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from redis import exceptions as fault
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from calgate.store.settings import StoreSection

Client = Redis | RedisCluster
AWAY: tuple[type[Exception], ...] = (
    *(fault.ConnectionError, fault.TimeoutError, fault.ClusterError, fault.SlotNotCoveredError, OSError, TimeoutError),
    *(fault.ReadOnlyError, fault.MasterDownError, fault.OutOfMemoryError, fault.NoPermissionError, fault.MovedError),
    *(fault.RedisClusterException, KeyError),  # KeyError: redis-py's, for a slot that no server has now
)
"""What redis-py raises if the store does not serve."""

Connect = Callable[..., contextlib.AbstractAsyncContextManager[Client]]

REPLY_WITHIN = 3.0
"""Seconds, after which a server that has not replied counts as lost."""

_CONNECT_WITHIN = 1.0


def connector(section: StoreSection, socket: str | None) -> Connect:
    """Returns a maker of clients for the section's store; `socket` is the private server's.

    A command on a lost connection is sent once more: the server may have restarted since, and every function is
    idempotent. After a timeout it is not, or a frozen server would cost two timeouts.
    """

    @contextlib.asynccontextmanager
    async def connect(*, connections: int = 32, retries: int = 1) -> AsyncIterator[Client]:
        common: dict[str, Any] = {
            "socket_timeout": REPLY_WITHIN,
            "socket_connect_timeout": _CONNECT_WITHIN,
            "protocol": 2,
            "retry": Retry(NoBackoff(), retries, supported_errors=(fault.ConnectionError,)),
        }
        if section.sentinel or section.cluster:
            common |= {"username": section.username, "password": section.password and section.password.reveal()}
            common |= {"ssl": section.tls}
        if section.cluster:
            nodes = [ClusterNode(host, port) for host, port in _addresses(section.cluster)]
            common["retry"] = Retry(
                NoBackoff(), 3 * retries
            )  # each retry also looks up again which server has the slot
            client: Client = RedisCluster(
                startup_nodes=nodes, max_connections=connections + 8, require_full_coverage=False, **common
            )
            sentinel_clients: Sequence[Redis] = ()
        elif section.sentinel:
            sentinels = _Sentinels(_addresses(section.sentinel))
            client, sentinel_clients = sentinels.master_for(section.service, **common), tuple(sentinels.sentinels)
        else:
            url = section.url or f"unix://{socket}"
            pool = BlockingConnectionPool.from_url(url, max_connections=connections, timeout=REPLY_WITHIN, **common)
            client, sentinel_clients = Redis.from_pool(pool), ()
        try:
            yield client
        finally:
            for each in (client, *sentinel_clients):
                await each.aclose()

    return connect


class _Sentinels(Sentinel):
    """One query at a time: redis-py moves the Sentinel that replied to the front, and two at once lose another."""

    def __init__(self, addresses: Sequence[tuple[str, int]]) -> None:
        quick = {"socket_timeout": _CONNECT_WITHIN, "socket_connect_timeout": _CONNECT_WITHIN, "protocol": 2}
        super().__init__(addresses, sentinel_kwargs=quick | {"retry": Retry(NoBackoff(), 0)})  # type: ignore[no-untyped-call]
        self._one_at_a_time = asyncio.Lock()

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        async with self._one_at_a_time:
            address: tuple[str, int] = await super().discover_master(service_name)
            return address


@contextlib.asynccontextmanager
async def held_connection(client: Client, key: str) -> AsyncIterator[AbstractConnection]:
    """Yields one connection to the primary that has the key, for commands that must follow each other on it."""
    if isinstance(client, RedisCluster):
        await client.initialize()
        node = client.get_node_from_key(key)
        assert node is not None
        connection: AbstractConnection = node.acquire_connection()
        release = _releases(node, connection)
    else:
        connection = await client.connection_pool.get_connection()
        release = _releases(client.connection_pool, connection)
    try:
        yield connection
    except BaseException:
        await connection.disconnect()  # a reply may still be due on it
        raise
    finally:
        await release()


def _releases(owner: Any, connection: AbstractConnection) -> Callable[[], Any]:
    async def release() -> None:
        released = owner.release(connection)
        if released is not None:
            await released

    return release


def _addresses(texts: Sequence[str]) -> list[tuple[str, int]]:
    return [(host.strip("[]"), int(port)) for host, _, port in (text.rpartition(":") for text in texts)]
