"""What the core lends to a plugin: the store, its events, the directories."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from calgate.plugin.identity import Directory, NtlmVerifier


@dataclass(frozen=True, slots=True)
class Event:
    """Something every gateway process must hear at once.

    The allocator's topic is "lease-lost", subject: `Lease.id`, reason: "reclaimed", "removed", "ended" or
    "taken-over". Whoever holds it claims again at his next request, and is told the rest then.

    "person-changed", subject: `Person.key`: what a directory remembers of the person is asked anew.
    """

    topic: str  # "session-ended", "lease-lost", …; "store-back": the connection stands again, news may have been missed
    subject: str
    reason: str = ""


class Store(Protocol):
    """The connection to Redis or Valkey. Every method raises Unavailable when the store does not answer."""

    prefix: str  # of every key
    replicas: int  # acknowledgements that a permanent grant waits for
    audit_keep: float  # seconds that records of decisions are kept

    @property
    def redis(self) -> Any:
        """The redis-py asyncio client (single server, Sentinel or Cluster)."""

    def library(self, name: str, source: str) -> None:
        """Registers a function library: loaded at first use, and again after a failover or a FUNCTION FLUSH."""

    async def call(
        self,
        function: str,
        keys: Sequence[str],
        args: Sequence[str | int | float | bytes] = (),
        *,
        read_only: bool = False,
        lasting: Callable[[Any], bool] | None = None,
    ) -> Any:
        """One FCALL, shielded from the caller's cancellation. The function's own `redis.ResponseError` goes through.

        `lasting`: whether, after this reply, `replicas` acknowledgements are waited for; without them: Unavailable.
        """

    async def execute(self, *command: str | int | float | bytes) -> Any:
        """One command that is no function, its answer as redis-py gives it."""

    async def publish(self, event: Event) -> None: ...

    def listen(self, on_event: Callable[[Event], None]) -> None:
        """`on_event` is called in the event loop for all news, this process's own included."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the core owns and lends."""

    store: Store
    state_dir: Path
    directory: Directory | None = None  # all directories as one; None while directories themselves start
    prover: NtlmVerifier | None = None  # a started plugin that can prove NTLM, if any
