"""The allocator: calls the functions in the store for the gateway."""

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

from calgate.plugin import (
    Activity,
    Claimant,
    Event,
    Lease,
    LicenseInfo,
    Lost,
    NoCal,
    Pool,
    Released,
    Store,
    Unavailable,
)
from calgate_cal import lua, replies, terms
from calgate_cal.anonymous import UnservedClaims, denial_code, network_of
from calgate_cal.known_leases import KnownLease, KnownLeases
from calgate_cal.names import is_named
from calgate_cal.pool_alerts import PoolAlerts
from calgate_cal.register import LicenseRegister
from calgate_cal.settings import Config
from calgate_cal.settling import Outcome, Settling

logger = logging.getLogger(__name__)

_SWEPT_AT_ONCE = 200
_NEVER = 10**12  # milliseconds ago
_CLOCK_IS_WRONG = 60_000  # milliseconds that a record can be ahead of the clock after a failover (lua/license.lua)
_WARN_EVERY = 600.0  # seconds


class CalAllocator:
    """`calgate.plugin.Allocator` on the functions of `calgate_cal.lua`; keeps no state that decides anything."""

    def __init__(self, config: Config, store: Store, actor: str, clock: Callable[[], float] = time.time) -> None:
        self._config = config.licenses
        self._store = store
        self._actor = actor
        self._clock = clock
        self._keys = {name: lua.keys(store.prefix, name) for name in self._config}
        self._known = KnownLeases(clock)
        self.licenses: Mapping[str, LicenseInfo] = {name: license.terms for name, license in self._config.items()}
        self.groups = frozenset[str]().union(*(license.groups for license in self._config.values()))
        store.library(lua.VERSION, lua.source())
        store.listen(self._on_event)
        self._alerts = PoolAlerts(clock)
        self._settling = Settling(self._settle)
        self._unserved = UnservedClaims(clock)
        self._reassert = asyncio.Event()
        self.is_active = asyncio.Event()
        self._is_configured = False  # whether the store has the settings file's terms
        self._history: dict[str, bytes] = {}  # license -> id of the server's history, from the last reply
        self._clock_warned: dict[str, float] = {}

    async def claim(self, license: str, claimant: Claimant, document: str, *, reference: str) -> Lease:
        """Claims a CAL for the claimant and document. Raises NoCal or Unavailable."""
        if self._is_exempt(license, claimant):
            return Lease(license, "exempt", claimant, document)
        if self._unserved.are_too_many(claimant):
            why = f"too many claims from {claimant.client} for documents that the document server does not serve"
            raise NoCal(why, license=license, document=document.rpartition("|")[2], pools=(), code="address-full")
        groups = "\n".join(sorted(self._groups(license, claimant)))
        belief = self._belief(self._known.of(license, claimant, document))
        who = (lua.part(claimant.user), claimant.name, lua.part(claimant.client))
        asked = (*who, document, groups, reference, *belief, network_of(claimant))
        reply = await self._call("claim", license, *asked, lasting=_is_lasting)
        if reply[0] == b"granted":
            lease = _lease(license, claimant, document, reply, self._clock())
            self._known.note(lease)
            self._alerts.note_grant(license, lease.kind, *reply[5:7])
            if isinstance(reply[-1], int) and len(reply) > 7:  # versions 1 and 2 do not return it
                lease = replace(lease, waited=reply[-1] / 1000)
            return replace(lease, reference=reference) if lease.provisional else lease
        if not self._config[license].enforce:
            return Lease(license, "unenforced", claimant, document)
        raise _denial(license, claimant, document, self.licenses[license].contact, reply)

    async def held(self, license: str, claimant: Claimant, document: str) -> Lease | None:
        """Returns what the claimant holds for the document; takes nothing and notes no use."""
        if self._is_exempt(license, claimant):
            return Lease(license, "exempt", claimant, document)
        whose = (lua.part(claimant.user), lua.part(claimant.client), document)
        reply = await self._store.call(f"{lua.VERSION}_holds", self._keys[license], whose, read_only=True)
        if reply[0] == b"none":
            return None if self._config[license].enforce else Lease(license, "unenforced", claimant, document)
        return _lease(license, claimant, document, reply, self._clock())

    async def settle(self, lease: Lease, *, served: bool | None) -> None:
        """Ends the provisional state of a lease, unless the response was inconclusive."""
        if not lease.provisional:
            return
        if served is False:
            self._known.forget(lease)
            self._unserved.note(lease.claimant)
        code = "" if served is None else str(int(served))
        settled = (_kind(lease), *_whose(lease), lease.id, lease.reference, code)
        is_lasting = code != "" and _kind(lease) != "session"
        await self._settling.settle(Outcome(lease.license, settled, is_lasting))

    async def _settle(self, license: str, outcomes: Sequence[Outcome]) -> None:
        is_lasting = any(outcome.is_lasting for outcome in outcomes)
        if len(outcomes) == 1:
            await self._call("settle", license, *outcomes[0].args, lasting=lambda _: is_lasting)
            return
        batch = json.dumps([outcome.args for outcome in outcomes])
        await self._call("settle_all", license, batch, lasting=lambda _: is_lasting)

    async def touch(self, activity: Sequence[Activity]) -> Sequence[Lost]:
        """Reports uses, and returns the leases that are lost."""
        by_license: dict[str, list[Activity]] = defaultdict(list)
        for use in activity:
            if use.lease.id and use.lease.license in self._keys:  # an exempt user has a lease without id
                by_license[use.lease.license].append(use)
        lost: list[Lost] = []
        for license, uses in by_license.items():
            batch = json.dumps([self._item(use) for use in uses])
            reply = await self._call("touch", license, batch)
            pairs = zip(reply[::2], reply[1::2], strict=True)
            reasons = {index - 1: reason.decode() for index, reason in pairs}
            for index, use in enumerate(uses):
                if index in reasons:
                    lost.append(Lost(use.lease, reasons[index]))
                    self._known.forget(use.lease)
                else:
                    self._known.note(use.lease, use.at)
        return lost

    async def release(self, license: str, claimant: Claimant) -> Released:
        """Signs the claimant out: the Session CAL comes back when its minimum is over. Raises Unavailable."""
        self._known.release(license, claimant)
        reply = await self._call("release", license, lua.part(claimant.user), lua.part(claimant.client))
        kind, ends = reply if isinstance(reply, list) else (b"", 0)  # versions 1 and 2 reply with a number
        return Released(license, kind.decode(), ends / 1000 if ends else None)

    async def pools(self, license: str) -> Sequence[Pool]:
        """Returns how full each pool is, also in an empty store."""
        reply = await self._call("state", license, read_only=True)
        return [
            Pool(pool.kind, pool.limit, pool.occupied, pool.free_at, anonymous=pool.anonymous)
            for pool in replies.state(reply).pools
        ]

    async def waiting(self, license: str) -> int:
        """Returns how many users wait in the queue."""
        return replies.state(await self._call("state", license, read_only=True)).waiting

    async def configure(self) -> None:
        """Stores the settings file's terms. Raises Unavailable."""
        for license in self._config:
            await self._configure(license)
        self._is_configured = True

    async def activate(self) -> None:
        """Stores the settings file's terms; if the store is away, `tend` does when it responds again."""
        self._is_configured = False
        with contextlib.suppress(Unavailable):
            await self.configure()
        self.is_active.set()

    async def tend(self, every: float) -> None:
        """Ends what is due, offers what came free, reasserts leases after a failover; runs until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reassert.wait(), every)
            try:
                if not self._is_configured:
                    await self.configure()
                if self._reassert.is_set():
                    await self._reassert_all()
                    self._reassert.clear()
                for license in self._config:
                    await self._tend(license)
            except Unavailable:  # the event channel has logged it
                await asyncio.sleep(1)
                continue
            longest = max((license.session.idle_timeout for license in self._config.values()), default=0.0)
            self._known.drop_older_than(longest)

    async def _tend(self, license: str) -> None:
        reply = await self._call("tend", license, _SWEPT_AT_ONCE)
        history, ahead = reply
        if self._history.setdefault(license, history) != history:  # a failover that no reconnection showed
            await self._reassert_all()
            self._history[license] = history
        if ahead > _CLOCK_IS_WRONG:
            self._warn_of_clock(license, ahead / 1000)

    def _warn_of_clock(self, license: str, ahead: float) -> None:
        if self._clock() < self._clock_warned.get(license, 0.0) + _WARN_EVERY:
            return
        self._clock_warned[license] = self._clock()
        logger.warning(
            "license %s: the newest record is %.0f s ahead of the store's clock, which was wrong then or is wrong now;"
            " set the clock of the store's machine, then run `calgate cals clock --license %s`",
            *(license, ahead, license),
        )

    async def _reassert_all(self) -> None:
        """After a failover the store may have forgotten leases; touching them gives them back to their holders."""
        known = self._known.all()
        for start in range(0, len(known), 500):
            await self.touch([Activity(each.lease, each.used) for each in known[start : start + 500]])

    def _on_event(self, event: Event) -> None:
        if event.topic == "store-back":
            self._reassert.set()

    def _is_exempt(self, license: str, claimant: Claimant) -> bool:
        return not claimant.is_anonymous and is_named(self.licenses[license].exempt_users, claimant)

    def _groups(self, license: str, claimant: Claimant) -> frozenset[str]:
        settings = self._config[license]
        capped = {terms.group_of_one(name) for name in settings.capped_users if is_named({name}, claimant)}
        return (claimant.groups & settings.groups) | capped

    def _item(self, use: Activity) -> list[str | int]:
        lease, who = use.lease, use.lease.claimant
        groups = "\n".join(sorted(self._groups(lease.license, who)))
        user, client, document = _whose(lease)
        known = self._known.same(lease)
        confirmed = self._age(known.confirmed) if known and lease.kind != "unenforced" else _NEVER
        whose = (user, who.name, client, document, groups, network_of(who))
        return [_kind(lease), lease.id, self._age(use.at), confirmed, *whose]

    def _belief(self, known: KnownLease | None) -> Sequence[str | int]:
        """Returns the arguments of a claim about a known lease: no holder is denied a lease that a failover forgot."""
        if known is None:
            return "", "", "", ""
        return known.lease.kind, known.lease.id, self._age(known.used), self._age(known.confirmed)

    def _age(self, at: float) -> int:
        """Returns milliseconds before now: the store counts them back from its own clock."""
        return max(0, round((self._clock() - at) * 1000))

    async def _call(
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
        # an empty store: new, or after the loss of everything
        if isinstance(reply, list) and reply[:1] == [b"unconfigured"]:
            await self._configure(license)
            reply = await call()
        return reply

    async def _configure(self, license: str) -> None:
        text = terms.encode(self._config[license], self._store)
        await self._store.call(f"{lua.VERSION}_configure", self._keys[license], (self._actor, text))
        await LicenseRegister(self._store).add(license)


def _is_lasting(reply: Sequence[Any]) -> bool:
    """Returns whether a grant must never be lost; a Session CAL can be reasserted by its holder's gateway."""
    return bool(reply[0] == b"granted" and reply[1] not in (b"session", b"unenforced"))


