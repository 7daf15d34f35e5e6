"""Which of a route's document servers a session goes to: always the same one while that one serves.

Rendezvous hashing: each session ranks the servers in an order of its own, and takes the first that may be used; when
one goes away, only its own sessions move. A server is left out after failures in a row, by its health check, or because
an administrator drains it; it comes back by its health check, or is tried again after a pause.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b

from calgate.plugin.errors import BadGateway, GatewayTimeout, Unavailable
from calgate.telemetry.metrics import Metrics
from calgate.upstream.pool import Unreachable, Upstream, UpstreamRequest
from calgate.upstream.settings import HealthSection

logger = logging.getLogger(__name__)

_FAILURES = 3  # in a row, until a server is left out
_PAUSE = 10.0  # seconds until one is tried again
_LARGEST_CHECK = 1 << 20  # bytes of an answer to a health check


@dataclass(slots=True, eq=False)
class Server:
    """One document server of a route, and how it fares."""

    upstream: Upstream
    failures: int = 0
    out_until: float = 0.0
    is_well: bool = True  # as far as its health check says
    is_drained: bool = False  # by an administrator: no new sessions, and those that are there go elsewhere

    @property
    def is_simple(self) -> bool:
        """Nothing speaks against it, now or later."""
        return self.is_well and not self.is_drained and not self.out_until

    def may_be_used(self, now: float) -> bool:
        return self.is_well and not self.is_drained and now >= self.out_until


@dataclass(slots=True)
class LoadBalancer:
    """The document servers of one route."""

    members: Sequence[Server]
    metrics: Metrics
    health: HealthSection | None = None
    clock: Callable[[], float] = time.monotonic

    def candidates(self, session_key: str) -> Sequence[Server]:
        """The servers that may be used, the session's own first. Raises Unavailable where there are none."""
        if len(self.members) == 1 and self.members[0].is_simple:
            return self.members
        now = self.clock()
        usable = [member for member in self.members if member.may_be_used(now)]
        if not usable:
            raise Unavailable("none of the route's document servers may be used", code="no-upstream")
        return usable if len(usable) == 1 else sorted(usable, key=lambda m: _weight(session_key, m.upstream.name))

    def failed(self, member: Server, error: BadGateway | GatewayTimeout) -> None:
        """A request to it failed. Where there are others it is left out for a while; at once if out of reach."""
        self.metrics.count("upstream_failures", member.upstream.name)
        member.failures += _FAILURES if isinstance(error, Unreachable) else 1
        if len(self.members) > 1 and member.failures >= _FAILURES and self.clock() >= member.out_until:
            member.out_until = self.clock() + _PAUSE
            logger.warning("%s is left out for %g s: %s", member.upstream.name, _PAUSE, error.detail)

    def served(self, member: Server) -> None:
        """It answered."""
        if member.failures >= _FAILURES:
            logger.info("%s serves again", member.upstream.name)
        member.failures = 0

    def set_drained(self, names: Collection[str]) -> None:
        """Takes the servers out that an administrator has drained, and puts the others back."""
        for member in self.members:
            is_drained = member.upstream.name in names
            if member.is_drained != is_drained:
                member.is_drained = is_drained
                logger.info("%s is %s by an administrator", member.upstream.name, "drained" if is_drained else "back")

    # ------------------------------------------------------------ in the background

    async def watch(self) -> None:
        """Asks every server how it is, as often as the route says; runs until cancelled."""
        if self.health is None:
            return
        while True:
            async with asyncio.TaskGroup() as group:
                for member in self.members:
                    group.create_task(self._check(member, self.health))
            await asyncio.sleep(self.health.every)

    async def _check(self, member: Server, health: HealthSection) -> None:
        is_well = False
        why = "no answer in time"
        with suppress(TimeoutError):
            async with asyncio.timeout(health.timeout):
                try:
                    status = await _ask(member.upstream, health.path)
                    is_well, why = status < 500, f"status {status}"
                except (BadGateway, GatewayTimeout, Unavailable) as error:
                    why = error.detail
        if is_well != member.is_well:
            logger.log(
                logging.INFO if is_well else logging.WARNING,
                "%s is %s by its health check (%s)",
                member.upstream.name,
                "back" if is_well else "left out",
                why,
            )
        member.is_well = is_well
        if is_well:
            member.out_until = 0.0


async def _ask(upstream: Upstream, path: str) -> int:
    message = f"GET {path} HTTP/1.1\r\nHost: {upstream.authority}\r\nUser-Agent: calgate-health\r\n\r\n"
    connection = await upstream.send(UpstreamRequest("GET", message.encode("latin-1")))
    size = 0
    try:
        while size <= _LARGEST_CHECK and (piece := await connection.read()):
            size += len(piece)
    except asyncio.CancelledError:
        connection.close()  # in time came the head alone
        raise
    if size > _LARGEST_CHECK:
        connection.close()
    return connection.status


def _weight(session_key: str, name: str) -> bytes:
    return blake2b(f"{session_key}\n{name}".encode(), digest_size=8).digest()
