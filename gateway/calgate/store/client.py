"""redis-py clients as the store wants them: to one server, through Sentinels, or to a Cluster."""

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
    *(fault.RedisClusterException, KeyError),  # KeyError: what redis-py says of a slot that no server has right now
)
"""What redis-py raises where the store does not serve."""

Connect = Callable[..., contextlib.AbstractAsyncContextManager[Client]]

_ANSWER_WITHIN = 3.0
_CONNECT_WITHIN = 1.0


def connector(section: StoreSection, socket: str | None) -> Connect:
    """Makes clients for the store of the section; `socket` is the private server's.

    A lost connection is tried once more (the server may have been started again since it was last used; every function
    is idempotent); a timeout is not, for a frozen server would be waited for twice.
    """

    @contextlib.asynccontextmanager
    async def connect(*, connections: int = 32, retries: int = 1) -> AsyncIterator[Client]:
        common: dict[str, Any] = {
            "socket_timeout": _ANSWER_WITHIN,
            "socket_connect_timeout": _CONNECT_WITHIN,
            "protocol": 2,
            "retry": Retry(NoBackoff(), retries, supported_errors=(fault.ConnectionError,)),
        }
        if section.sentinel or section.cluster:
            common |= {"username": section.username, "password": section.password and section.password.reveal()}
            common |= {"ssl": section.tls}
        if section.cluster:
            nodes = [ClusterNode(host, port) for host, port in _addresses(section.cluster)]
            common["retry"] = Retry(NoBackoff(), 3 * retries)  # each also asks anew which server has the slot
            client: Client = RedisCluster(
                startup_nodes=nodes, max_connections=connections + 8, require_full_coverage=False, **common
            )
            asked: Sequence[Redis] = ()
        elif section.sentinel:
            sentinels = _Sentinels(_addresses(section.sentinel))
            client, asked = sentinels.master_for(section.service, **common), tuple(sentinels.sentinels)
        else:
            url = section.url or f"unix://{socket}"
            pool = BlockingConnectionPool.from_url(url, max_connections=connections, timeout=_ANSWER_WITHIN, **common)
            client, asked = Redis.from_pool(pool), ()
        try:
            yield client
        finally:
            for each in (client, *asked):
                await each.aclose()

    return connect


class _Sentinels(Sentinel):
    """Asked one at a time: redis-py puts the one that answered first, and two at once lose another from its list."""

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
    """One connection to the primary that has the key, for commands that must follow each other on it."""
    if isinstance(client, RedisCluster):
        await client.initialize()
        node = client.get_node_from_key(key)
        assert node is not None
        connection: AbstractConnection = node.acquire_connection()
        give_back = _releases(node, connection)
    else:
        connection = await client.connection_pool.get_connection()
        give_back = _releases(client.connection_pool, connection)
    try:
        yield connection
    except BaseException:
        await connection.disconnect()  # half a conversation may be in it
        raise
    finally:
        await give_back()


def _releases(owner: Any, connection: AbstractConnection) -> Callable[[], Any]:
    async def give_back() -> None:
        released = owner.release(connection)
        if released is not None:
            await released

    return give_back


def _addresses(texts: Sequence[str]) -> list[tuple[str, int]]:
    return [(host.strip("[]"), int(port)) for host, _, port in (text.rpartition(":") for text in texts)]
