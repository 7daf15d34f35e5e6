"""The allocator: what the gateway asks for, put to the functions in the store."""

import asyncio
import contextlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from calgate.plugin import Activity, Claimant, Event, Lease, LicenseInfo, Lost, NoCal, Pool, Store, Unavailable
from calgate_cal import lua, replies, terms
from calgate_cal.known_leases import KnownLease, KnownLeases
from calgate_cal.pool_alerts import PoolAlerts
from calgate_cal.settings import Config

logger = logging.getLogger(__name__)

_TAKES_NONE = ("exempt", "unenforced")
_SWEPT_AT_ONCE = 200
_NEVER = 10**12  # milliseconds ago


class CalAllocator:
    """`calgate.contract.Allocator` over the functions of `calgate_cal.lua`; holds no state that matters."""

    def __init__(self, config: Config, store: Store, actor: str, clock: Callable[[], float] = time.time) -> None:
        self._config = config.licenses
        self._store = store
        self._actor = actor
        self._clock = clock
        self._keys = {name: lua.keys(store.prefix, name) for name in self._config}
        self._held = KnownLeases(clock)
        self.licenses: Mapping[str, LicenseInfo] = {name: license.terms for name, license in self._config.items()}
        self.groups = frozenset[str]().union(*(license.groups for license in self._config.values()))
        store.library(lua.VERSION, lua.source())
        store.listen(self._hear)
        self._fullness = PoolAlerts(clock)
        self._reassert = asyncio.Event()
        self._history: dict[str, bytes] = {}  # license -> which server's history its last answer came from

    async def claim(self, license: str, claimant: Claimant, document: str, *, reference: str) -> Lease:
        """A CAL for the claimant and document: raises NoCal or Unavailable."""
        terms = self.licenses[license]
        if claimant.name.casefold() in terms.exempt_users:
            return Lease(license, "exempt", claimant, document)
        groups = "\n".join(sorted(self._groups(license, claimant)))
        believed = self._belief(self._held.of(license, claimant, document))
        who = (lua.part(claimant.user), claimant.name, lua.part(claimant.client))
        reply = await self._ask("claim", license, *who, document, groups, reference, *believed, lasting=_is_lasting)
        if reply[0] == b"granted":
            lease = _lease(license, claimant, document, reply, self._clock())
            self._held.note(lease)
            self._fullness.tell(license, lease.kind, *reply[5:])
            return replace(lease, reference=reference) if lease.provisional else lease
        if not self._config[license].enforce:
            return Lease(license, "unenforced", claimant, document)
        raise _denial(license, document, terms.contact, reply)

    async def held(self, license: str, claimant: Claimant, document: str) -> Lease | None:
        """What the claimant holds for the document; takes nothing and counts as no use."""
        terms = self.licenses[license]
        if claimant.name.casefold() in terms.exempt_users:
            return Lease(license, "exempt", claimant, document)
        whose = (lua.part(claimant.user), lua.part(claimant.client), document)
        reply = await self._store.call(f"{lua.VERSION}_holds", self._keys[license], whose, read_only=True)
        if reply[0] == b"none":
            return None if self._config[license].enforce else Lease(license, "unenforced", claimant, document)
        return _lease(license, claimant, document, reply, self._clock())

    async def settle(self, lease: Lease, *, served: bool | None) -> None:
        """Ends the provisional state of a lease, unless the answer could not tell."""
        if not lease.provisional:
            return
        if served is False:
            self._held.forget(lease)
        word = "" if served is None else int(served)
        settled = (lease.kind, *_whose(lease), lease.id, lease.reference, word)
        await self._ask("settle", lease.license, *settled, lasting=lambda _: word != "" and lease.kind != "session")

    async def touch(self, activity: Sequence[Activity]) -> Sequence[Lost]:
        """Reports uses; answers leases that are lost."""
        by_license: dict[str, list[Activity]] = defaultdict(list)
        for use in activity:
            if use.lease.kind not in _TAKES_NONE and use.lease.license in self._keys:
                by_license[use.lease.license].append(use)
        lost: list[Lost] = []
        for license, uses in by_license.items():
            batch = json.dumps([self._item(use) for use in uses])
            reply = await self._ask("touch", license, batch)
            answered = zip(reply[::2], reply[1::2], strict=True)
            why = {index - 1: reason.decode() for index, reason in answered}
            for index, use in enumerate(uses):
                if index in why:
                    lost.append(Lost(use.lease, why[index]))
                    self._held.forget(use.lease)
                else:
                    self._held.note(use.lease, use.at)
        return lost

    async def release(self, license: str, claimant: Claimant) -> None:
        """Signed out: the Session CAL comes back when its minimum is over."""
        self._held.release(license, claimant)
        await self._ask("release", license, lua.part(claimant.user), lua.part(claimant.client))

    async def pools(self, license: str) -> Sequence[Pool]:
        """How full each pool is, those of an empty store too."""
        reply = await self._ask("state", license, read_only=True)
        return [Pool(pool.kind, pool.limit, pool.occupied, pool.free_at) for pool in replies.state(reply).pools]

    async def configure(self) -> None:
        """Makes the settings file's terms known to the store. Raises Unavailable."""
        for license in self._config:
            await self._configure(license)

    async def tend(self, every: float) -> None:
        """Never returns: ends what is due, offers what came free, re-asserts leases after a failover."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reassert.wait(), every)
            try:
                if self._reassert.is_set():
                    await self._reassert_all()
                    self._reassert.clear()
                for license in self._config:
                    await self._tend(license)
            except Unavailable:  # the store's own channel has logged it
                await asyncio.sleep(1)
                continue
            longest = max((license.session.idle_timeout for license in self._config.values()), default=0.0)
            self._held.drop_older_than(longest)

    async def _tend(self, license: str) -> None:
        history = await self._ask("tend", license, _SWEPT_AT_ONCE)
        if self._history.setdefault(license, history) != history:
            await self._reassert_all()
            self._history[license] = history

    async def _reassert_all(self) -> None:
        """After the store was away it may have forgotten leases: touching them makes them their holders' again."""
        held = self._held.all()
        for start in range(0, len(held), 500):
            await self.touch([Activity(known.lease, known.used) for known in held[start : start + 500]])

    def _hear(self, event: Event) -> None:
        if event.topic == "store-back":
            self._reassert.set()

    def _groups(self, license: str, claimant: Claimant) -> frozenset[str]:
        own = self._config[license]
        groups = claimant.groups & own.groups
        capped = claimant.name.casefold() in own.capped_users
        return groups | {terms.group_of_one(claimant.name)} if capped else groups

    def _item(self, use: Activity) -> list[str | int]:
        lease, who = use.lease, use.lease.claimant
        groups = "\n".join(sorted(self._groups(lease.license, who)))
        user, client, document = _whose(lease)
        known = self._held.same(lease)
        confirmed = self._age(known.confirmed) if known else _NEVER
        return [lease.kind, lease.id, self._age(use.at), confirmed, user, who.name, client, document, groups]

    def _belief(self, held: KnownLease | None) -> Sequence[str | int]:
        """Goes with a claim, so that nobody is denied what he held when a failover forgot it."""
        if held is None:
            return "", "", "", ""
        return held.lease.kind, held.lease.id, self._age(held.used), self._age(held.confirmed)

    def _age(self, at: float) -> int:
        """Milliseconds ago: the store counts back from its own clock, whatever this machine's shows."""
        return max(0, round((self._clock() - at) * 1000))

    async def _ask(
        self,
        function: str,
        license: str,
        *args: str | int,
        read_only: bool = False,
        lasting: Callable[[Any], bool] | None = None,
    ) -> Any:
        call = partial(
            self._store.call,
            *(f"{lua.VERSION}_{function}", self._keys[license], args),
            read_only=read_only,
            lasting=lasting,
        )
        reply = await call()
        # an empty store: the first gateway, or one after a loss of everything
        if isinstance(reply, list) and reply[:1] == [b"unconfigured"]:
            await self._configure(license)
            reply = await call()
        return reply

    async def _configure(self, license: str) -> None:
        text = terms.encode(self._config[license], self._store)
        await self._store.call(f"{lua.VERSION}_configure", self._keys[license], (self._actor, text))


