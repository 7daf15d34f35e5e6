"""redis-py clients as the store wants them: to one server, through Sentinels, or to a Cluster."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError  # noqa: A004

from calgate.store.section import StoreSection

Client = Redis | RedisCluster
Connect = Callable[..., Client]

_ANSWER_WITHIN = 3.0
_CONNECT_WITHIN = 1.0


def connector(section: StoreSection, socket: str | None) -> Connect:
    """Makes clients for the store of the section; `socket` is the private server's.

    A lost connection is tried once more (the server may have been started again since it was last used; every function
    is idempotent); a timeout is not, for a frozen server would be waited for twice.
    """

    def connect(*, connections: int = 32, retries: int = 1) -> Client:
        common: dict[str, Any] = {
            "socket_timeout": _ANSWER_WITHIN,
            "socket_connect_timeout": _CONNECT_WITHIN,
            "protocol": 2,
            "retry": Retry(NoBackoff(), retries, supported_errors=(ConnectionError,)),
        }
        if section.sentinel or section.cluster:
            common |= {"username": section.username, "password": section.password and section.password.reveal()}
            common |= {"ssl": section.tls}
        if section.cluster:
            nodes = [ClusterNode(host, port) for host, port in _addresses(section.cluster)]
            common["retry"] = Retry(NoBackoff(), 3 * retries)  # each also asks anew which server has the slot
            return RedisCluster(startup_nodes=nodes, max_connections=connections + 8, **common)
        if section.sentinel:
            asked = {"socket_timeout": _CONNECT_WITHIN, "socket_connect_timeout": _CONNECT_WITHIN, "protocol": 2}
            sentinel = Sentinel(_addresses(section.sentinel), sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
            primary: Redis = sentinel.master_for(section.service, **common)
            return primary
        url = section.url or f"unix://{socket}"
        pool = BlockingConnectionPool.from_url(url, max_connections=connections, timeout=_ANSWER_WITHIN, **common)
        return Redis.from_pool(pool)

    return connect


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
        connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
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
