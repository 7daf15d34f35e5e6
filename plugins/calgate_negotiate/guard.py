"""Limits password guessing: failures are counted in the store, by all gateways together.

The guard stops an account before a domain controller would lock it. It counts an account together with the address that
tries it, and also by itself where attempts are passed on to the domain: otherwise a stranger could bring about the
domain's lockout for anybody. Kerberos is never counted: the KDC does that.
"""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, Protocol, TypeVar

from pydantic import Field

from calgate.plugin import (
    AccountRefused,
    AuthenticationFailed,
    ChangeLog,
    Duration,
    Identity,
    Refusal,
    Section,
    Store,
    TooManySignIns,
    Unavailable,
    as_text,
    milliseconds,
)

logger = logging.getLogger(__name__)

KNOWN_FOR = 30 * 86_400.0
"""Seconds for which an address that an account has signed in from does not count as a stranger's."""
MAX_REPORTED = 20_000

PATIENCE = 5.0
"""Seconds for which an attempt waits for others in progress: they take milliseconds."""

_LIBRARY = "calgate_guard_v2"
_POLL_INTERVAL = 0.02
_READ_AT_ONCE = 500  # counts in one round trip


class Limit(Section):
    """A number of failures within a time, and the wait that follows them."""

    failures: int = Field(ge=1)
    """Failures after which the next attempt has to wait."""
    within: Duration = Field(default=600.0, gt=0)
    """Time after which failures are forgotten; not shorter than the domain's lockout observation window."""
    wait: Duration = Field(default=600.0, gt=0)
    """Time for which further attempts are refused once the limit is reached."""


class GuardSection(Section):
    """`[negotiate.guard]`: limits on failed NTLM sign-ins. Kerberos is not counted: the KDC does that."""

    account: Limit = Limit(failures=4)
    """The limit of one account. Keep `failures` below the domain's lockout threshold."""
    address: Limit = Limit(failures=40)
    """The limit of one client address, over all accounts."""


class NothingLearnedError(AuthenticationFailed):
    """The attempt failed, and says nothing about the password: it is not counted."""


class UndecidedError(Unavailable):
    """The attempt was passed on, and its outcome is unknown: a domain controller may have counted a failure."""


@dataclass(frozen=True, slots=True)
class Block:
    """An account or address that has to wait."""

    kind: Literal["account", "address", "account at address"]
    account: str
    address: str
    failures: int
    seconds: float


@dataclass(slots=True)
class _Attempt:
    """One attempt: its id in the store, and whether its client still waits for the result."""

    account: str
    address: str
    keys: Sequence[str]
    id: str
    is_abandoned: bool = False


class Proof(Protocol):
    """The proof that a verifier returns."""

    @property
    def identity(self) -> Identity: ...


T = TypeVar("T", bound=Proof)