def _is_lasting(reply: Sequence[Any]) -> bool:
    """A grant that must never be lost: of every kind but Session, which its holder's gateway can speak for."""
    return bool(reply[0] == b"granted" and reply[1] != b"session")


def _whose(lease: Lease) -> tuple[str, str, str]:
    return lua.part(lease.claimant.user), lua.part(lease.claimant.client), lease.document


def _time(milliseconds: bytes) -> float | None:
    return float(milliseconds) / 1000 if milliseconds else None


def _lease(license: str, claimant: Claimant, document: str, reply: Sequence[Any], now: float) -> Lease:
    _, kind, known_as, provisional, good_for, *_ = reply
    until = now + float(good_for) / 1000 if good_for else None
    return Lease(license, kind.decode(), claimant, document, known_as.decode(), bool(provisional), until)


def _denial(license: str, document: str, contact: str, reply: Sequence[Any]) -> NoCal:
    _, code, pools, place, estimate = reply
    full = [_pool(item) for item in json.loads(pools)]
    detail = ", ".join(f"{pool.kind} {pool.occupied}/{pool.limit} {pool.note}" for pool in full)
    return NoCal(
        detail or "the license has no CALs",
        license=license,
        document=document,
        pools=full,
        contact=contact,
        place=int(place) or None,
        estimate=_time(estimate),
        code=code.decode(),
    )


def _pool(item: Mapping[str, Any]) -> Pool:
    free_at = item.get("free_at")
    return Pool(
        kind=item["kind"],
        limit=int(item["limit"]),
        occupied=int(item["occupied"]),
        free_at=None if free_at is None else free_at / 1000,
        note=item["note"],
    )