def _kind(lease: Lease) -> str:
    """Returns the kind as the store has it: in observe mode, a lease beyond the limit is a Session CAL."""
    return "session" if lease.kind == "unenforced" else lease.kind


def _whose(lease: Lease) -> tuple[str, str, str]:
    return lua.part(lease.claimant.user), lua.part(lease.claimant.client), lease.document


def _time(milliseconds: bytes) -> float | None:
    return float(milliseconds) / 1000 if milliseconds else None


def _lease(license: str, claimant: Claimant, document: str, reply: Sequence[Any], now: float) -> Lease:
    _, kind, lease_id, provisional, good_for, *_ = reply
    until = now + float(good_for) / 1000 if good_for else None
    return Lease(license, kind.decode(), claimant, document, lease_id.decode(), bool(provisional), until)


def _denial(license: str, claimant: Claimant, document: str, contact: str, reply: Sequence[Any]) -> NoCal:
    _, code, pools, place, estimate, *is_poll = reply  # versions 1 and 2 do not distinguish polls from other denials
    full = [_pool(item) for item in json.loads(pools)]
    detail = ", ".join(f"{pool.kind} {pool.occupied}/{pool.limit} {pool.note}" for pool in full)
    if claimant.is_anonymous:
        plain, code_of_note = document.rpartition("|")[2], denial_code(full)
        return NoCal(detail, license=license, document=plain, pools=(), code=code_of_note)
    return NoCal(
        detail or "the license has no CALs",
        license=license,
        document=document.rpartition("|")[2],
        pools=full,
        contact=contact,
        place=int(place) or None,
        estimate=_time(estimate),
        is_poll=is_poll == [1],
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
