"""The `ServerSignOn` role: one Kerberos token for each request."""

import asyncio
import base64
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from calgate.plugin import (
    AccountRefused,
    DocumentServer,
    Event,
    Forbidden,
    Grant,
    Identity,
    Lease,
    Person,
    Services,
    Unavailable,
)
from calgate_delegation.settings import Config

if TYPE_CHECKING:
    import gssapi

    from calgate_delegation.tickets import Tickets

_THREADS = 8
_WITHIN = 10.0  # seconds for a token: the library itself waits longer for a KDC
_LARGEST = 10_000  # people whose tickets are kept
_NOT_IN_A_NAME = re.compile(r"[\\/@\x00-\x20\x7f]")  # they separate the parts of a principal


class Delegation:
    """Signs users in at document servers. Tickets are kept for each person; every request has a token of its own."""

    owned = frozenset({"authorization"})
    exclusive = True

    def __init__(
        self, config: Config, services: Services, tickets: "Tickets", now: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._directory = services.directory
        self._tickets = tickets
        self._now = now
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="delegation")
        self._kept: OrderedDict[str, tuple[float, gssapi.Credentials]] = OrderedDict()  # by Person.key, with the end
        self._changes = 0
        self._own_domain: tuple[str, str] | None = None
        services.store.listen(self._on_event)

    def close(self) -> None:
        """Ends the threads; those that wait for a KDC end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def introduce(
        self, server: DocumentServer, person: Person, grant: Grant, lease: Lease | None
    ) -> Mapping[str, str]:
        """Raises Forbidden, AccountRefused or Unavailable."""
        token = await self.token(person, self._config.service_on(server.host))
        return {"Authorization": f"Negotiate {base64.b64encode(token).decode()}"}

    def why_rejected(self, server: DocumentServer, status: int, headers: Mapping[str, str]) -> str | None:
        if status != 401:
            return None
        return (
            "it refused the Kerberos ticket; the account that it runs under must be the one that holds the SPN"
            f" {self._config.service_on(server.host)}"
            " (in IIS with kernel mode and a pool account: useAppPoolCredentials)"
        )

    async def token(self, person: Person, service: str) -> bytes:
        """Returns a token for one request to a service."""
        await self._demand_ours(person)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_WITHIN):
                return await loop.run_in_executor(self._threads, self._token, person, service)
        except TimeoutError as error:
            raise Unavailable(
                f"Kerberos: no ticket for {service} within {_WITHIN:g} s; check that the KDC responds",
                code="logon-server-unavailable",
            ) from error

    async def _demand_ours(self, person: Person) -> None:
        """Raises Forbidden for a user of another domain: in our realm the same name is another user's account."""
        if self._own_domain is None:
            self._own_domain = await self._look_up_own_domain()
        if (person.domain.casefold(), _domain_of(person.key)) != self._own_domain:
            raise Forbidden(
                f"delegation: {person.name} is not in {self._config.realm}, the realm of the gateway's own account"
            )
        if _NOT_IN_A_NAME.search(person.account):
            raise Forbidden(f"delegation: the name {person.name!r} contains a separator")

    async def _look_up_own_domain(self) -> tuple[str, str]:
        account, _, realm = self._config.account.partition("@")
        assert self._directory is not None
        own = await self._directory.look_up(Identity(realm, account, "delegation"))
        if own is None:
            raise Unavailable(
                f"delegation: no directory has the gateway's account {self._config.account}; correct sign_on.account",
                code="directory-unavailable",
            )
        return own.domain.casefold(), _domain_of(own.key)

    # ------------------------------------------------------------ in a thread

    def _token(self, person: Person, service: str) -> bytes:
        """A refusal is never kept: what the domain forbade when a ticket was issued may be allowed by now."""
        kept = self._kept.get(person.key)
        if kept is not None and kept[0] > self._now():
            try:
                return self._tickets.token(kept[1], person.account, service)
            except AccountRefused:
                self._kept.pop(person.key, None)
        changes = self._changes
        credentials = self._tickets.impersonate(person.account)
        token = self._tickets.token(credentials, person.account, service)
        if changes == self._changes:  # else they may be those of the person before the change
            self._kept[person.key] = (self._now() + self._config.cache, credentials)
            while len(self._kept) > _LARGEST:
                self._kept.popitem(last=False)
        return token

    # ------------------------------------------------------------ in the event loop

    def _on_event(self, event: Event) -> None:
        if event.topic == "person-changed":
            self._changes += 1
            self._kept.pop(event.subject, None)
        elif event.topic == "store-back":
            self._changes += 1
            self._kept.clear()


def _domain_of(key: str) -> str:
    """Returns the SID of the domain that a user's SID belongs to; "" for a key that is not a SID."""
    return key.rpartition("-")[0] if key.startswith("S-1-5-21-") else ""
