"""The services of the core for plugins: the store, its events, the directories."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Any, Protocol

from calgate.plugin.identity import Directory, NtlmVerifier, PasswordChanger, Person
from calgate.plugin.settings import Section


@dataclass(frozen=True, slots=True)
class Event:
    """Something that every gateway process must learn at once.

    "lease-lost": the allocator's; subject `Lease.id`, reason "reclaimed", "removed", "ended" or "taken-over". The
    claimant's next request claims again, and its response explains the loss.

    "person-changed": subject `Person.key`; directories look this user up again instead of using their cache.
    """

    topic: str  # "session-ended", "lease-lost", …; "store-back": reconnected, events may have been missed
    subject: str
    reason: str = ""


class Store(Protocol):
    """The connection to Redis or Valkey. Every method raises Unavailable if the store does not respond."""

    prefix: str  # every key begins with it
    replicas: int  # acknowledgements that a permanent grant waits for
    audit_keep: float  # seconds that records of decisions are kept

    @property
    def redis(self) -> Any:
        """The redis-py asyncio client (single server, Sentinel or Cluster)."""

    def library(self, name: str, source: str) -> None:
        """Registers a function library; it is loaded at first use, and again after a failover or FUNCTION FLUSH."""

    async def call(
        self,
        function: str,
        keys: Sequence[str],
        args: Sequence[str | int | float | bytes] = (),
        *,
        read_only: bool = False,
        lasting: Callable[[Any], bool] | None = None,
    ) -> Any:
        """Calls a function (FCALL), shielded from the caller's cancellation; its own `redis.ResponseError` is raised.

        `lasting` decides from the reply whether to wait for `replicas` acknowledgements; without them the call raises
        Unavailable.
        """

    async def execute(self, *command: str | int | float | bytes) -> Any:
        """Executes one command that calls no function, and returns the reply as redis-py parses it."""

    async def execute_all(self, commands: Sequence[Sequence[str | int | float | bytes]]) -> Sequence[Any]:
        """Executes commands in one round trip, not as a transaction, and returns their replies in order."""

    def scan(self, pattern: str) -> AsyncIterator[str]:
        """Yields every key that matches a glob pattern, some of them twice; the store serves others in between."""

    async def publish(self, event: Event) -> None:
        """Sends an event to every gateway process."""

    def listen(self, on_event: Callable[[Event], None]) -> None:
        """Registers a listener: it is called in the event loop for every event, this process's own included."""


class Site(Protocol):
    """The rest of the settings file, as a plugin's commands and checks see it."""

    @property
    def zone(self) -> tzinfo:
        """The time zone of the setting `timezone`, in which people read times."""

    def document(self, license: str, name: str) -> str:
        """Returns a document's name as requests of this license have it: `document` or `host|document`.

        Raises BadRequest for a name that no request can have.
        """

    async def could_admit(self, person: Person) -> bool:
        """Returns whether some access rule lets this user have something. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the core that plugins can use."""

    store: Store
    state_dir: Path
    directory: Directory | None = None  # all directories as one; None while directories themselves start
    has_tls: bool = True  # whether the gateway's own listener has a certificate
    can_be_https: bool = True  # whether users can reach it over https: by its own certificate, or through a proxy
    siblings: Mapping[str, Section] = field(default_factory=dict)  # sections of plugins of the same package
    ntlm_verifier: NtlmVerifier | None = None  # a started plugin that verifies NTLM responses, if any
    password_changer: PasswordChanger | None = None  # a started directory in which users can change a password, if any
    site: Site | None = None  # in commands and checks