class Guard:
    """Limits the attempts that reach a verifier.

    `passed_on`: whether a domain controller counts failures too. `reported`: whether sign-ins are reported as NTLM.
    """

    def __init__(self, store: Store, section: GuardSection, *, passed_on: bool, reported: bool = True) -> None:
        self._store = store
        self._limits: list[str | int] = [
            n
            for one in (section.account, section.address)
            for n in (one.failures, milliseconds(one.within), milliseconds(one.wait))
        ]
        self._limits.append(int(passed_on))
        self._keys = Keys(store.prefix)
        self._most_reported = MAX_REPORTED if reported else 0
        self._report = self._keys.report if reported else f"{self._keys.report}:none"
        self._running: set[asyncio.Task[Any]] = set()
        store.library(_LIBRARY, files("calgate_negotiate").joinpath("guard.lua").read_text(encoding="utf-8"))

    async def verify(self, account: str, address: str, verify: Callable[[], Awaitable[T]]) -> T:
        """Returns the proof. Raises TooManySignIns after too many failures, or what `verify` raises.

        `account` is in one spelling, whatever the client typed. An attempt that has begun is carried out and counted in
        a task of its own: a client that closes the connection neither stops nor uncounts it.
        """
        attempt = _Attempt(account, address, self._keys.of(account, address), secrets.token_hex(8))
        task = asyncio.create_task(self._attempt(attempt, verify))
        self._running.add(task)
        task.add_done_callback(lambda done: self._finished(attempt, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            attempt.is_abandoned = True
            raise

    async def count_guess(self, address: str) -> None:
        """Counts a guess that belongs to no known account. Raises TooManySignIns after too many failures."""
        left = await self._store.call(f"{_LIBRARY}_guess", [self._keys.of("", address)[1]], self._limits[3:6])
        if int(left):
            raise TooManySignIns(f"too many failed sign-ins from {address}", int(left) / 1000)

    async def close(self) -> None:
        """Waits for attempts in progress to be counted, for `PATIENCE` seconds at most."""
        if self._running:
            await asyncio.wait(self._running, timeout=PATIENCE)

    async def _attempt(self, attempt: _Attempt, verify: Callable[[], Awaitable[T]]) -> T:
        arguments = [*self._limits, attempt.id]
        await self._begin(attempt, arguments)
        try:
            proof = await verify()
        except UndecidedError:
            await self._store.call(f"{_LIBRARY}_fail", attempt.keys, arguments)
            raise
        except (AccountRefused, NothingLearnedError, Unavailable):  # no password was found wrong
            await self._store.call(f"{_LIBRARY}_withdraw", attempt.keys, [attempt.id])
            raise
        except BaseException:  # wrong, or not known to be right: fail closed
            await self._store.call(f"{_LIBRARY}_fail", attempt.keys, arguments)
            raise
        user = json.dumps([proof.identity.name, attempt.address], ensure_ascii=False)
        keys = [*attempt.keys, self._report]
        await self._store.call(
            f"{_LIBRARY}_succeed", keys, [attempt.id, int(KNOWN_FOR * 1000), user, self._most_reported]
        )
        return proof

    async def _begin(self, attempt: _Attempt, arguments: Sequence[str | int]) -> None:
        """Waits while so many attempts are in progress that one more could exceed a limit."""
        until = time.monotonic() + PATIENCE
        while (left := int(await self._store.call(f"{_LIBRARY}_begin", attempt.keys, arguments))) < 0:
            if attempt.is_abandoned or time.monotonic() > until:
                left = 1000
                break
            await asyncio.sleep(_POLL_INTERVAL)
        if left:
            raise TooManySignIns(
                f"too many failed sign-ins of {attempt.account} or from {attempt.address}", left / 1000
            )
        if attempt.is_abandoned:  # nothing was passed on yet, so there is nothing to count
            await self._store.call(f"{_LIBRARY}_withdraw", attempt.keys, [attempt.id])
            raise AuthenticationFailed("the client closed the connection before its attempt began")

    def _finished(self, attempt: _Attempt, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None or not attempt.is_abandoned:
            return
        reason = error.detail if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"
        logger.warning(
            "negotiate.guard: sign-in of %s from %s failed after the client had closed the connection: %s",
            *(attempt.account, attempt.address, reason),
        )


class Keys:
    """The keys of the counts in the store: all in one slot of a Cluster."""

    def __init__(self, prefix: str) -> None:
        self._root = f"{prefix}:{{guard}}"
        self.report = f"{self._root}:ntlm"

    def of(self, account: str, address: str) -> list[str]:
        """Returns the keys of one attempt, in the order in which guard.lua expects them."""
        pair = json.dumps([account, address], ensure_ascii=False)
        return [
            f"{self._root}:pair:{pair}",
            f"{self._root}:address:{address}",
            f"{self._root}:account:{account}",
            f"{self._root}:known:{pair}",
            f"{self._root}:now:pair:{pair}",
            f"{self._root}:now:address:{address}",
            f"{self._root}:now:account:{account}",
        ]

    @property
    def counts(self) -> str:
        """A pattern that matches all counts."""
        return f"{self._root}:[ap]*"

    def read(self, key: str) -> tuple[Literal["account", "address", "account at address"], str, str]:
        """Returns the kind of a count, its account and its address."""
        kind, _, of = key.removeprefix(f"{self._root}:").partition(":")
        if kind == "pair":
            account, address = json.loads(of)
            return "account at address", account, address
        return ("account", of, "") if kind == "account" else ("address", "", of)


class GuardReport:
    """Shows an administrator what the guard has counted, and lifts blocks."""

    def __init__(self, store: Store, section: GuardSection) -> None:
        self._store = store
        self._section = section
        self._keys = Keys(store.prefix)
        self._changes = ChangeLog(store)

    async def blocks(self) -> AsyncIterator[Block]:
        """Yields the accounts and addresses that have to wait now, on every gateway."""
        async for names in self._counts():
            commands = [command for name in names for command in (("GET", name), ("PTTL", name))]
            replies = await self._store.execute_all(commands)
            for name, count, left in zip(names, replies[::2], replies[1::2], strict=True):
                kind, account, address = self._keys.read(name)
                failures = int(count or 0)
                limit = self._section.address if kind == "address" else self._section.account
                # addresses that are new to an account are stopped one attempt short of the account's limit
                if left > 0 and failures >= limit.failures - (kind == "account"):
                    yield Block(kind, account, address, failures, left / 1000)

    async def lift(self, target: str, by: str, reason: str) -> int:
        """Deletes the failures of an account, or from an address, and records who did. Returns how many counts."""
        wanted = target.casefold()
        lifted = 0
        async for names in self._counts():
            for name in names:
                _, account, address = self._keys.read(name)
                if wanted in (account.casefold(), address.casefold()):
                    lifted += await self._store.execute("DEL", name)
        if lifted:
            await self._changes.record("block-lifted", target, by, reason)
        return lifted

    async def ntlm_sign_ins(self) -> list[tuple[str, str, int, int]]:
        """Returns user, address, number and time of the last NTLM sign-in (Unix time), the most frequent first."""
        raw: dict[bytes | str, bytes | str] = await self._store.execute("HGETALL", self._keys.report)
        found = {as_text(field): int(value) for field, value in raw.items()}
        rows = []
        for field, number in found.items():
            if field.startswith("n:"):
                user, address = json.loads(field[2:])
                rows.append((user, address, number, found.get(f"t:{field[2:]}", 0)))
        return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))

    async def _counts(self) -> AsyncIterator[Sequence[str]]:
        """Yields the names of all counts, some at a time."""
        names: list[str] = []
        async for name in self._store.scan(_glob_safe(self._keys.counts)):
            names.append(name)
            if len(names) >= _READ_AT_ONCE:
                yield names
                names = []
        if names:
            yield names


def _glob_safe(pattern: str) -> str:
    return pattern.replace("{", "\\{").replace("}", "\\}")
