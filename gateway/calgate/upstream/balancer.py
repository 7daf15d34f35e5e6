"""Chooses a document server of a route for each session: always the same server while that one is available.

Rendezvous hashing: each session ranks the servers in its own order and takes the first available one, so when a server
is marked down only its own sessions move. A server is marked down after failures in a row or by its health check, and
is unavailable while an administrator drains it. Its health check marks it up again, or a request after a pause.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

from calgate.plugin.errors import BadGateway, GatewayTimeout, Unavailable
from calgate.telemetry.metrics import Metrics
from calgate.telemetry.worker_states import ServerState
from calgate.upstream.pool import Unreachable, Upstream, UpstreamRequest
from calgate.upstream.settings import HealthSection

logger = logging.getLogger(__name__)

_FAILURES = 3  # in a row, until a server is marked down
_PAUSE = 10.0  # seconds until a server that was marked down is tried again
_MOST_RANKINGS = 8192  # sessions whose order of the servers is remembered
_LARGEST_CHECK = 1 << 20  # bytes of a response to a health check


@dataclass(slots=True, eq=False)
class Server:
    """One document server of a route, and whether it is available."""

    upstream: Upstream
    failures: int = 0
    down_until: float = 0.0
    is_healthy: bool = True  # by its health check
    is_drained: bool = False  # by an administrator: all sessions go to other servers
    failed_at: float | None = None  # Unix time of the last failure
    failure: str = ""

    def note_failure(self, why: str) -> None:
        """Remembers the last failure, for people."""
        self.failed_at, self.failure = time.time(), why

    @property
    def is_simple(self) -> bool:
        """Whether the server is available whatever the time."""
        return self.is_healthy and not self.is_drained and not self.down_until

    def is_available(self, now: float) -> bool:
        return self.is_healthy and not self.is_drained and now >= self.down_until


@dataclass(slots=True)
class LoadBalancer:
    """The document servers of one route."""

    members: Sequence[Server]
    metrics: Metrics
    health: HealthSection | None = None
    clock: Callable[[], float] = time.monotonic
    _ranked: Callable[[str], Sequence[Server]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ranked = lru_cache(_MOST_RANKINGS)(self._rank)

    @property
    def authorities(self) -> frozenset[str]:
        """How a URL can name one of the servers: any of them may redirect to another."""
        return frozenset().union(*(member.upstream.authorities for member in self.members))

    def candidates(self, session_key: str) -> Sequence[Server]:
        """Returns the available servers, the session's own first. Raises Unavailable if there are none."""
        if len(self.members) == 1 and self.members[0].is_simple:
            return self.members
        now = self.clock()
        available = [member for member in self._ranked(session_key) if member.is_available(now)]
        if not available:
            raise Unavailable(
                "no document server of this route is available (all failing, unhealthy or drained)", code="no-upstream"
            )
        return available

    def _rank(self, session_key: str) -> Sequence[Server]:
        return sorted(self.members, key=lambda member: _weight(session_key, member.upstream.name))

    def failed(self, member: Server, error: BadGateway | GatewayTimeout) -> None:
        """Counts a failed request. Where there are other servers, marks this one down; at once if unreachable."""
        self.metrics.count("upstream_failures", member.upstream.name)
        member.note_failure(error.detail)
        member.failures += _FAILURES if isinstance(error, Unreachable) else 1
        if len(self.members) > 1 and member.failures >= _FAILURES and self.clock() >= member.down_until:
            member.down_until = self.clock() + _PAUSE
            logger.warning("upstream %s: marked down for %g s: %s", member.upstream.name, _PAUSE, error.detail)

    def served(self, member: Server) -> None:
        """Notes that the server responded."""
        if member.failures >= _FAILURES:
            logger.info("upstream %s: marked up, it serves again", member.upstream.name)
        member.failures = 0

    def set_drained(self, names: Collection[str]) -> None:
        """Drains exactly the servers with these names."""
        for member in self.members:
            is_drained = member.upstream.name in names
            if member.is_drained != is_drained:
                member.is_drained = is_drained
                logger.info(
                    "upstream %s: %s by an administrator", member.upstream.name, "drained" if is_drained else "restored"
                )

    def states(self) -> Iterator[ServerState]:
        """Yields the state of each server; it responds by its health check, or else by the latest requests.

        A drained server can be up: it is the administrator who keeps sessions away from it.
        """
        for one in self.members:
            counts = one.upstream.counts()
            yield ServerState(one.upstream.name, self._is_up(one), one.is_drained, one.failed_at, one.failure, *counts)

    def _is_up(self, member: Server) -> bool:
        has_failed = self.health is None and member.failures >= _FAILURES
        return member.is_healthy and not has_failed

    # ------------------------------------------------------------ in the background

    async def watch(self) -> None:
        """Checks the health of every server at the route's interval, until cancelled."""
        if self.health is None:
            return
        while True:
            async with asyncio.TaskGroup() as group:
                for member in self.members:
                    group.create_task(self._check(member, self.health))
            await asyncio.sleep(self.health.every)

    async def _check(self, member: Server, health: HealthSection) -> None:
        is_healthy = False
        why = "no response in time"
        with suppress(TimeoutError):
            async with asyncio.timeout(health.timeout):
                try:
                    status = await _request_health(member.upstream, health.path)
                    is_healthy, why = status < 500, f"status {status}"
                except (BadGateway, GatewayTimeout, Unavailable) as error:
                    why = error.detail
        if is_healthy != member.is_healthy:
            logger.log(
                logging.INFO if is_healthy else logging.WARNING,
                "upstream %s: marked %s by its health check (%s)",
                member.upstream.name,
                "up" if is_healthy else "down",
                why,
            )
        member.is_healthy = is_healthy
        if not is_healthy:
            member.note_failure(f"health check: {why}")
        else:
            member.down_until = 0.0


async def _request_health(upstream: Upstream, path: str) -> int:
    """Returns the status of the response, once its body has been read, or its first bytes up to a limit."""
    message = f"GET {path} HTTP/1.1\r\nHost: {upstream.authority}\r\nUser-Agent: calgate-health\r\n\r\n"
    connection = await upstream.send(UpstreamRequest("GET", message.encode("latin-1")))
    size = 0
    try:
        while size <= _LARGEST_CHECK and (piece := await connection.read()):
            size += len(piece)
    except asyncio.CancelledError:
        connection.close()  # the time was over after the head
        raise
    if size > _LARGEST_CHECK:
        connection.close()
    return connection.status


def _weight(session_key: str, name: str) -> bytes:
    return blake2b(f"{session_key}\n{name}".encode(), digest_size=8).digest()
