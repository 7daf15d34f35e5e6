"""redis-py clients as the store wants them."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError  # noqa: A004

_ANSWER_WITHIN = 3.0
_CONNECT_WITHIN = 2.0


def connect(url: str, *, connections: int = 32, retries: int = 1) -> Redis:
    """A client with its own pool; waits for a free connection instead of failing.

    A lost connection is tried once more (the server may have been started again since it was last used; every function
    is idempotent); a timeout is not, for a frozen server would be waited for twice.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=_ANSWER_WITHIN,
        socket_timeout=_ANSWER_WITHIN,
        socket_connect_timeout=_CONNECT_WITHIN,
        protocol=2,
        retry=Retry(NoBackoff(), retries, supported_errors=(ConnectionError,)),
    )
    return Redis.from_pool(pool)
