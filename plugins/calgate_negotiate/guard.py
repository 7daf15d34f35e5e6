"""Guessing: counted in the store, so by all gateways together, and stopped before a domain controller would.

An account is counted together with the address that tries it; and by itself too where tries are passed on to the
domain, whose lockout a stranger could otherwise bring about for anybody. Kerberos is never counted: the KDC does that.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from pydantic import Field

from calgate.plugin import (
    AuthenticationFailed,
    Duration,
    NtlmProof,
    Section,
    Store,
    TooManySignIns,
    as_text,
    milliseconds,
)

KNOWN_FOR = 30 * 86_400.0
"""Seconds for which an address that an account has signed in from is no stranger's."""
MOST_REPORTED = 20_000

PATIENCE = 5.0
"""Seconds for which a try waits for others under way: they take milliseconds."""

_LIBRARY = "calgate_guard_v2"
_MOMENT = 0.02


class Limit(Section):
    """So many failures within a time, and then a wait."""

    failures: int = Field(ge=1)
    within: Duration = Field(default=600.0, gt=0)
    wait: Duration = Field(default=600.0, gt=0)


class GuardSection(Section):
    """`[negotiate.guard]`."""

    account: Limit = Limit(failures=4)  # fewer than the domain's lockout threshold
    address: Limit = Limit(failures=40)


@dataclass(frozen=True, slots=True)
class Block:
    """Somebody who must wait."""

    kind: Literal["account", "address", "account at address"]
    account: str
    address: str
    failures: int
    seconds: float


class Guard:
    """Stands before a prover. `passed_on`: whether a domain controller counts failures too."""

    def __init__(self, store: Store, section: GuardSection, *, passed_on: bool) -> None:
        self._store = store
        self._limits: list[str | int] = [
            n
            for one in (section.account, section.address)
            for n in (one.failures, milliseconds(one.within), milliseconds(one.wait))
        ]
        self._limits.append(int(passed_on))
        self._keys = Keys(store.prefix)
        store.library(_LIBRARY, files("calgate_negotiate").joinpath("guard.lua").read_text(encoding="utf-8"))

    async def prove(self, account: str, address: str, prove: Callable[[], Awaitable[NtlmProof]]) -> NtlmProof:
        """The proof, unless there were too many wrong ones: raises TooManySignIns, or what `prove` raises.

        `account` is in one spelling, whatever the client typed.
        """
        keys, attempt = self._keys.of(account, address), secrets.token_hex(8)
        arguments = [*self._limits, attempt]
        await self._begin(keys, arguments, account, address)
        try:
            proof = await prove()
        except AuthenticationFailed:
            await self._store.call(f"{_LIBRARY}_fail", keys, arguments)
            raise
        except BaseException:
            await self._store.call(f"{_LIBRARY}_withdraw", keys, [attempt])
            raise
        who = json.dumps([proof.identity.name, address], ensure_ascii=False)
        report = [*keys, self._keys.report]
        await self._store.call(f"{_LIBRARY}_succeed", report, [attempt, int(KNOWN_FOR * 1000), who, MOST_REPORTED])
        return proof

    async def _begin(self, keys: Sequence[str], arguments: Sequence[str | int], account: str, address: str) -> None:
        """Waits while so many tries are under way that one more could be one too many."""
        until = time.monotonic() + PATIENCE
        while (left := int(await self._store.call(f"{_LIBRARY}_begin", keys, arguments))) < 0:
            if time.monotonic() > until:
                left = 1000
                break
            await asyncio.sleep(_MOMENT)
        if left:
            raise TooManySignIns(f"too many failed sign-ins of {account} or from {address}", left / 1000)


class Keys:
    """Where counts are kept: all in one slot of a Cluster."""

    def __init__(self, prefix: str) -> None:
        self._root = f"{prefix}:{{guard}}"
        self.report = f"{self._root}:ntlm"

    def of(self, account: str, address: str) -> list[str]:
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
        """A pattern of all counts."""
        return f"{self._root}:[ap]*"

    def read(self, key: str) -> tuple[Literal["account", "address", "account at address"], str, str]:
        """The kind of a count, its account and its address."""
        kind, _, of = key.removeprefix(f"{self._root}:").partition(":")
        if kind == "pair":
            account, address = json.loads(of)
            return "account at address", account, address
        return ("account", of, "") if kind == "account" else ("address", "", of)


class GuardReport:
    """What an administrator sees of the guard, and lifts."""

    def __init__(self, store: Store, section: GuardSection) -> None:
        self._redis = store.redis
        self._section = section
        self._keys = Keys(store.prefix)

    async def blocks(self) -> AsyncIterator[Block]:
        """Who must wait now, on every gateway."""
        async for key, name in self._counts():
            kind, account, address = self._keys.read(name)
            failures, left = int(await self._redis.get(key) or 0), await self._redis.pttl(key)
            limit = self._section.address if kind == "address" else self._section.account
            # strangers are stopped one short of the account's limit
            if left > 0 and failures >= limit.failures - (kind == "account"):
                yield Block(kind, account, address, failures, left / 1000)

    async def lift(self, whom: str) -> int:
        """Forgets failures of an account, or from an address; answers how many counts that were."""
        wanted = whom.casefold()
        lifted = 0
        async for key, name in self._counts():
            _, account, address = self._keys.read(name)
            if wanted in (account.casefold(), address.casefold()):
                lifted += await self._redis.delete(key)
        return lifted

    async def ntlm_sign_ins(self) -> list[tuple[str, str, int, int]]:
        """User, address, how often, and when last (Unix time): who still signs in by NTLM, the most frequent first."""
        raw: dict[bytes | str, bytes | str] = await self._redis.hgetall(self._keys.report)
        found = {as_text(field): int(value) for field, value in raw.items()}
        rows = []
        for field, number in found.items():
            if field.startswith("n:"):
                user, address = json.loads(field[2:])
                rows.append((user, address, number, found.get(f"t:{field[2:]}", 0)))
        return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))

    async def _counts(self) -> AsyncIterator[tuple[Any, str]]:
        async for key in self._redis.scan_iter(match=_glob_safe(self._keys.counts), count=500):
            yield key, as_text(key)


def _glob_safe(pattern: str) -> str:
    return pattern.replace("{", "\\{").replace("}", "\\}")
